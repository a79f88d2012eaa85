"""A training's progress: a bar on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn

from verify_pipeline.reporting.progress_lines import MINUTE
from verify_pipeline.reporting.training_state import TrainingState, epoch_line, validation_lines


class Bar:
    """A progress bar that disappears at the end; only its notes stay on the terminal.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = rich.progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=max(4, min(40, console.width - 70))),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, note="")

    def stop(self) -> None:
        """Remove the bar."""
        self._progress.stop()

    def begin(self, description: str, total: int) -> None:
        """Replace the bar by a new one."""
        self._progress.reset(self._task, description=description, total=total, note="")
        self._progress.start()  # draws at once

    def show(self, description: str, done: int, note: str) -> None:
        """Change the texts beside the bar, and how far it is."""
        self._progress.update(self._task, description=description, completed=done, note=note)

    def note(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, markup=False, soft_wrap=True)


class TrainProgress(TrainingState):
    """Shows a training: a bar of its steps with rate and time left, a line for each epoch."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._bar = bar

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Start the epoch's bar."""
        super().epoch_started(epoch, epochs, steps)
        self._bar.begin(f"epoch {epoch}/{epochs}", steps)

    def step_done(self, step: int, loss: float) -> None:
        """Advance the bar; show the loss, the rate, and the time left of the whole training."""
        super().step_done(step, loss)
        note = ", ".join(self.pace_and_left())
        self._bar.show(f"epoch {self.epoch}/{self.epochs}  loss {loss:.4f}", step, note)

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """Print the epoch's metrics."""
        super().epoch_done(metrics)
        for line in (epoch_line(metrics, self.epochs), *validation_lines(metrics)):
            self._bar.note(line)


class TrainLines(TrainingState):
    """Tells a training in lines: one for each epoch, and one a minute within a long epoch.

    Args:
        tell: gets each line.
        clock: seconds from some origin.
    """

    def __init__(
        self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(clock)
        self._give = tell
        self._last = clock()
        self._estimated = False

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Tell which epochs are done already, if there are any."""
        if not self.epoch and epoch > 1:
            self._tell(f"{epoch - 1} of {epochs} epochs are done already.")
        super().epoch_started(epoch, epochs, steps)

    def step_done(self, step: int, loss: float) -> None:
        """After the first steps, tell what the whole training may take."""
        super().step_done(step, loss)
        left = None if self._estimated else self.left()
        if left is not None:
            self._estimated = True
            epochs = self.epochs - self.epoch + 1
            self._tell(f"expected: {left.text} for {epochs} epochs")

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """Tell the epoch's metrics."""
        super().epoch_done(metrics)
        for line in (epoch_line(metrics, self.epochs), *validation_lines(metrics)):
            self._tell(line)

    def tick(self) -> None:
        """Tell how far it is if nothing was told for a minute."""
        if not self.step or self.done >= self.epoch or self._clock() - self._last < MINUTE:
            return
        where = f"epoch {self.epoch}/{self.epochs}: step {self.step:,} of {self.steps:,}"
        self._tell(", ".join([where, f"loss {self.loss:.4g}", *self.pace_and_left()]))

    def _tell(self, line: str) -> None:
        self._last = self._clock()
        self._give(line)
