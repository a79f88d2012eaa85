"""Networks that settings describe: new ones, and trained ones from a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import ConfigError, TrainingError
from verify_pipeline.network import zoo
from verify_pipeline.network.zoo.layers import Normalise
from verify_pipeline.training import checkpoint, own_network
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
        network, loss = self.settings.network.label, self.settings.loss.name
        words = f"{network} by {loss} on {self.settings.data.full_name}"
        return f"Trained({words}, epochs: {len(self.metrics)})"


def fresh_network(settings: NetworkSettings, info: DataSetInfo) -> nn.Module:
    """The network for a data set's images, with weights from torch's global generator.

    Raises:
        ConfigError: the settings name no network, an unknown one, or a file that makes none.
    """
    if settings.file is not None and settings.factory is not None:
        module = own_network.build(Path(settings.file), settings.factory, settings.arguments)
        if not settings.normalise or _is_identity(info):
            return module
        return nn.Sequential(Normalise(info.mean, info.std), module).train()
    if settings.name is None:
        raise ConfigError(
            "train.network", expected="name or file, or a module beside the settings", got="none"
        )
    return zoo.build(
        settings.name,
        info.shape,
        info.classes,
        info.mean,
        info.std,
        settings.width,
        settings.batch_norm,
    )


def _check_file(found: checkpoint.Checkpoint, settings: NetworkSettings, folder: Path) -> None:
    """Refuse a network's file that is not the one of the training."""
    if settings.file is None:
        return
    now, then = own_network.digest(Path(settings.file)), found.state.get("network_file")
    if now != then:
        raise TrainingError(
            f"network file {settings.file}",
            expected=f"as it was when the training in {folder} began, SHA-256 {str(then)[:16]}…",
            got=f"another content, {now[:16]}…",
            remedy="Put the file back as it was.",
        )


def _is_identity(info: DataSetInfo) -> bool:
    """Whether normalisation would change nothing."""
    return all(m == 0 for m in info.mean) and all(s == 1 for s in info.std)


def restore(
    folder: Path, info: DataSetInfo | None = None, module: nn.Module | None = None
) -> Trained:
    """Load a finished training from its folder onto the CPU, without its validation images.

    Args:
        folder: of the training.
        info: of its images; None: as the checkpoint has it, or, in one of an older version, of the
            data set that its settings name.
        module: of the trained one's structure, which gets the weights; needed if a module was
            given to the training.

    Raises:
        TrainingError: there is no training, it is not finished, or its checkpoint is damaged or of
            another network.
        ConfigError: the network's file is missing or makes no network.
    """
    found = restore_so_far(folder, info, module)
    epochs = found.settings.optimiser.epochs
    if len(found.metrics) < epochs:
        raise TrainingError(
            f"training in {folder}",
            expected=f"{epochs} epochs",
            got=f"{len(found.metrics)}",
            remedy="Finish it: the command that began it continues it.",
        )
    return found


def restore_so_far(
    folder: Path, info: DataSetInfo | None = None, module: nn.Module | None = None
) -> Trained:
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
    if module is None:
        _check_file(found, settings.network, folder)
        module = fresh_network(settings.network, info)
    checkpoint.load_weights(found, module, folder)
    return Trained(module.eval(), found.progress.metrics, settings, None, info)
