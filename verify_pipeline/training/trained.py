"""Networks that settings describe: new ones, and trained ones from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from torch import nn

from verify_pipeline import data
from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import TrainingError
from verify_pipeline.network import zoo
from verify_pipeline.training import checkpoint
from verify_pipeline.training.checkpoint import Checkpoint
from verify_pipeline.training.identity import Lineage
from verify_pipeline.training.kept_checkpoints import best_checkpoint, kept_checkpoint
from verify_pipeline.training.settings import NetworkSettings, TrainSettings


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of a training.

    Attributes:
        module: the network, in eval mode.
        metrics: one row per epoch: losses, accuracies, ε, α, seconds.
        settings: it was trained with.
        validation: the held-out images, if there were any.
        epoch: that the network is of; None: unknown.
        lineage: what the training started from; empty: fresh weights.
    """

    module: nn.Module
    metrics: list[dict[str, Any]]
    settings: TrainSettings
    validation: ImageSet | None
    epoch: int | None = None
    lineage: Lineage = ()

    def __repr__(self) -> str:
        network, loss = self.settings.network.name, self.settings.loss.name
        words = f"{network} by {loss} on {self.settings.data.full_name}"
        return f"Trained({words}, epochs: {len(self.metrics)})"


def fresh_network(settings: NetworkSettings, info: DataSetInfo) -> nn.Module:
    """The network for a data set's images, with weights from torch's global generator."""
    return zoo.build(
        settings.name,
        info.shape,
        info.classes,
        info.mean,
        info.std,
        settings.width,
        settings.batch_norm,
    )


def restore(
    folder: Path,
    info: DataSetInfo | None = None,
    epoch: int | Literal["last", "best"] | None = None,
) -> Trained:
    """Load a finished training from its folder onto the CPU, without its validation images.

    Args:
        folder: of the training.
        info: of its images; None: of the data set that its settings name.
        epoch: whose network is loaded: one whose checkpoint is kept, of an unfinished training
            too; the ``last``, or the ``best`` so far; None: what ``keep.network`` says.

    Raises:
        TrainingError: there is no training, it is not finished, it does not keep this epoch, or its
            checkpoint is damaged.
    """
    current = _current(folder)
    last, epochs = current.progress, current.settings["optimiser"]["epochs"]
    if isinstance(epoch, int):
        found = current if epoch == last.epoch else kept_checkpoint(folder, epoch)[1]
        return _trained(folder, found, info)
    if not last.finished(epochs):
        raise TrainingError(
            f"training in {folder}",
            expected=f"{epochs} epochs",
            got=f"{last.epoch}",
            remedy="Finish it: the command that began it continues it.",
        )
    chosen = epoch or current.settings.get("keep", {}).get("network", "last")
    return _trained(folder, current if chosen == "last" else best_checkpoint(folder)[1], info)


def restore_so_far(folder: Path, info: DataSetInfo | None = None) -> Trained:
    """Load a training as its last checkpoint has it, see :func:`restore`.

    Raises:
        TrainingError: there is no training, or its checkpoint is damaged.
    """
    return _trained(folder, _current(folder), info)


def _current(folder: Path) -> Checkpoint:
    found = checkpoint.read(folder)
    if found is None:
        raise TrainingError(
            f"folder {folder}",
            expected="a training's checkpoint",
            got="none",
            remedy="Train first: verify-pipeline train RECIPE --out FOLDER.",
        )
    return found


def _trained(folder: Path, found: Checkpoint, info: DataSetInfo | None) -> Trained:
    try:
        settings = TypeAdapter(TrainSettings).validate_python(found.settings)
    except ValidationError as error:
        raise TrainingError(
            f"checkpoint {folder}", expected="settings of this version", got=str(error)
        ) from None
    module = fresh_network(settings.network, info or data.info(settings.data.full_name))
    try:
        module.load_state_dict(found.weights)
    except RuntimeError as error:
        raise TrainingError(
            f"checkpoint {folder}", expected="the weights of its network", got=str(error)
        ) from None
    progress = found.progress
    return Trained(module.eval(), progress.metrics, settings, None, progress.epoch, found.lineage)
