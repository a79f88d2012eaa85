"""The parts of the benchmark, in the order in which they are run, and their shares of the time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accelerating.certification import certification
from accelerating.cuda_tests import cuda_tests
from accelerating.environment import environment
from accelerating.job import Job, Record
from accelerating.step_times import step_times, variant_times
from accelerating.training import training


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        run: does it, and keeps what it finds.
        share: of the time that is left, against the shares of the parts behind it.
    """

    run: Callable[[Job, Record], None]
    share: float


PARTS = {
    "environment": Part(environment, 0.04),
    "tests": Part(cuda_tests, 0.10),
    "steps": Part(step_times, 0.24),
    "training": Part(training, 0.34),
    "certification": Part(certification, 0.18),
    "variants": Part(variant_times, 0.10),
}
"""By name. Compilers and graphs come last: they fail most easily."""


def limit(name: str, chosen: list[str], left: float) -> float:
    """Seconds for a part: what earlier ones did not use goes to those behind.

    Args:
        name: of the part.
        chosen: the parts that are run.
        left: seconds for this one and those behind it.
    """
    behind = chosen[chosen.index(name) :]
    return left * PARTS[name].share / sum(PARTS[each].share for each in behind)
