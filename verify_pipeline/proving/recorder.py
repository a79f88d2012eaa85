"""Proofs of a run's VERIFIED images, one file an image, made after the verdicts.

A proof is made anew from the box, with bounds that the checker accepts, so that nothing slows the
search. Files appear whole or not at all; those that are there are kept, so that the same command
continues a recording that was stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import torch

from verify_checker import Refused as CheckerRefuses
from verify_checker import Rejected, check, read_network, read_proof
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify.contract import Certifiable
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.records import Record
from verify_pipeline.certify.run import ask_settings
from verify_pipeline.certify.settings import CertifySettings, plan
from verify_pipeline.certify.tally import Summary
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import ConfigError
from verify_pipeline.network.outputs import beginning
from verify_pipeline.onnx import load_network
from verify_pipeline.problem import Status
from verify_pipeline.proving.image import Prover, ProverSettings
from verify_pipeline.proving.proof_file import write_proof
from verify_pipeline.proving.results import REAL_ONLY
from verify_pipeline.proving.root import ProofClaim, Unproved

SUFFIX = ".proof"


@dataclass(frozen=True)
class Recorded:
    """What became of one VERIFIED image.

    Attributes:
        index: the image's place in its data set.
        bytes: of its proof; 0: there is none.
        reason: why there is none.
        seconds: that the recording took; 0 where the proof was there already.
    """

    index: int
    bytes: int
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Recording:
    """What became of a run's VERIFIED images.

    Attributes:
        folder: of the proofs.
        images: what became of each.
        real_only: whether the verdicts claim more than proofs show, see :data:`REAL_ONLY`.
    """

    folder: Path
    images: tuple[Recorded, ...] = field(default=())
    real_only: bool = False

    @property
    def summary(self) -> str:
        """One line on the proofs, and one for each reason of those that are missing."""
        made = [image for image in self.images if image.bytes]
        size = sum(image.bytes for image in made) / max(len(made), 1)
        seconds = sum(image.seconds for image in self.images)
        lines = [
            f"proofs: {len(made)} of {len(self.images)} verdicts, {size:,.0f} bytes each, "
            f"recorded in {seconds:.1f} s: {self.folder}"
        ]
        lines += [f"proofs are {REAL_ONLY}"] if self.real_only else []
        reasons = Counter(image.reason for image in self.images if image.reason)
        lines += [f"no proof of {n}: {reason}" for reason, n in reasons.most_common()]
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class RecordingJob:
    """Everything that a process needs to record proofs of a run."""

    network: Certifiable
    images: ImageSet | BoxSet
    settings: CertifySettings
    question: Question
    summary: Summary
    folder: Path
    device: str = "cpu"

    @property
    def place(self) -> Path:
        """The folder of the run's proofs: its key's digest."""
        run = self.summary.info.run
        text = "\n".join((run.network, run.data_set, run.split, run.perturbation))
        text += f"\n{run.specification}\n{run.settings}"
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:16]

    def path(self, record: Record) -> Path:
        """The file of an image's proof; another image at the same index has another file."""
        return self.place / f"{record.index:06d}-{record.instance[:8]}{SUFFIX}"


def record_proofs(
    job: RecordingJob, jobs: int = 1, told: Callable[[Recorded], None] | None = None
) -> Recording:
    """Write a proof of each VERIFIED image that has none.

    Args:
        job: the run.
        jobs: processes.
        told: is called for each image.

    Raises:
        ConfigError: the run's question or network is none that proofs are about.
        DataError: the folder cannot be written.
    """
    data = _network_file(job)
    write_whole(job.folder / f"{job.network.digest[:16]}.onnx", data)
    verified = [r for r in job.summary.records if r.status is Status.VERIFIED]
    there = {r.index: job.path(r).stat().st_size for r in verified if job.path(r).is_file()}
    missing = [record for record in verified if record.index not in there]
    found = {index: Recorded(index, size) for index, size in there.items()}
    for recorded in _made(job, missing, jobs):
        found[recorded.index] = recorded
        if told is not None:
            told(recorded)
    images = tuple(found[index] for index in sorted(found))
    return Recording(job.folder, images, bool(job.summary.info.arithmetic))


