"""A training's progress: a bar on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

from typing import Any

import rich.progress
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    """A progress bar that disappears at the end; only its notes stay on the terminal.

    Where the console is neither a terminal nor a notebook nothing moves: only :meth:`note` is seen.
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
            disable=not (console.is_terminal or console.is_jupyter),
        )
        self._task = self._progress.add_task("", total=None)

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()

    def begin(self, description: str, total: int) -> None:
        """Replace the bar by a new one."""
        self._progress.start()
        self._progress.reset(self._task, description=description, total=total)

    def describe(self, description: str) -> None:
        """Change the text beside the bar."""
        self._progress.update(self._task, description=description)

    def advance(self, by: int = 1) -> None:
        """Advance the bar by some steps."""
        self._progress.advance(self._task, by)

    def note(self, line: str) -> None:
        """Print a line that stays."""
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
        """Advance the bar and show the loss."""
        self._bar.describe(f"{self._label}  loss {loss:.4f}")
        self._bar.advance()

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """Print the epoch's metrics."""
        shown = "  ".join(
            f"{_short(name)} {value:.4g}"
            for name, value in metrics.items()
            if name != "epoch" and isinstance(value, int | float)
        )
        self._bar.note(f"epoch {metrics['epoch']}/{self._epochs}  {shown}")


def _short(name: str) -> str:
    return name.removeprefix("train_")
