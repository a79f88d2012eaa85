"""What a certification will cost: the same checks, a sample of its open images, and no file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from verify_pipeline.certify.certifier import Certifier
from verify_pipeline.certify.hand_out import Ready
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.local_workers import hired
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.records import Record, RunInfo
from verify_pipeline.certify.run import ask_settings
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.certify.worker import WorkerJob
from verify_pipeline.conversions import NetworkLike, choose_device, network_of
from verify_pipeline.data import BoxSet, ImageSet
from verify_pipeline.errors import ConfigError
from verify_pipeline.planning.estimates import (
    ExpectedShare,
    MeanRange,
    WorkersEstimate,
    expected_shares,
    mean_range,
    unseen_share,
    workers_estimates,
)
from verify_pipeline.planning.machine import Capacity, room_beside
from verify_pipeline.planning.sampling import Measured, StoppingClock, Tell, measure
from verify_pipeline.reporting.certification_state import outcome
from verify_pipeline.reporting.json_lines import run_fields

WORKERS = (1, 2, 4, 8, 16, 64)
"""Numbers of workers that a forecast is made for."""

MEASURE = 60.0
"""Seconds of measurement if nothing else is said."""


@dataclass(frozen=True, eq=False)
class Conditions:
    """What limits a certification.

    Attributes:
        timeout: seconds for each image.
        batch: bytes that a batch may take, about, as the settings say.
        ledger: where verdicts are written; None: nowhere.
        room: free bytes there.
        machine: that was measured on.
        jobs: processes of this machine that are to certify at once.
        start: seconds until a worker takes images; None: not known.
    """

    timeout: float
    batch: int
    ledger: Path | None
    room: int | None
    machine: Capacity
    jobs: int
    start: float | None


@dataclass(frozen=True, eq=False)
class CertificationForecast:
    """What a certification will cost.

    Attributes:
        info: the run that its verdicts belong to.
        asked: images that verdicts are asked for.
        known: of these, images that need no more work, by outcome.
        measured: a sample of the others; None: there are none.
        conditions: what limits it.
    """

    info: RunInfo
    asked: int
    known: Mapping[str, int]
    measured: Measured | None
    conditions: Conditions

    @property
    def left(self) -> int:
        """Images that need work."""
        return self.asked - sum(self.known.values())

    @property
    def mean(self) -> MeanRange | None:
        """Seconds of an image; None: none was measured."""
        return None if self.measured is None else mean_range(self.measured.costs)

    @cached_property
    def workers(self) -> tuple[WorkersEstimate, ...]:
        """How long workers take, each of them a process like this one on a machine like this."""
        if self.measured is None:
            return ()
        counts = sorted({*WORKERS, self.conditions.jobs})
        start = self.conditions.start or 0.0
        return workers_estimates(self.measured.costs, self.left, counts, start)

    @property
    def unseen(self) -> tuple[float, float] | None:
        """The share of images harder than all that were measured, and seconds that these may add.

        Both are upper limits at 95 %. None: none can be harder, or all were measured.
        """
        if self.measured is None or self.left == len(self.measured.images):
            return None
        if max(cost.high for cost in self.measured.costs) >= self.conditions.timeout:
            return None
        share = unseen_share(len(self.measured.images))
        others = self.left - len(self.measured.images)
        return share, share * others * self.conditions.timeout

    @property
    def shares(self) -> dict[str, ExpectedShare]:
        """What will become of all images that were asked for."""
        if self.measured is None:
            return expected_shares(self.known, {}, 0, 0)
        sample = Counter(outcome(verdict) for verdict in self.measured.verdicts)
        others = self.left - len(self.measured.images)
        return expected_shares(self.known, sample, self.measured.open, others)

    @property
    def allowed(self) -> int:
        """Bytes of a process whose batches take what the settings allow, about."""
        if self.measured is None:
            return self.conditions.batch
        return max(self.measured.peak, self.measured.held + self.conditions.batch)

    @property
    def disk(self) -> int:
        """Bytes that the ledger grows by, about."""
        return 0 if self.measured is None else round(self.measured.row * self.left)

    def fields(self) -> dict[str, Any]:
        """For programs; docs/watching.md says what each is."""
        conditions = self.conditions
        return {
            **run_fields(self.info),
            "images": self.asked,
            "done": sum(self.known.values()),
            "left": self.left,
            "timeout": conditions.timeout,
            "ledger": None if conditions.ledger is None else str(conditions.ledger),
            "ledger_bytes": self.disk,
            "ledger_room": conditions.room,
            "start": conditions.start,
            **self._of_sample(),
            "workers": [
                {
                    "workers": each.workers,
                    "seconds_at_least": each.seconds.low,
                    "seconds_at_most": each.seconds.high,
                    "efficiency": each.efficiency,
                    "limit": each.limit,
                }
                for each in self.workers
            ],
            "shares": {
                name: {"low": each.low, "expected": each.expected, "high": each.high}
                for name, each in self.shares.items()
            },
            "memory": self._of_memory(),
        }

    def _of_sample(self) -> dict[str, Any]:
        if self.measured is None:
            return {"measured": 0}
        share, seconds = self.unseen or (None, None)
        return {
            "measured": len(self.measured.images),
            "measured_open": self.measured.open,
            "measured_seconds": self.measured.seconds,
            "image_seconds": _fields_of(self.mean),
            "stage_seconds": {
                name: sum(costs) / len(costs) for name, costs in self.measured.stages.items()
            },
            "harder_share_at_most": share,
            "harder_seconds_at_most": seconds,
        }

    def _of_memory(self) -> dict[str, Any]:
        machine, measured = self.conditions.machine, self.measured
        return {
            "process": None if measured is None else measured.peak,
            "before": None if measured is None else measured.held,
            "accelerator": None if measured is None else measured.accelerator,
            "allowed": self.allowed,
            "machine": machine.memory,
            "free": machine.free,
            "fit": None if measured is None else machine.fits(measured.peak),
            "fit_allowed": machine.fits(self.allowed),
            "cores": machine.cores,
            "threads": machine.threads,
        }


def forecast(
    network: NetworkLike,
    images: ImageSet | BoxSet,
    settings: CertifySettings,
    *,
    question: Question | None = None,
    ledger: Path | None = None,
    device: str = "auto",
    seconds: float = MEASURE,
    jobs: int = 1,
    tell: Tell = lambda images, seconds: None,
) -> CertificationForecast:
    """Say what :func:`pipeline.certify` would cost with the same arguments.

    Everything is checked that it checks. No file is created or changed.

    Args:
        network: that is certified.
        images: of which ``settings.indices`` are certified; or boxes.
        settings: of the certification.
        question: what is asked of each image; None: that it keeps its class.
        ledger: what it holds already is not measured; None: verdicts are not kept.
        device: where bounds and attacks are computed.
        seconds: of measurement, about.
        jobs: processes of this machine that are to certify at once.
        tell: after each round of measuring.

    Raises:
        VerifyPipelineError: as :func:`pipeline.certify`.
    """
    _check(settings, seconds, jobs)
    place, clock, question = choose_device(device), StoppingClock(), question or Question()
    network = network_of(network, images.shape)
    asked = ask_settings(network, images, settings, question)
    room = None if ledger is None else room_beside(ledger)
    with Ledger.snapshot(ledger) if ledger and ledger.exists() else nullcontext() as book:
        certifier = Certifier.of(network, images, asked, settings, place, clock)
        instances, timeout = asked.instances, certifier.plan.timeout
        digests = {index: instances.digest(index) for index in instances.indices}
        records: list[Record] = []
        open_ = list(instances.indices)
        if book is not None:
            run = certifier.info.run
            open_ = book.open_indices(run, digests, timeout, settings.retry)
            records = book.records(run)
    known = _known(records, digests, set(open_))
    start = measured = None
    if open_:
        job = None
        if network.path is not None:
            job = WorkerJob.of(network, images, settings, question, str(place))
        start = None if job is None else start_seconds(job)
        measured = measure(certifier, instances, open_, seconds, clock, tell)
    made = Conditions(timeout, certifier.plan.memory, ledger, room, Capacity.this(), jobs, start)
    return CertificationForecast(certifier.info, len(digests), known, measured, made)


def start_seconds(job: WorkerJob) -> float | None:
    """Seconds until a worker of this machine takes images; None: it could not be started."""
    began = time.perf_counter()
    with hired(job, 1) as crew:
        crew.start(0)
        (event,) = [event for _, event in crew.events()][:1]
        return time.perf_counter() - began if isinstance(event, Ready) else None


def _check(settings: CertifySettings, seconds: float, jobs: int) -> None:
    if not 0 < seconds < float("inf"):
        raise ConfigError("--measure", expected="seconds > 0", got=str(seconds))
    if jobs < 1:
        raise ConfigError("--jobs", expected="at least 1", got=str(jobs))
    if "abcrown" in settings.stages:
        raise ConfigError(
            "--dry-run",
            expected="stages of this package",
            got="the stage abcrown",
            remedy="What α,β-CROWN takes cannot be measured. Leave it out to plan the built-in "
            "search.",
        )


def _known(records: list[Record], digests: Mapping[int, str], open_: set[int]) -> dict[str, int]:
    """Images that need no more work, by outcome."""
    done = {
        record.index: record
        for record in records
        if digests.get(record.index) == record.instance and record.index not in open_
    }
    return dict(Counter(outcome(record) for record in done.values()))


def _fields_of(mean: MeanRange | None) -> dict[str, float | None] | None:
    return None if mean is None else {"mean": mean.mean, "low": mean.low, "high": mean.high}
