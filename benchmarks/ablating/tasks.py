"""Tasks done in this process: what of them was decided, and the processor time that it took."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from against.answers import WORDS, name_of
from against.tasks import Job

from ablating.mechanisms import MECHANISMS, Mechanism, counted
from verify_pipeline import api
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.certify.settings import ALL_STAGES, CertifySettings, plan
from verify_pipeline.interop.sets import SetJob, run_set

DECIDED = ("verified", "falsified")


@dataclass(frozen=True)
class Done:
    """A task that was done.

    Attributes:
        seconds: of the processor.
        wall: seconds.
        answers: instance -> what is known of it.
        parts: dotted names of the functions of mechanisms that were called; empty: not counted.
    """

    seconds: float
    wall: float
    answers: dict[str, str]
    parts: tuple[str, ...]

    @property
    def decided(self) -> int:
        """How many instances."""
        return sum(answer in DECIDED for answer in self.answers.values())


def do(job: Job, without: Mechanism | None, count: bool) -> Done:
    """Do a task.

    Args:
        job: the task.
        without: the mechanism that is off; None: all are on.
        count: whether the parts that mechanisms have in it are looked at.
    """
    calls: dict[str, int] = {}
    with ExitStack() as stack:
        if count:
            for mechanism in MECHANISMS:
                stack.enter_context(counted(mechanism.part, calls))
        if without is not None:
            stack.enter_context(without.off())
        answers = _of_images if job.data else _of_list
        wall, seconds = time.monotonic(), time.process_time()
        found = answers(job, _settings(job, without))
        seconds, wall = time.process_time() - seconds, time.monotonic() - wall
    return Done(seconds, wall, found, tuple(sorted(calls)))


def _settings(job: Job, without: Mechanism | None) -> CertifySettings:
    search, stages = SearchSettings(), ALL_STAGES
    if without is not None:
        search = search if without.search is None else without.search(search)
        stages = tuple(name for name in ALL_STAGES if name != without.stage)
    # a box of a property has its own width
    epsilon = float(Fraction(job.epsilon)) if job.data else 0.0
    indices = job.indices if job.data else ":"
    return CertifySettings(
        epsilon=epsilon, stages=stages, search=search, timeout=job.timeout, indices=indices
    )


def _of_images(job: Job, settings: CertifySettings) -> dict[str, str]:
    images, _ = job.images()
    summary = api.certify(job.source, images, settings, device=job.device)
    return {str(record.index): record.status.value.lower() for record in summary.records}


def _of_list(job: Job, settings: CertifySettings) -> dict[str, str]:
    lines = job.lines()
    with tempfile.TemporaryDirectory() as folder:
        asked = SetJob(
            Path(folder) / "results.csv",
            None,
            lambda seconds: plan(replace(settings, timeout=seconds)),
            job.timeout,
            job.device,
        )
        found = run_set(lines, asked)
    return {name_of(one): WORDS[found[one.key].answer] for one in lines}
