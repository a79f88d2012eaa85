"""Checkpoints that stay in a training's folder: each one whole in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import safe_open
from safetensors.torch import load_file

from verify_pipeline import strict_json
from verify_pipeline.errors import TrainingError
from verify_pipeline.training.checkpoint import (
    Checkpoint,
    Parts,
    checkpoint_of,
    naming_damage,
    write_tensors,
)

Kind = Literal["kept", "best"]
"""Of every so many epochs; of the best epoch so far."""

STATE_KEY = "state"
"""Under which a file's head has what ``checkpoint.json`` says."""


def kept_path(folder: Path, kind: Kind, epoch: int) -> Path:
    """The file of one epoch's checkpoint."""
    return folder / f"{kind}-epoch-{epoch:04d}.safetensors"


def kept_epochs(folder: Path, kind: Kind) -> dict[int, Path]:
    """The files of a folder by epoch, in order."""
    paths = sorted(folder.glob(f"{kind}-epoch-*.safetensors"))
    return {int(path.stem.rpartition("-")[2]): path for path in paths}


def write_kept(path: Path, parts: Parts, state: Mapping[str, Any]) -> None:
    """Write a checkpoint into a file of its own.

    Args:
        path: from :func:`kept_path`.
        parts: whose state is kept.
        state: from ``checkpoint.state_of``.

    Raises:
        TrainingError: the folder cannot be written.
    """
    write_tensors(parts.tensors(), path, {STATE_KEY: json.dumps(state)})


def read_kept(path: Path) -> Checkpoint | None:
    """The checkpoint in a .safetensors file; None if it holds tensors only.

    Raises:
        TrainingError: the file is damaged.
    """
    with naming_damage(path):
        with safe_open(path, "pt") as file:
            head = file.metadata() or {}
        if STATE_KEY not in head:
            return None
        return checkpoint_of(dict(strict_json.parse(head[STATE_KEY])), load_file(path))


def kept_checkpoint(folder: Path, epoch: int) -> tuple[Path, Checkpoint]:
    """The file of one epoch in a training's folder, and its checkpoint.

    Raises:
        TrainingError: the folder does not keep this epoch, or the file is damaged.
    """
    paths = kept_epochs(folder, "best") | kept_epochs(folder, "kept")
    found = read_kept(paths[epoch]) if epoch in paths else None
    if found is None:
        known = ", ".join(map(str, sorted(paths))) or "none"
        raise TrainingError(
            f"epoch {epoch} of the training in {folder}",
            expected=f"an epoch whose checkpoint is kept there: {known}",
            got=str(epoch),
            remedy="keep.every and keep.best say which are kept.",
        )
    return paths[epoch], found


def best_checkpoint(folder: Path) -> tuple[Path, Checkpoint]:
    """The file of the best epoch so far in a training's folder, and its checkpoint.

    Raises:
        TrainingError: the folder keeps none, or the file is damaged.
    """
    epochs = kept_epochs(folder, "best")
    if not epochs:
        raise TrainingError(
            f"best epoch of the training in {folder}",
            expected="a checkpoint that is kept",
            got="none",
            remedy="keep.best names the metric that an epoch is best in.",
        )
    return kept_checkpoint(folder, max(epochs))
