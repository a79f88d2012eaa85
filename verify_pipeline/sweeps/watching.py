"""Who is told how a sweep or a tuning goes, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Sequence


class JobWatcher:
    """Is told what happens; this one does nothing with it."""

    def planned(self, total: int, done: int, jobs: int) -> None:
        """So many runs are wanted, of which some are done; so many go at once."""

    def started(self, name: str) -> None:
        """A run's process was started."""

    def ended(self, name: str, error: str | None, seconds: float, note: str = "") -> None:
        """A run's process ended; the error is the last line of its log, None: all is done."""

    def expected(self, left: int, seconds: float) -> None:
        """So many runs are left, which take about so many seconds."""

    def noted(self, line: str) -> None:
        """Something that a reader of the results has to know."""


def seconds_left(done: Sequence[float], left: int, jobs: int) -> float:
    """How long the runs that are left take, about: the mean of those done, side by side.

    Args:
        done: seconds of each run that was done, at least one.
        left: runs that are not done.
        jobs: runs at once.
    """
    return sum(done) / len(done) * left / min(jobs, max(left, 1))
