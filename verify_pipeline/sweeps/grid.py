"""The runs of a grid: their values, their names, and whether recipes take them."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from verify_pipeline.config import Recipe, load_recipe
from verify_pipeline.errors import ConfigError
from verify_pipeline.strict_yaml import problems_error

SEED = "train.seed"

LONGEST_NAME = 150
"""Characters of a run's name: with the recipe's name in front, a file's name has room for 255."""

Grid = Mapping[str, Sequence[str]]
"""Values as YAML texts, by dotted key of the recipe."""


@dataclass(frozen=True)
class GridRun:
    """One run of a sweep.

    Attributes:
        name: of its folder; what differs from the other runs, such as ``alpha=0.01_seed=1``.
        values: YAML texts by dotted key of the recipe, the seed among them.
    """

    name: str
    values: Mapping[str, str]


def read_grid(options: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The grid that options such as ``train.loss.alpha=0,0.01,1`` say.

    Commas inside brackets or quotes belong to a value: ``train.optimiser.milestones=[5,8],[6,9]``.

    Raises:
        ConfigError: an option is not ``KEY=VALUE,VALUE…``, or a key is there twice.
    """
    grid: dict[str, tuple[str, ...]] = {}
    for option in options:
        key, equals, text = option.partition("=")
        values = tuple(value.strip() for value in _split(text))
        if not equals or not key or "" in values:
            raise ConfigError("--grid", expected="KEY=VALUE,VALUE,…", got=repr(option))
        if key in grid:
            raise ConfigError("--grid", expected=f"{key} once", got="twice")
        grid[key] = values
    return grid


def _split(text: str) -> list[str]:
    """Split at the commas that are outside of brackets, braces and quotes."""
    pieces, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0 and not quote:
            pieces.append("")
        else:
            pieces[-1] += letter
    return pieces


def runs_of(grid: Grid, first_seed: int, seeds: int) -> tuple[GridRun, ...]:
    """All combinations of the grid's values and the seeds, by the order of the options.

    Args:
        grid: values by key.
        first_seed: the recipe's own seed; the others follow it.
        seeds: how many, at least 1; without a meaning where the grid itself has seeds.

    Raises:
        ConfigError: no seeds, seeds in two places, or two runs with one name.
    """
    if seeds < 1:
        raise ConfigError("--seeds", expected="at least 1", got=str(seeds))
    if SEED in grid and seeds > 1:
        raise ConfigError("--seeds", expected=f"seeds in one place, --grid {SEED}=… or --seeds")
    axes = dict(grid)
    axes.setdefault(SEED, tuple(str(first_seed + place) for place in range(seeds)))
    labels = _labels(tuple(axes))
    runs = []
    for chosen in itertools.product(*axes.values()):
        parts = [f"{labels[key]}={_plain(text)}" for key, text in zip(axes, chosen, strict=True)]
        runs.append(GridRun("_".join(parts), dict(zip(axes, chosen, strict=True))))
    _check_names(runs)
    return tuple(runs)


def _labels(keys: Sequence[str]) -> dict[str, str]:
    """The shortest ends of dotted keys that differ from each other."""
    labels = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[-length:]) for length in range(1, len(parts) + 1)]
        others = [f".{other}" for other in keys if other != key]
        labels[key] = next(
            (end for end in ends if not any(o.endswith(f".{end}") for o in others)), key
        )
    return labels


def _plain(text: str) -> str:
    """A value as a part of a file's name: ``2/255`` becomes ``2-255``."""
    return re.sub(r"[^\w.+\-,()\[\]]", "", text.replace("/", "-").replace(" ", ""))


def _check_names(runs: Sequence[GridRun]) -> None:
    twice = [name for name, count in Counter(run.name for run in runs).items() if count > 1]
    if twice:
        raise ConfigError("--grid", expected="each combination once", got=f"{twice[0]} twice")
    longest = max((run.name for run in runs), key=len)
    if len(longest) > LONGEST_NAME:
        raise ConfigError(
            "--grid",
            expected=f"runs with names of at most {LONGEST_NAME} characters",
            got=f"{longest[:60]}…",
            remedy="Leave keys with one value to --set.",
        )


def full_name(recipe: str, run: str) -> str:
    """The name of a run's recipe and network, which is unique in its sweep."""
    return f"{recipe}_{run}"


def check_runs(
    source: Path | str, base: Mapping[str, str], runs: Sequence[GridRun], option: str = "--grid"
) -> dict[str, Recipe]:
    """The recipe of each run, read as strictly as every recipe.

    Args:
        source: name or path of the recipe.
        base: values of ``--set``.
        runs: their values replace those.
        option: that the values come from, as messages name it.

    Returns:
        Recipes by the run's name, each called :func:`full_name`.

    Raises:
        ConfigError: the mistakes of all runs, each once; or two runs with equal recipes.
    """
    recipes: dict[str, Recipe] = {}
    problems: dict[str, None] = {}
    name = load_recipe(source, base).name
    for run in runs:
        given = {**base, **run.values, "name": full_name(name, run.name)}
        try:
            recipes[run.name] = load_recipe(source, given)
        except ConfigError as error:
            for line in str(error).split("\n  ")[1:] or [str(error)]:
                problems[_from(option, line, run.values)] = None
    if problems:
        raise problems_error(f"{option}, with recipe {name}", tuple(problems))
    _refuse_equal(recipes, option)
    return recipes


def _from(option: str, line: str, values: Mapping[str, str]) -> str:
    """A mistake's line with the option that the value was typed with."""
    for key in values:
        line = line.replace(f"{key} (--set)", f"{key} ({option})")
    return line


def _refuse_equal(recipes: Mapping[str, Recipe], option: str) -> None:
    """Refuse runs that differ in how a value is written only, such as 0.1 and 1e-1."""
    seen: dict[tuple[str, str], str] = {}
    for name, recipe in recipes.items():
        settings = repr(recipe.train), repr(recipe.certify)
        if settings in seen:
            raise ConfigError(
                option, expected="runs that differ", got=f"{seen[settings]} and {name}, equal"
            )
        seen[settings] = name
