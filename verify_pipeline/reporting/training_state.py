"""How far a training is, its rate, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from verify_pipeline.reporting.durations import TimeRange, pace

LINE = 80
"""Columns that an epoch's line fits."""

SECOND = 1.0
"""Seconds of steps before which no rate is told."""


class TrainingState:
    """Keeps count of a training; displays and files read it.

    While ε = 0 an epoch may take a fraction of the seconds of a later one, which computes bounds.
    The time left is then a lower limit.

    Args:
        clock: seconds from some origin.

    Attributes:
        epoch: that runs, or ran last, counted from 1; 0: none has begun.
        epochs: of the whole training.
        steps: of an epoch.
        step: steps of the epoch that are done.
        loss: of the last step.
        metrics: of the last epoch that is done; empty: none.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.epoch = self.epochs = self.steps = self.step = 0
        self.loss = 0.0
        self.metrics: dict[str, Any] = {}
        self._began = self._first = clock()
        self._measured = (0, 0.0)
        self._warming_up = True

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Begin an epoch."""
        self.epoch, self.epochs, self.steps, self.step = epoch, epochs, steps, 0
        self._began = self._clock()

    def step_done(self, step: int, loss: float) -> None:
        """Count a step."""
        self.step, self.loss = step, loss
        if step == 1:
            self._first = self._clock()

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """Measure the epoch, with its validation and its checkpoint."""
        warming_up = not metrics.get("epsilon")
        count, seconds = self._measured if warming_up is self._warming_up else (0, 0.0)
        self._measured = count + 1, seconds + self._clock() - self._began
        self._warming_up, self.metrics = warming_up, metrics

    @property
    def done(self) -> int:
        """Epochs that are done, of this and of earlier calls."""
        return int(self.metrics["epoch"]) if self.metrics else max(0, self.epoch - 1)

    @property
    def step_seconds(self) -> float | None:
        """Mean of the epoch's steps; without the first, which does what is done only once.

        None before two steps and a second have passed: less says little.
        """
        passed = self._clock() - self._first
        return passed / (self.step - 1) if self.step > 1 and passed >= SECOND else None

    @property
    def rate(self) -> str:
        """Steps a second, or slower, of the epoch that runs; empty: not known yet."""
        each = self.step_seconds
        return pace(1, each, "steps") if each else ""

    def left(self) -> TimeRange | None:
        """Seconds of the whole training that are left; None: not known yet."""
        running = self.done < self.epoch
        passed = self._clock() - self._began if running else 0.0
        count, seconds = self._measured
        each = seconds / count if count else self.step_seconds
        if each is None:
            return None
        if not count:
            each *= self.steps
        left = max(0.0, each - passed) if running else 0.0
        left += each * (self.epochs - self.epoch)
        return TimeRange(left) if self._warming_up and left else TimeRange(left, left)

    def pace_and_left(self) -> list[str]:
        """The rate and the time that is left, as far as they are known."""
        left = self.left()
        told = [self.rate, "" if left is None else f"{left.text} left"]
        return [text for text in told if text]


def epoch_line(metrics: dict[str, Any], epochs: int) -> str:
    """One line of an epoch, of at most 80 columns.

    Accuracies on training images: clean, under the attack, and by interval bounds; then the loss,
    ε at the end of the epoch, and seconds. What the loss does not measure is left out.
    """
    parts = [f"epoch {metrics['epoch']:>{len(str(epochs))}}/{epochs}"]
    for name, word in (("clean", "clean"), ("adversarial", "adv"), ("verified", "ibp")):
        if f"train_{name}" in metrics:
            parts.append(f"{word} {100 * metrics[f'train_{name}']:4.1f}%")
    if "train_loss" in metrics:
        parts.append(f"loss {metrics['train_loss']:<6.4g}")
    if "epsilon" in metrics:
        parts.append(f"ε {metrics['epsilon']:<7.3g}")
    if "seconds" in metrics:
        seconds = metrics["seconds"]
        parts.append(f"{seconds:.1f} s" if seconds < 100 else f"{seconds:.0f} s")
    line = "  ".join(parts).rstrip()
    return line if len(line) <= LINE else " ".join(part.strip() for part in parts)


VALIDATION = {
    "validation": {
        "validation_standard": "clean",
        "validation_adversarial": "adv",
        "validation_ibp": "ibp",
    },
    "certified": {"cascade_standard": "clean", "cascade_verified": "verified"},
}
"""What is measured on validation images, by line: metrics and what they are called."""


def validation_lines(metrics: dict[str, Any]) -> list[str]:
    """What was measured on validation images, of at most 80 columns each."""
    lines = []
    for title, words in VALIDATION.items():
        parts = [
            f"{word} {100 * metrics[key]:.1f}%" for key, word in words.items() if key in metrics
        ]
        if parts:
            lines.append(f"  {title}:  {'  '.join(parts)}")
    return lines
