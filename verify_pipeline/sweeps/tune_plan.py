"""What a tuning searches, checked before anything starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import ConfigDict, SkipValidation, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from verify_pipeline import pipeline
from verify_pipeline.config import Recipe, load_recipe
from verify_pipeline.errors import ConfigError
from verify_pipeline.settings import Count
from verify_pipeline.sweeps import folders
from verify_pipeline.sweeps.pruning import PruningRule
from verify_pipeline.sweeps.space import Space, check_space, read_space
from verify_pipeline.sweeps.trial import (
    check_objectives,
    measuring_stages,
    validation_settings,
)

VALIDATION_SHARE, VALIDATION_MOST = 0.2, 1000
"""Of the training images: held out where the recipe says nothing, and how many at most."""

TIMEOUT = 10.0
"""Seconds that a validation image may take, at most, where nothing else is said."""


@checked_dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TuneRequest:
    """What is searched, and how it is measured.

    Attributes:
        recipe: name or path of a recipe, or one that was read.
        overrides: values that hold for all trials, YAML texts by dotted key.
        objectives: what is maximised: ``standard``, ``verified``, ``attack-robust``.
        estimate: how verified accuracy is measured: ``complete`` by the recipe's own stages,
            ``crown`` or ``ibp`` by bounds alone.
        timeout: seconds for each validation image; None: the recipe's, at most 10.
        space: a YAML file; None: the package's for the recipe's loss.
        seed: of what is drawn; the trainings' seed is the recipe's.
        pruning: which trainings are ended early.
    """

    recipe: SkipValidation[Path | str | Recipe]
    overrides: Mapping[str, str] = field(default_factory=dict)
    objectives: tuple[str, ...] = ("standard", "verified")
    estimate: str = "complete"
    timeout: float | None = None
    space: Path | None = None
    seed: Count = 0
    pruning: PruningRule = field(default_factory=PruningRule)


@dataclass(frozen=True, eq=False)
class TunePlan:
    """What a tuning's command would do.

    Attributes:
        said: what the folder is begun with.
        text: of the recipe.
        base: the recipe with the values that hold for all trials.
        space: that trials are drawn from.
        stages: that measure the objectives on the validation images.
        begun: whether the folder has trials.
        notes: what was chosen for the user.
    """

    said: folders.Said
    text: str
    base: Recipe
    space: Space
    stages: tuple[str, ...]
    begun: bool
    notes: tuple[str, ...]

    @property
    def verified(self) -> str:
        """How verified accuracy is measured in the search, for a reader."""
        complete = "branch-and-bound" in self.stages
        how = {
            "complete": f"by the recipe's stages ({', '.join(self.stages)})"
            + (": complete verification" if complete else ", which have no branch and bound"),
            "crown": "an estimate by IBP and CROWN bounds alone",
            "ibp": "an estimate by IBP bounds alone",
        }[self.said["estimate"]]
        return f"{how}; at most {self.said['timeout']:g} s for each image"

    @property
    def lines(self) -> tuple[str, ...]:
        """What a user is shown before anything starts."""
        said, train = self.said, self.base.train
        return (
            *self.notes,
            f"objectives: {', '.join(said['objectives'])}, on {train.data.validation} validation "
            "images",
            f"verified accuracy: {self.verified}",
            *(f"{name}: {each.shown}" for name, each in self.space.ranges().items()),
        )


def plan_tuning(request: TuneRequest, folder: Path, data_root: Path | None = None) -> TunePlan:
    """Check a tuning; nothing is written.

    Raises:
        ConfigError: a mistake in recipe, space, objectives or numbers.
        StudyError: the folder belongs to another tuning.
        DataError: the data is missing.
    """
    check_objectives(request.objectives, request.estimate)
    text = folders.recipe_text(request.recipe)
    with folders.as_source(request.recipe) as source:
        held_out, notes = _held_out(load_recipe(source, request.overrides), data_root)
        values = {**request.overrides, **held_out}
        base = load_recipe(source, values)
        space = read_space(request.space, base.train.loss.name)
        own = f"search space of {base.train.loss.name}" if request.space is None else "--space"
        check_space(space, source, values, own)
    timeout = request.timeout
    if timeout is None:
        timeout = min(base.certify.timeout or TIMEOUT, TIMEOUT)
    if not 0 < timeout < math.inf:
        raise ConfigError("--timeout", expected="finite seconds > 0", got=f"{timeout:g}")
    settings = validation_settings(base, request.estimate, timeout)
    stages = measuring_stages(settings, request.objectives)
    said: folders.Said = {
        "recipe": base.name,
        "set": values,
        "objectives": list(request.objectives),
        "estimate": request.estimate,
        "timeout": timeout,
        "seed": request.seed,
        "space": TypeAdapter(Space).dump_python(space, mode="json"),
        "pruning": asdict(request.pruning),
    }
    kept = folders.read_said(folder, folders.TUNING)
    if kept is not None:
        folders.refuse_other(folder, kept, said)
        folders.refuse_other_recipe(folder, text)
    return TunePlan(said, text, base, space, stages, kept is not None, notes)


def check_held_out(recipe: Recipe, images: int) -> None:
    """Refuse a recipe that holds all training images out, before a process does.

    Raises:
        ConfigError: no image is left to train on.
    """
    if recipe.train.data.validation >= images:
        raise ConfigError(
            "train.data.validation",
            expected=f"fewer than the {images} training images of {recipe.train.data.full_name}",
            got=str(recipe.train.data.validation),
        )


def _held_out(recipe: Recipe, data_root: Path | None) -> tuple[dict[str, str], tuple[str, ...]]:
    """Held-out images for a recipe that has none, and a note that says so."""
    train = recipe.train
    images = train.data.images("train", data_root)
    test = train.data.images("test", data_root)
    pipeline.check_certification(recipe.certify, len(test))
    if train.data.validation:
        check_held_out(recipe, len(images))
        return {}, ()
    count = max(1, min(round(VALIDATION_SHARE * len(images)), VALIDATION_MOST))
    note = (
        f"The recipe holds no images out of training: {count} of its {len(images)} training images "
        "are held out to choose by. Another number: --set train.data.validation=NUMBER."
    )
    return {"train.data.validation": str(count)}, (note,)
