"""Networks that settings describe: new ones, and trained ones from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import TrainingError
from verify_pipeline.network import zoo
from verify_pipeline.training import checkpoint
from verify_pipeline.training.settings import NetworkSettings, TrainSettings


@dataclass(frozen=True, eq=False)
class Trained:
    """The result of a training.

    Attributes:
        module: the network, in eval mode.
        metrics: one row per epoch: losses, accuracies, ε, α, seconds.
        settings: it was trained with.
        validation: the held-out images, if there were any.
        info: of its images.
    """

    module: nn.Module
    metrics: list[dict[str, Any]]
    settings: TrainSettings
    validation: ImageSet | None
    info: DataSetInfo

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


def restore(folder: Path, info: DataSetInfo | None = None) -> Trained:
    """Load a finished training from its folder onto the CPU, without its validation images.

    Args:
        folder: of the training.
        info: of its images; None: as the checkpoint has it, or, in one of an older version, of the
            data set that its settings name.

    Raises:
        TrainingError: there is no training, it is not finished, or its checkpoint is damaged.
    """
    found = restore_so_far(folder, info)
    epochs = found.settings.optimiser.epochs
    if len(found.metrics) < epochs:
        raise TrainingError(
            f"training in {folder}",
            expected=f"{epochs} epochs",
            got=f"{len(found.metrics)}",
            remedy="Finish it: the command that began it continues it.",
        )
    return found


def restore_so_far(folder: Path, info: DataSetInfo | None = None) -> Trained:
    """Load a training as its last checkpoint has it, see :func:`restore`.

    Raises:
        TrainingError: there is no training, or its checkpoint is damaged.
    """
    found = checkpoint.read(folder)
    if found is None:
        raise TrainingError(
            f"folder {folder}",
            expected="a training's checkpoint",
            got="none",
            remedy="Train first: verify-pipeline train RECIPE --out FOLDER.",
        )
    try:
        settings = TypeAdapter(TrainSettings).validate_python(found.settings)
    except ValidationError as error:
        raise TrainingError(
            f"checkpoint {folder}", expected="settings of this version", got=str(error)
        ) from None
    info = info or found.info or settings.data.information()
    module = fresh_network(settings.network, info)
    try:
        module.load_state_dict(found.weights)
    except RuntimeError as error:
        raise TrainingError(
            f"checkpoint {folder}", expected="the weights of its network", got=str(error)
        ) from None
    return Trained(module.eval(), found.progress.metrics, settings, None, info)