def _network_file(job: RecordingJob) -> bytes:
    """The bytes of the network's file.

    Raises:
        ConfigError: it has none of its own, or is not what proofs are about.
    """
    run = job.summary.info.run
    path = job.network.path
    data = b"" if path is None else path.read_bytes()
    if not data or hashlib.sha256(data).hexdigest() != run.network:
        raise ConfigError(
            "--proofs",
            expected="a network in one ONNX file",
            got="a network in memory, or with weights in other files",
            remedy="Export it as one file.",
        )
    asked = ask_settings(job.network, job.images, job.settings, job.question)
    if asked.preprocessing:
        raise ConfigError(
            "--proofs",
            expected="a question about the file's own inputs",
            got=f"preprocessing: {asked.preprocessing}",
            remedy="Put it into the network's file: proofs are about that file alone.",
        )
    return data


def _made(job: RecordingJob, missing: Sequence[Record], jobs: int) -> Iterator[Recorded]:
    if jobs == 1 or len(missing) < 2:
        if missing:
            recorder = _Recorder(job)
            yield from (recorder.record(record) for record in missing)
        return
    parts = [missing[n::jobs] for n in range(min(jobs, len(missing)))]
    portable = _Portable.of(job)
    with ProcessPoolExecutor(len(parts), get_context("spawn")) as pool:
        for found in pool.map(_record_part, [portable] * len(parts), parts):
            yield from found


@dataclass(frozen=True, eq=False)
class _Portable:
    """A job without what cannot be sent to another process."""

    path: Path
    images: ImageSet | BoxSet
    settings: CertifySettings
    question: Question
    summary: Summary
    folder: Path

    @staticmethod
    def of(job: RecordingJob) -> _Portable:
        assert job.network.path is not None
        known = (job.images, job.settings, job.question, job.summary, job.folder)
        return _Portable(job.network.path, *known)

    def job(self) -> RecordingJob:
        network = load_network(self.path, check_parity=False)
        known = (self.images, self.settings, self.question, self.summary, self.folder)
        return RecordingJob(network, *known)


def _record_part(portable: _Portable, records: Sequence[Record]) -> list[Recorded]:
    """What one of several processes records."""
    torch.set_num_threads(1)
    recorder = _Recorder(portable.job())
    return [recorder.record(record) for record in records]


class _Recorder:
    """Makes proofs of a run, one by one."""

    def __init__(self, job: RecordingJob) -> None:
        self._job = job
        self._asked = ask_settings(job.network, job.images, job.settings, job.question)
        self._refused = ""
        assert job.network.path is not None
        try:
            network = read_network(job.network.path.read_bytes())
            settings = ProverSettings.of(plan(job.settings))
            graph = self._asked.network.graph
            begun = beginning(graph) if self._asked.compares else None
            self._prover = Prover(network, graph if begun is None else begun.graph, settings)
        except CheckerRefuses as error:
            self._refused = f"the checker refuses the network: {error}"

    def record(self, record: Record) -> Recorded:
        """Make an image's proof, check it, and write it."""
        began = time.perf_counter()
        try:
            if self._refused:
                raise Unproved(self._refused)
            data = write_proof(self._prover.proof(self._claim(record)))
            check(read_proof(data), self._prover.network)
        except (Unproved, CheckerRefuses, Rejected) as error:
            return Recorded(record.index, 0, str(error), time.perf_counter() - began)
        except Exception as error:  # other images may still have a proof
            reason = f"{type(error).__name__}: {error}"[:200]
            return Recorded(record.index, 0, reason, time.perf_counter() - began)
        write_whole(self._job.path(record), data)
        return Recorded(record.index, len(data), seconds=time.perf_counter() - began)

    def _claim(self, record: Record) -> ProofClaim:
        batch = self._asked.instances.batch([record.index])
        if batch.spec.spare:
            raise Unproved("rows of the specification may fail")
        run = self._job.summary.info.run
        about: dict[str, object] = {
            "network": run.network,
            "data_set": run.data_set,
            "split": run.split,
            "index": record.index,
            "label": record.label,
            "perturbation": run.perturbation,
            "specification": run.specification,
            "instance": record.instance,
            "stage": record.stage,
        }
        return ProofClaim(
            about,
            batch.box.lower[0].flatten().double().numpy(),
            batch.box.upper[0].flatten().double().numpy(),
            batch.spec.rows[0].double().numpy(),
            batch.spec.offsets[0].double().numpy(),
        )
