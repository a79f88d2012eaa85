"""Networks that settings describe: new ones, and trained ones from a folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from torch import nn

from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.errors import ConfigError, TrainingError
from verify_pipeline.network import zoo
from verify_pipeline.network.zoo.layers import Normalise
from verify_pipeline.training import checkpoint, own_network
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
        info: of its images.
        epoch: that the network is of; None: unknown.
        lineage: what the training started from; empty: fresh weights.
    """

    module: nn.Module
    metrics: list[dict[str, Any]]
    settings: TrainSettings
    validation: ImageSet | None
    info: DataSetInfo
    epoch: int | None = None
    lineage: Lineage = ()

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


def _check_file(found: Checkpoint, settings: NetworkSettings, folder: Path) -> None:
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
    folder: Path | str,
    info: DataSetInfo | None = None,
    module: nn.Module | None = None,
    *,
    epoch: int | Literal["last", "best"] | None = None,
    network_file: Path | None = None,
) -> Trained:
    """Load a finished training from its folder onto the CPU, without its validation images.

    Args:
        folder: of the training.
        info: of its images; None: as the checkpoint has it, or, in one of an older version, of the
            data set that its settings name.
        module: of the trained one's structure, which gets the weights; needed if a module was
            given to the training.
        epoch: whose network is loaded: one whose checkpoint is kept, of an unfinished training
            too; the ``last``, or the ``best`` so far; None: what ``keep.network`` says.
        network_file: where the network's file is now, if it has moved; None: where it was.

    Raises:
        TrainingError: there is no training, it is not finished, it does not keep this epoch, or its
            checkpoint is damaged or of another network.
        ConfigError: the network's file is missing or makes no network.
    """
    folder = Path(folder)
    current = _current(folder)
    last, epochs = current.progress, current.settings["optimiser"]["epochs"]
    if isinstance(epoch, int):
        found = current if epoch == last.epoch else kept_checkpoint(folder, epoch)[1]
        return _trained(folder, found, info, module, network_file)
    if not last.finished(epochs):
        raise TrainingError(
            f"training in {folder}",
            expected=f"{epochs} epochs",
            got=f"{last.epoch}",
            remedy="Finish it: the command that began it continues it.",
        )
    chosen = epoch or current.settings.get("keep", {}).get("network", "last")
    found = current if chosen == "last" else best_checkpoint(folder)[1]
    return _trained(folder, found, info, module, network_file)


def restore_so_far(
    folder: Path, info: DataSetInfo | None = None, module: nn.Module | None = None
) -> Trained:
    """Load a training as its last checkpoint has it, see :func:`restore`.

    Raises:
        TrainingError: there is no training, or its checkpoint is damaged.
    """
    return _trained(folder, _current(folder), info, module)


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


def _trained(
    folder: Path,
    found: Checkpoint,
    info: DataSetInfo | None,
    module: nn.Module | None,
    network_file: Path | None = None,
) -> Trained:
    try:
        settings = TypeAdapter(TrainSettings).validate_python(found.settings)
    except ValidationError as error:
        raise TrainingError(
            f"checkpoint {folder}", expected="settings of this version", got=str(error)
        ) from None
    if network_file is not None and settings.network.file is not None:
        settings = replace(settings, network=replace(settings.network, file=str(network_file)))
    info = info or found.info or settings.data.information()
    if module is None:
        _check_file(found, settings.network, folder)
        module = fresh_network(settings.network, info)
    checkpoint.load_weights(found, module, folder)
    progress = found.progress
    return Trained(
        module.eval(), progress.metrics, settings, None, info, progress.epoch, found.lineage
    )
