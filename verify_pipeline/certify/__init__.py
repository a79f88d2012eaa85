"""Certification: stages from cheap to strong over all open images, and the ledger of verdicts."""

from verify_pipeline.certify.contract import Observer, Observers, Stage, Subject, Task
from verify_pipeline.certify.instances import RobustImages
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.recheck import Rechecked, recheck
from verify_pipeline.certify.records import Record, Run, RunInfo
from verify_pipeline.certify.run import certify_set
from verify_pipeline.certify.settings import ALL_STAGES, CertifySettings
from verify_pipeline.certify.tally import Summary, Tally, summaries

__all__ = [
    "ALL_STAGES",
    "CertifySettings",
    "Ledger",
    "Observer",
    "Observers",
    "Rechecked",
    "Record",
    "RobustImages",
    "Run",
    "RunInfo",
    "Stage",
    "Subject",
    "Summary",
    "Tally",
    "Task",
    "certify_set",
    "recheck",
    "summaries",
]
