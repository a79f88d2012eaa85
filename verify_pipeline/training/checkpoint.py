"""Checkpoints: safetensors for tensors, JSON for the rest; written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from verify_pipeline import strict_json
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.data import DataSetInfo, deciding
from verify_pipeline.errors import DataError, TrainingError

TENSORS, STATE = "checkpoint.safetensors", "checkpoint.json"
METRICS = "metrics.csv"
"""Names of files in a training's folder."""


@dataclass(frozen=True, eq=False)
class TrainingProgress:
    """Where a training stands.

    Attributes:
        epoch: epochs done.
        metrics: one row per epoch done.
    """

    epoch: int
    metrics: list[dict[str, Any]]


@dataclass(frozen=True)
class Identity:
    """What a checkpoint has to agree with to be continued.

    Attributes:
        settings: of the training, as JSON has them.
        images: a digest of the training images and labels.
        info: of the data set, as JSON has it. It is kept with the checkpoint; what else of it than
            the number of classes decides the result is in the settings or in the images.
    """

    settings: dict[str, Any]
    images: str
    info: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint as it was read.

    Attributes:
        progress: where the training stands.
        settings: of the training, as JSON has them.
        tensors: by name: ``module.…``, ``optimiser.…``, ``generator.…``.
        state: the whole JSON file.
        info: of the data set; None in checkpoints of versions that did not keep it.
    """

    progress: TrainingProgress
    settings: dict[str, Any]
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    info: DataSetInfo | None

    @property
    def weights(self) -> dict[str, Tensor]:
        """The module's state, to be loaded into one."""
        return _part(self.tensors, "module")


def save(
    folder: Path,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    generators: dict[str, torch.Generator],
    progress: TrainingProgress,
    identity: Identity,
) -> None:
    """Write a checkpoint into ``folder``, in the place of the one before.

    The tensors' file carries the epoch in its name, and the JSON file, which is replaced last and
    in one move, says which one is current: a death at any moment leaves a whole checkpoint, and so
    does a full disk.

    Raises:
        TrainingError: the folder cannot be written; what stood there is as it was.
    """
    tensors = {f"module.{key}": value for key, value in module.state_dict().items()}
    scalars: dict[str, Any] = {}
    for index, state in optimiser.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{key}"] = value
            else:
                scalars[f"{index}.{key}"] = value
    tensors |= {f"generator.{name}": g.get_state() for name, g in generators.items()}
    name = f"epoch-{progress.epoch:04d}-{TENSORS}"
    _write_tensors(tensors, folder / name)
    state = {
        "tensors": name,
        "epoch": progress.epoch,
        "metrics": progress.metrics,
        "optimiser": scalars,
        "settings": identity.settings,
        "images": identity.images,
        "info": identity.info,
    }
    try:
        write_whole(folder / STATE, json.dumps(state, indent=1))
    except DataError as error:
        (folder / name).unlink()  # nothing says yet that it is current
        raise _unwritable(folder, error.got) from error
    for old in folder.glob(f"epoch-*-{TENSORS}*"):
        if old.name != name:
            old.unlink()


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write the file under another name and move it into place."""
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise _unwritable(path.parent, str(error)) from error
    finally:  # also where somebody stops the program
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _unwritable(folder: Path, reason: str | None) -> TrainingError:
    return TrainingError(
        f"checkpoint in {folder}",
        expected="a place that can be written, with room for it",
        got=reason,
        remedy="Make room, and give the same command: it goes on from the last checkpoint there.",
    )


def fitting(folder: Path, identity: Identity) -> Checkpoint | None:
    """The checkpoint in ``folder``; None if there is none.

    Raises:
        TrainingError: the checkpoint is damaged or belongs to other settings or images.
    """
    found = read(folder)
    if found is None:
        return None
    state = found.state
    different = _differences(_deciding(state["settings"]), _deciding(identity.settings))
    different += ["images"] if state.get("images") != identity.images else []
    if found.info is not None and found.info.classes != identity.info["classes"]:
        different.append("the number of classes")
    if different:
        raise TrainingError(
            f"checkpoint {folder / STATE}",
            expected="the settings and the images of this training",
            got="others in " + ", ".join(different),
            remedy="Choose another output folder, or delete this one to start anew.",
        )
    return found


def read(folder: Path) -> Checkpoint | None:
    """The checkpoint in ``folder`` as it is; None if there is none.

    Raises:
        TrainingError: it is damaged.
    """
    if not (folder / STATE).exists():
        return None
    with _naming_damage(folder):
        state = _state(folder)
        tensors = load_file(folder / state["tensors"])
        info = _info(state.get("info"))
        return Checkpoint(_progress(state), dict(state["settings"]), tensors, state, info)


def read_progress(folder: Path) -> tuple[TrainingProgress, int] | None:
    """Where the training in ``folder`` stands, and its number of epochs; None if there is none.

    The tensors are not read: a training that runs may replace them meanwhile.

    Raises:
        TrainingError: the checkpoint is damaged.
    """
    if not (folder / STATE).exists():
        return None
    with _naming_damage(folder):
        state = _state(folder)
        return _progress(state), int(state["settings"]["optimiser"]["epochs"])


def _state(folder: Path) -> dict[str, Any]:
    return dict(strict_json.parse((folder / STATE).read_text()))


def _info(plain: dict[str, Any] | None) -> DataSetInfo | None:
    return None if plain is None else TypeAdapter(DataSetInfo).validate_python(plain)


def _progress(state: dict[str, Any]) -> TrainingProgress:
    return TrainingProgress(int(state["epoch"]), list(state["metrics"]))


@contextmanager
def _naming_damage(folder: Path) -> Iterator[None]:
    """An error while a checkpoint is read as one that names the file."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, DataError) as error:
        raise TrainingError(
            f"checkpoint {folder / STATE}",
            expected="a whole checkpoint",
            got=str(error),
            remedy="Delete the folder to start anew.",
        ) from error


def restore(
    found: Checkpoint,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    generators: dict[str, torch.Generator],
) -> None:
    """Put a checkpoint's state into the parts of a training."""
    tensors, scalars = found.tensors, found.state["optimiser"]
    module.load_state_dict(_part(tensors, "module"))
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*_part(tensors, "optimiser").items(), *scalars.items()]:
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if value.shape == parameter.shape:  # fused steps need the weights' order in memory
                moments[name] = torch.empty_like(parameter).copy_(value)
    for name, generator in generators.items():
        generator.set_state(tensors[f"generator.{name}"])


def _part(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors of one kind, by their names without it."""
    prefix = f"{kind}."
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _deciding(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that decide the result: own files may have moved."""
    data = settings.get("data")
    return {**settings, "data": deciding(data)} if isinstance(data, dict) else settings


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
