"""How a sweep or a tuning goes, a line for each thing that happens, on standard error."""

from __future__ import annotations

import typer

from verify_pipeline.reporting.durations import duration
from verify_pipeline.sweeps.watching import JobWatcher


class JobLines(JobWatcher):
    """Prints what it is told.

    Args:
        what: the runs are called, in the plural.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def planned(self, total: int, done: int, jobs: int) -> None:
        """How many there are."""
        left = f"{total - done} to do" if done else "none is done yet"
        _tell(f"{total} {self._what}, {left}, {jobs} at once")

    def started(self, name: str) -> None:
        """A run begins."""
        _tell(f"started  {name}")

    def ended(self, name: str, error: str | None, seconds: float, note: str = "") -> None:
        """A run ended."""
        said = f"; {note}" if note else ""
        if error is None:
            _tell(f"done     {name}  {duration(seconds)}{said}")
        else:
            _tell(f"failed   {name}  {duration(seconds)}; {error}")

    def expected(self, left: int, seconds: float) -> None:
        """How long the rest takes."""
        _tell(f"         {left} left, about {duration(seconds)}")

    def noted(self, line: str) -> None:
        """A remark."""
        _tell(f"note: {line}")


def _tell(line: str) -> None:
    typer.echo(line, err=True)
