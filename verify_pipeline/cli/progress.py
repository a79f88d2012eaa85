"""What the terminal shows while something runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import rich.progress
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from verify_pipeline.certify.contract import Observer, Observers
from verify_pipeline.reporting import ProgressBars
from verify_pipeline.training import TrainObserver


class ProgressDisplay:
    """A training's and a certification's progress on standard error, one after the other.

    Use it as a context: whatever happens, the terminal is as before at its end.

    Attributes:
        training: an observer of a training.
        certification: an observer of a certification.
    """

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self._bar = Bar(console)
        self._bars = ProgressBars(console)
        self.training: TrainObserver = TrainProgress(self._bar)
        self.certification: Observer = Observers([_Handover(self._bar), self._bars])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._bars.__exit__(kind, error, trace)


class _Handover(Observer):
    """Ends a training's bar before a certification's begin: a terminal shows one set at a time."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def started(self, images: int, decided: int) -> None:
        """Take the training's bar away."""
        self._bar.stop()


class Bar:
    """One progress bar that appears when something begins and leaves no trace but its notes.

    Where the console is no terminal nothing moves: only :meth:`note` is seen.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = rich.progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None)

    def stop(self) -> None:
        """Take the bar away."""
        self._progress.stop()

    def begin(self, description: str, total: int) -> None:
        """A new bar in the place of the old one."""
        self._progress.start()
        self._progress.reset(self._task, description=description, total=total)

    def describe(self, description: str) -> None:
        """Change the text beside the bar."""
        self._progress.update(self._task, description=description)

    def advance(self, by: int = 1) -> None:
        """So much more is done."""
        self._progress.advance(self._task, by)

    def note(self, line: str) -> None:
        """A line that stays."""
        self._console.print(line, markup=False, soft_wrap=True)


class TrainProgress:
    """Shows a training: a bar of its steps, one line for each epoch that is done."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._label = ""
        self._epochs = 0

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Start the epoch's bar."""
        self._label, self._epochs = f"epoch {epoch}/{epochs}", epochs
        self._bar.begin(self._label, steps)

    def step_done(self, step: int, loss: float) -> None:
        """Move it."""
        self._bar.describe(f"{self._label}  loss {loss:.4f}")
        self._bar.advance()

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """Leave the epoch's numbers."""
        shown = "  ".join(
            f"{_short(name)} {value:.4g}"
            for name, value in metrics.items()
            if name != "epoch" and isinstance(value, int | float)
        )
        self._bar.note(f"epoch {metrics['epoch']}/{self._epochs}  {shown}")


def _short(name: str) -> str:
    return name.removeprefix("train_")
