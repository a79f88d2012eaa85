"""Keeps checkpoints of chosen epochs, and the network of the best one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from verify_pipeline.errors import TrainingError
from verify_pipeline.training.checkpoint import Parts
from verify_pipeline.training.kept_checkpoints import (
    kept_checkpoint,
    kept_epochs,
    kept_path,
    write_kept,
)
from verify_pipeline.training.loop_settings import KeepSettings
from verify_pipeline.training.selection import Rows, best_epoch


class Keeper:
    """Which epochs of a training stay.

    Files are written before the checkpoint that counts their epoch as done, and removed after it:
    a death in between costs nothing but a file that is written again.

    Args:
        settings: which epochs.
        folder: of the training; None: the best network is kept in memory only.
        first: the first epoch that can be the best.
    """

    def __init__(self, settings: KeepSettings, folder: Path | None, first: int) -> None:
        self._settings, self._folder, self._first = settings, folder, first
        self._weights: tuple[int, dict[str, Tensor]] | None = None

    def best(self, rows: Rows) -> int | None:
        """The best epoch so far."""
        return best_epoch(rows, self._settings.best, self._first)

    def remember(self, rows: Rows, weights: Mapping[str, Tensor]) -> None:
        """Remember the network's state if the last of these epochs is the best one."""
        epoch = rows[-1]["epoch"]
        if self._settings.network == "best" and self.best(rows) == epoch:
            self._weights = epoch, {key: value.clone() for key, value in weights.items()}

    def write(self, rows: Rows, parts: Parts, state: Mapping[str, Any]) -> None:
        """Write the files of the last of these epochs, if it stays."""
        if self._folder is None:
            return
        epoch, every = rows[-1]["epoch"], self._settings.every
        if every and epoch % every == 0:
            write_kept(kept_path(self._folder, "kept", epoch), parts, state)
        if self.best(rows) == epoch:
            write_kept(kept_path(self._folder, "best", epoch), parts, state)

    def tidy(self, rows: Rows) -> None:
        """Remove the files of epochs that are the best no more."""
        if self._folder is None or self._settings.best is None:
            return
        for epoch, path in kept_epochs(self._folder, "best").items():
            if epoch != self.best(rows):
                path.unlink()

    def best_weights(self, rows: Rows) -> dict[str, Tensor]:
        """The state of the best network: remembered, or else from its file.

        Raises:
            TrainingError: no epoch was measured, or the best one's file is missing or damaged.
        """
        best = self.best(rows)
        if self._weights is not None and self._weights[0] == best:
            return self._weights[1]
        if self._folder is None or best is None:
            raise TrainingError(
                f"keep.best: {self._settings.best}",
                expected=f"an epoch from {self._first} on that was measured",
                got="none",
            )
        return kept_checkpoint(self._folder, best)[1].weights
