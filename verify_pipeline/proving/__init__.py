"""Proofs of verdicts for the checker, made after a verdict from bounds that it accepts."""

from verify_pipeline.proving.recorder import Recorded, Recording, RecordingJob, record_proofs

__all__ = ["Recorded", "Recording", "RecordingJob", "record_proofs"]
