"""Observers of a training: progress bars, files, TensorBoard. The loop itself prints nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from verify_pipeline.errors import DependencyError


class TrainObserver(Protocol):
    """Is told of steps and epochs; it must not change the training."""

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Epoch ``epoch`` (counted from 1) of ``epochs`` begins, with ``steps`` steps."""

    def step_done(self, step: int, loss: float) -> None:
        """Step ``step`` (counted from 1 in its epoch) had this loss."""

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """An epoch is done; its metrics by name."""


class Silent:
    """The observer that does nothing."""

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Nothing."""

    def step_done(self, step: int, loss: float) -> None:
        """Nothing."""

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """Nothing."""


class TensorBoard(Silent):
    """Writes each epoch's metrics for TensorBoard.

    Raises:
        DependencyError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise DependencyError(
                "tensorboard is not installed",
                remedy="Install it with: pip install 'verify_pipeline[tensorboard]'",
            ) from error
        self._folder = folder
        self._make = SummaryWriter
        self._writer: SummaryWriter | None = None

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """One scalar per number; the epoch is the step."""
        if self._writer is None:  # creating one creates its folder, which is not needed before
            self._writer = self._make(str(self._folder))
        for name, value in metrics.items():
            if isinstance(value, int | float) and name != "epoch":
                self._writer.add_scalar(name, value, metrics["epoch"])
        self._writer.flush()


class Several:
    """Forwards every call to several observers, in order."""

    def __init__(self, *observers: TrainObserver) -> None:
        self._observers = observers

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """To each."""
        for observer in self._observers:
            observer.epoch_started(epoch, epochs, steps)

    def step_done(self, step: int, loss: float) -> None:
        """To each."""
        for observer in self._observers:
            observer.step_done(step, loss)

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """To each."""
        for observer in self._observers:
            observer.epoch_done(metrics)
