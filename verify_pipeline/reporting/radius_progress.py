"""The progress of a search for radii on a terminal: one bar for each round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TaskID as BarId

from verify_pipeline.certify.contract import Observer, Observers
from verify_pipeline.problem import Status, Verdict


class RadiusProgress(Observer):
    """Counts the verdicts of each round beside its bar, and names the stage that is at work.

    Args:
        display: where the bars are.
    """

    def __init__(self, display: Progress) -> None:
        self._display = display
        self._rounds = 0
        self._counts = dict.fromkeys(Status, 0)
        self._stage = ""
        self._bar: BarId | None = None

    def started(self, images: int, decided: int) -> None:
        """Begin the bar of a round: its images are those whose interval is still open."""
        self._rounds += 1
        self._counts = dict.fromkeys(Status, 0)
        self._display.start()
        name = f"round {self._rounds}"
        self._bar = self._display.add_task(name, total=images, completed=decided, note="")

    def stage_started(self, stage: str, images: int) -> None:
        """Name the stage beside the bar."""
        self._stage = stage
        self._show()

    def decided(self, index: int, verdict: Verdict) -> None:
        """Count the verdict, and move the bar on."""
        self._counts[verdict.status] += 1
        self._show(advance=1)

    def finished(self) -> None:
        """Stop the round's bar."""
        self._stage = ""
        self._show()
        if self._bar is not None:
            self._display.stop_task(self._bar)

    def _show(self, advance: int = 0) -> None:
        if self._bar is None:
            return
        words = [f"{count} {status.value}" for status, count in self._counts.items() if count]
        if self._stage:
            words.append(self._stage)
        self._display.update(self._bar, advance=advance, note=", ".join(words))


@contextmanager
def watched_radius(progress: bool, observer: Observer | None = None) -> Iterator[Observer]:
    """The observer of a search for radii; with progress, bars on standard error, told after it.

    Args:
        progress: whether there are bars.
        observer: the caller's own, if there is one.
    """
    own = observer or Observer()
    if not progress:
        yield own
        return
    display = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True, highlight=False),
    )
    try:
        yield Observers([own, RadiusProgress(display)])
    finally:
        if display.tasks:  # stopping bars that never started would print an empty line
            display.stop()
