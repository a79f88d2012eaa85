"""Trainings that start from another one's weights, optimiser or whole state."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from verify_pipeline.errors import ConfigError, TrainingError
from verify_pipeline.training import checkpoint
from verify_pipeline.training.checkpoint import STATE, Checkpoint, Parts, naming_damage
from verify_pipeline.training.identity import Ancestor, Identity, Lineage
from verify_pipeline.training.kept_checkpoints import best_checkpoint, kept_checkpoint, read_kept
from verify_pipeline.training.loop_settings import StartSettings
from verify_pipeline.training.settings import TrainSettings
from verify_pipeline.training.weights import different_weights, first_few


@dataclass(frozen=True, eq=False)
class Parent:
    """What a training starts from.

    Attributes:
        path: of the file.
        sha256: of its content.
        weights: of its network, by name.
        checkpoint: whose file it is; None: the file holds weights only.
    """

    path: Path
    sha256: str
    weights: dict[str, Tensor]
    checkpoint: Checkpoint | None

    def lineage(self, take: str) -> Lineage:
        """Of a training that takes this of it."""
        found = self.checkpoint
        own = Ancestor(self.sha256, None if found is None else found.progress.epoch, take)
        return (own, *(() if found is None else found.lineage))


def read_parent(start: StartSettings, folder: Path | None) -> Parent | None:
    """What settings say a training starts from; None: nothing, or nothing that is still needed.

    Args:
        start: of the training.
        folder: of the training; one that was begun there does without a file that is gone.

    Raises:
        TrainingError: the file is missing or damaged, the parent is unfinished, or does not keep
            the epoch.
        ConfigError: settings ask for more than the file holds.
    """
    if start.weights is None:
        return None
    path = Path(start.weights)
    if not path.exists():
        if folder is not None and (folder / STATE).exists():
            return None
        raise TrainingError(
            f"start.weights {path}",
            expected="the folder of a run, or a .safetensors file",
            got="no such file",
        )
    found = _of_folder(path, start) if path.is_dir() else _of_file(path, start.epoch)
    if found.checkpoint is None and start.take != "weights":
        raise ConfigError(
            f"train.start.take: {start.take}",
            expected="the checkpoint of a training",
            got=f"{found.path}, which holds weights only",
        )
    _check_finite(found)
    return found


def _of_folder(folder: Path, start: StartSettings) -> Parent:
    current, epoch = checkpoint.read(folder), start.epoch
    if current is None:
        raise TrainingError(
            f"start.weights {folder}", expected="a folder with a training's checkpoint", got="none"
        )
    if epoch is not None and epoch != current.progress.epoch:
        return _parent(*kept_checkpoint(folder, epoch))
    epochs = current.settings["optimiser"]["epochs"]
    if epoch is None and not current.progress.finished(epochs):
        raise TrainingError(
            f"start.weights {folder}",
            expected=f"a finished training, of {epochs} epochs",
            got=f"{current.progress.epoch} epochs",
            remedy="Finish it, or name an epoch that it keeps with train.start.epoch.",
        )
    is_best = current.settings.get("keep", {}).get("network") == "best"
    if epoch is None and start.take == "weights" and is_best:
        return _parent(*best_checkpoint(folder))
    return _parent(folder / current.state["tensors"], current)


def _of_file(path: Path, epoch: int | None) -> Parent:
    if epoch is not None:
        raise ConfigError(
            "train.start.epoch", expected="none beside a file", got=f"{epoch} and {path}"
        )
    found = read_kept(path)
    if found is None and (path.parent / STATE).exists():
        beside = checkpoint.read(path.parent)
        if beside is not None and beside.state["tensors"] == path.name:
            found = beside
    return _parent(path, found)


def _parent(path: Path, found: Checkpoint | None) -> Parent:
    with naming_damage(path):
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        weights = load_file(path) if found is None else found.weights
    return Parent(path, sha, weights, found)


def _check_finite(parent: Parent) -> None:
    wrong = [name for name, value in parent.weights.items() if not torch.isfinite(value).all()]
    if wrong:
        raise TrainingError(
            f"start.weights {parent.path}",
            expected="finite numbers",
            got=f"NaN or infinity in {first_few(wrong)}",
        )


class StartFromParent:
    """Puts what a parent has into a new training.

    Args:
        settings: of the new training.
        parent: what it starts from.
    """

    def __init__(self, settings: TrainSettings, parent: Parent) -> None:
        self._settings, self._parent = settings, parent

    def _check(self, identity: Identity) -> None:
        """Refuse what would not fit, or measure on images that the parent has learned."""
        found = self._parent.checkpoint
        if found is None:
            return
        take = self._settings.start.take
        other_images = found.state.get("images") != identity.images
        if take == "training" and other_images:
            raise self._wrong("the training images of the parent", "others", "start.take")
        if self._settings.data.validation and self._is_same_set(found, identity) and other_images:
            raise self._wrong(
                "the parent's data.validation and seed, so that it has not learned held-out images",
                f"{self._settings.data.validation} and seed {self._settings.seed}",
                "data.validation",
            )
        if take == "weights":
            return
        name = found.settings["optimiser"].get("name", "adam")
        if name != self._settings.optimiser.name:
            raise self._wrong(f"the parent's, {name}", self._settings.optimiser.name, "optimiser")
        epochs = self._settings.optimiser.epochs
        if take == "training" and found.progress.epoch >= epochs:
            raise self._wrong(
                f"more than the parent's {found.progress.epoch} epochs",
                str(epochs),
                "optimiser.epochs",
            )
        every, best = self._settings.watch.every, self._settings.keep.best
        measured = epochs // every * every if every else 0
        if take == "training" and best and measured <= found.progress.epoch:
            raise self._wrong(
                f"an epoch after the parent's {found.progress.epoch} that is measured",
                f"{every} and {epochs} epochs",
                "watch.every",
            )

    def _is_same_set(self, found: Checkpoint, identity: Identity) -> bool:
        """Whether the parent's data set is called alike; own ones may be called by their files."""
        name = self._settings.data.name
        if name is None:
            name = identity.info["name"]
        theirs = found.settings["data"]["name"]
        if theirs is None:
            theirs = (found.state.get("info") or {}).get("name")
        return bool(name == theirs)

    def into(self, parts: Parts, identity: Identity) -> checkpoint.TrainingProgress:
        """Load it; returns where the new training stands.

        Args:
            parts: of the new training.
            identity: of the new training.

        Raises:
            TrainingError: the network, the images, the optimiser or the epochs do not fit.
        """
        self._check(identity)
        found, take = self._parent.checkpoint, self._settings.start.take
        if found is None or take == "weights":
            self._load(parts.module, self._parent.weights)
            return checkpoint.TrainingProgress(0, [])
        self._load(parts.module, found.part("module"))
        if take == "optimiser":
            checkpoint.restore_optimiser(found, parts.optimiser)
            return checkpoint.TrainingProgress(0, [])
        average = self._settings.average
        if average.kind and found.progress.epoch >= average.start and not found.part("average"):
            raise self._wrong(
                f"an average from epoch {found.progress.epoch + 1} on, as the parent has none",
                str(average.start),
                "average.start",
            )
        checkpoint.restore(self._parent.path, found, parts)
        return checkpoint.TrainingProgress(found.progress.epoch, list(found.progress.metrics))

    def _load(self, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
        different = different_weights(weights, module.state_dict())
        if different:
            network = self._settings.network.label
            raise self._wrong(f"the tensors of {network}", different, "start.weights")
        module.load_state_dict(dict(weights))

    def _wrong(self, expected: str, got: str, key: str) -> TrainingError:
        return TrainingError(
            f"train.{key} of a training from {self._parent.path}", expected=expected, got=got
        )
