"""Checkpoints: safetensors for tensors, JSON for the rest; written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from verify_pipeline import strict_json
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.data import DataSetInfo
from verify_pipeline.errors import DataError, TrainingError
from verify_pipeline.training.identity import Identity, Lineage, lineage_of
from verify_pipeline.training.weights import apart, different_weights

TENSORS, STATE = "checkpoint.safetensors", "checkpoint.json"
METRICS = "metrics.csv"
"""Names of files in a training's folder."""


@dataclass(frozen=True, eq=False)
class TrainingProgress:
    """Where a training stands.

    Attributes:
        epoch: epochs done.
        metrics: one row per epoch done.
        stopped: whether early stopping has ended it.
    """

    epoch: int
    metrics: list[dict[str, Any]]
    stopped: bool = False

    def finished(self, epochs: int) -> bool:
        """Whether a training of so many epochs at most is done."""
        return self.stopped or self.epoch >= epochs


@dataclass(frozen=True, eq=False)
class Parts:
    """The parts of a training that have a state.

    Attributes:
        module: the network that learns.
        optimiser: of its weights.
        generators: of random numbers, by name.
        average: of the weights so far; None: there is none, or not yet.
    """

    module: nn.Module
    optimiser: torch.optim.Optimizer
    generators: Mapping[str, torch.Generator]
    average: nn.Module | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the state, by the names that a checkpoint has for them."""
        found = {f"module.{key}": value for key, value in self.module.state_dict().items()}
        if self.average is not None:
            found |= {f"average.{key}": v for key, v in self.average.state_dict().items()}
        for index, name, value in self._optimiser_state():
            if isinstance(value, Tensor):
                found[f"optimiser.{index}.{name}"] = value
        return found | {f"generator.{name}": g.get_state() for name, g in self.generators.items()}

    def scalars(self) -> dict[str, Any]:
        """What the optimiser has besides tensors."""
        return {
            f"{index}.{name}": value
            for index, name, value in self._optimiser_state()
            if not isinstance(value, Tensor)
        }

    def _optimiser_state(self) -> Iterator[tuple[int, str, Any]]:
        for index, state in self.optimiser.state_dict()["state"].items():
            for name, value in state.items():
                yield index, name, value


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint as it was read.

    Attributes:
        progress: where the training stands.
        settings: of the training, as JSON has them.
        tensors: by name: ``module.…``, ``average.…``, ``optimiser.…``, ``generator.…``.
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
        """The state of the training's network, to be loaded into one: of the average, if any."""
        return self.part("average") or self.part("module")

    def part(self, kind: str) -> dict[str, Tensor]:
        """The tensors of one kind, such as ``module``, by their names without it."""
        return _part(self.tensors, kind)

    @property
    def lineage(self) -> Lineage:
        """What the training started from."""
        return lineage_of(self.state)


def state_of(
    parts: Parts, progress: TrainingProgress, identity: Identity, lineage: Lineage = ()
) -> dict[str, Any]:
    """What a checkpoint says in JSON besides the name of its tensors' file."""
    return {
        "epoch": progress.epoch,
        "stopped": progress.stopped,
        "metrics": progress.metrics,
        "optimiser": parts.scalars(),
        "settings": identity.settings,
        "images": identity.images,
        "info": identity.info,
        "network_file": identity.network_file,
        "lineage": [asdict(each) for each in lineage],
    }


def save(folder: Path, parts: Parts, state: Mapping[str, Any]) -> None:
    """Write a checkpoint into ``folder``, in the place of the one before.

    The tensors' file carries the epoch in its name, and the JSON file, which is replaced last and
    in one move, says which one is current: a death at any moment leaves a whole checkpoint, and so
    does a full disk.

    Args:
        folder: of the training.
        parts: whose state is kept.
        state: from :func:`state_of`.

    Raises:
        TrainingError: the folder cannot be written; what stood there is as it was.
    """
    name = f"epoch-{state['epoch']:04d}-{TENSORS}"
    write_tensors(parts.tensors(), folder / name)
    try:
        write_whole(folder / STATE, json.dumps({"tensors": name, **state}, indent=1))
    except DataError as error:
        (folder / name).unlink()  # nothing says yet that it is current
        raise _unwritable(folder, error.got) from error
    for old in folder.glob(f"epoch-*-{TENSORS}*"):
        if old.name != name:
            old.unlink()


