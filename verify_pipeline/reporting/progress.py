"""A certification's progress on a terminal."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress import TaskID as BarId

from verify_pipeline.certify.contract import Observer
from verify_pipeline.problem import Status, Verdict


class ProgressBars(Observer):
    """A bar for each stage with the counts of its verdicts; use it as a context manager.

    Nothing is drawn before the first stage, so an earlier error leaves the terminal unchanged.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<17}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )
        self._bar: BarId | None = None
        self._counts: Counter[Status] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:  # stopping bars that never started would print an empty line
            self._progress.stop()

    def started(self, images: int, decided: int) -> None:
        """Print how many images are decided already, if there are any."""
        if decided:
            self._progress.console.print(f"{decided} of {images} images are decided already.")

    def stage_started(self, stage: str, images: int) -> None:
        """Begin the stage's bar."""
        self._progress.start()
        self._stop_bar()
        self._counts.clear()
        self._bar = self._progress.add_task(stage, total=images, note="")

    def decided(self, index: int, verdict: Verdict) -> None:
        """Count the verdict beside the bar."""
        self._counts[verdict.status] += 1
        if self._bar is not None:
            note = ", ".join(f"{self._counts[s]} {s.value}" for s in Status if self._counts[s])
            self._progress.update(self._bar, note=note)

    def looked_at(self, stage: str, images: int) -> None:
        """Move the bar on."""
        if self._bar is not None:
            self._progress.advance(self._bar, images)

    def finished(self) -> None:
        """Stop the last bar."""
        self._stop_bar()

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._progress.stop_task(self._bar)
