"""What a training is: its settings, its images, and the training that it started from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from verify_pipeline.data import DataSetInfo, ImageSet, deciding, is_own
from verify_pipeline.training import own_network
from verify_pipeline.training.settings import TrainSettings


@dataclass(frozen=True)
class Ancestor:
    """A checkpoint that a training started from.

    Attributes:
        sha256: of the file's content.
        epoch: of the checkpoint; None: unknown, as of plain weights.
        take: what was taken of it, as ``StartSettings`` has it.
    """

    sha256: str
    epoch: int | None
    take: str


Lineage = tuple[Ancestor, ...]
"""A training's parent, then the parent's own lineage; empty: it started from fresh weights."""


def lineage_of(state: Mapping[str, Any]) -> Lineage:
    """The lineage in a checkpoint's JSON; older versions wrote none."""
    return tuple(Ancestor(**each) for each in state.get("lineage", ()))


def inherited_epochs(lineage: Lineage) -> int:
    """Epochs that a training counts as its own but its parent has done."""
    if lineage and lineage[0].take == "training":
        return lineage[0].epoch or 0
    return 0


@dataclass(frozen=True)
class Identity:
    """What a checkpoint has to agree with to be continued.

    Attributes:
        settings: of the training, as JSON has them.
        images: a digest of the training images and labels.
        info: of the data set, as JSON has it. It is kept; what else of it than the number of
            classes decides the result is in the settings or in the images.
        network_file: SHA-256 of the file that makes the network; None: there is none.
        parent: SHA-256 of the checkpoint that the training starts from; None: there is none, or
            its file is gone.
    """

    settings: dict[str, Any]
    images: str
    info: dict[str, Any]
    network_file: str | None = None
    parent: str | None = None

    @staticmethod
    def of(
        settings: TrainSettings, images: ImageSet, info: DataSetInfo, parent: str | None = None
    ) -> Identity:
        """Of a training on these images.

        Raises:
            ConfigError: the network's file cannot be read.
        """
        # own images may be called by their folder, which may move
        named = replace(images, name="") if is_own(settings.data) else images
        file = settings.network.file
        made_by = None if file is None else own_network.digest(Path(file))
        return Identity(plain(settings), digest(named), _as_json(asdict(info)), made_by, parent)

    def differences(self, state: Mapping[str, Any]) -> list[str]:
        """Where a checkpoint's JSON is of another training: dotted paths, and ``images``.

        A setting that an older version did not have counts as its default.
        """
        found = _differences(_deciding(_completed(state["settings"])), _deciding(self.settings))
        found = [path for path in found if path != PARENT]  # its content counts, not its path
        lineage = lineage_of(state)
        is_child = self.settings["start"]["weights"] is not None
        if is_child != bool(lineage) or (self.parent and self.parent != lineage[0].sha256):
            found.append(PARENT)
        info = state.get("info")
        if info is not None and info["classes"] != self.info["classes"]:
            found.append("the number of classes")
        if state.get("network_file") != self.network_file:
            found.append("the content of train.network.file")
        return found + (["images"] if state.get("images") != self.images else [])


PARENT = "start.weights"


def digest(images: ImageSet) -> str:
    """SHA-256 of all labels and of about a thousand images, spread over the set."""
    sha = hashlib.sha256(f"{images.name} {images.split} {tuple(images.images.shape)}".encode())
    sha.update(images.labels.cpu().numpy().tobytes())
    sha.update(images.images[:: max(1, len(images) // 1000)].cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()


def plain(settings: TrainSettings) -> dict[str, Any]:
    """Settings in JSON's types: tuples become lists."""
    return _as_json(asdict(settings))


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(value)))


def _deciding(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide the result: files may have moved, their content is compared."""
    found = dict(settings)
    if isinstance(data := settings.get("data"), dict):
        found["data"] = deciding(data)
    if isinstance(network := settings.get("network"), dict):
        found["network"] = {key: value for key, value in network.items() if key != "file"}
    return found


def _completed(settings: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's settings with the defaults of those that it lacks."""
    try:
        return plain(TypeAdapter(TrainSettings).validate_python(settings))
    except ValidationError:
        return settings  # of another version: the differences will say where


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted paths at which two nested settings differ."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found.extend(_differences(a, b, f"{prefix}{key}."))
        elif a != b:
            found.append(prefix + key)
    return found