def write_tensors(tensors: Mapping[str, Tensor], path: Path, *metadata: dict[str, str]) -> None:
    """Write a .safetensors file under another name and move it into place.

    Args:
        tensors: by name.
        path: of the file.
        metadata: for the file's head; at most one.

    Raises:
        TrainingError: the place cannot be written; what stood there is as it was.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(apart(tensors), temporary, *metadata)
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
    with naming_damage(folder / STATE):
        different = identity.differences(found.state)
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
    with naming_damage(folder / STATE):
        state = _state(folder)
        tensors = load_file(folder / _inside(state["tensors"]))
        return checkpoint_of(state, tensors)


def _inside(name: object) -> str:
    """The name of a file in the checkpoint's own folder."""
    if not isinstance(name, str) or Path(name).name != name or name == "..":
        raise ValueError(f"tensors in {name!r}, which is no file of the folder")
    return name


def checkpoint_of(state: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    """A checkpoint from what its files say."""
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
    with naming_damage(folder / STATE):
        state = _state(folder)
        return _progress(state), int(state["settings"]["optimiser"]["epochs"])


def _state(folder: Path) -> dict[str, Any]:
    return dict(strict_json.parse((folder / STATE).read_text()))


def _info(plain: dict[str, Any] | None) -> DataSetInfo | None:
    return None if plain is None else TypeAdapter(DataSetInfo).validate_python(plain)


def _progress(state: dict[str, Any]) -> TrainingProgress:
    stopped = bool(state.get("stopped", False))
    return TrainingProgress(int(state["epoch"]), list(state["metrics"]), stopped)


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """An error while a checkpoint is read as one that names its file."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, DataError) as error:
        raise TrainingError(
            f"checkpoint {path}",
            expected="a whole checkpoint",
            got=str(error),
            remedy="Delete the folder to start anew.",
        ) from error


def load_weights(found: Checkpoint, module: nn.Module, folder: Path) -> None:
    """Put a checkpoint's weights into a module.

    Raises:
        TrainingError: they belong to another network.
    """
    _check_weights(found.weights, module, folder)
    module.load_state_dict(found.weights)


def _check_weights(weights: Mapping[str, Tensor], module: nn.Module, folder: Path) -> None:
    different = different_weights(weights, module.state_dict())
    if different:
        raise TrainingError(
            f"checkpoint {folder / STATE}",
            expected=f"the weights of this network ({type(module).__name__})",
            got=different,
            remedy="Give the network that was trained there, or choose another folder.",
        )


def restore(folder: Path, found: Checkpoint, parts: Parts) -> None:
    """Put a checkpoint's state into the parts of a training.

    Raises:
        TrainingError: the module is not the one that was trained.
    """
    module = found.part("module")
    _check_weights(module, parts.module, folder)
    parts.module.load_state_dict(module)
    average = found.part("average")
    if parts.average is not None and average:
        parts.average.load_state_dict(average)
    restore_optimiser(found, parts.optimiser)
    states = found.part("generator")
    for name in parts.generators.keys() & states.keys():
        parts.generators[name].set_state(states[name])


def restore_optimiser(found: Checkpoint, optimiser: torch.optim.Optimizer) -> None:
    """Put a checkpoint's moments into an optimiser of the same kind; its rate stays."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*found.part("optimiser").items(), *found.state["optimiser"].items()]:
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
    for parameter, moments in optimiser.state.items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # fused steps need the weights' order in memory
                moments[name] = torch.empty_like(parameter).copy_(value)


def _part(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors of one kind, by their names without it."""
    prefix = f"{kind}."
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
