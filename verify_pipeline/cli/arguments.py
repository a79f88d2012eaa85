"""Checks and conversions of arguments that several commands share."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from verify_pipeline.cli.options import Abcrown
from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from verify_pipeline.certify.questions import Question
    from verify_pipeline.certify.settings import Plan
    from verify_pipeline.config import Recipe
    from verify_pipeline.data import ImageSet
    from verify_pipeline.engines import Setup


def recipe_of(source: str, overrides: list[str] | None) -> Recipe:
    """The recipe of that name or path, with the values of `--set` in it.

    Raises:
        ConfigError: the recipe is missing, or it or an override has an error.
    """
    from verify_pipeline.config import load_recipe

    return load_recipe(source, pairs_of(overrides))


def pairs_of(overrides: list[str] | None, option: str = "--set") -> dict[str, str]:
    """The values of an option that is given as `KEY=VALUE`, by key.

    Raises:
        ConfigError: an override is not `KEY=VALUE`, or a key has two different values.
    """
    pairs: dict[str, str] = {}
    for text in overrides or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(option, expected="KEY=VALUE", got=repr(text))
        if pairs.setdefault(key, value) != value:
            raise ConfigError(option, expected=f"one value of {key}", got=f"{pairs[key]}, {value}")
    return pairs


@dataclass(frozen=True)
class OwnArrays:
    """A user's own images and labels.

    Attributes:
        images: path of the images' array.
        labels: path of the labels' array; None restricts questions to those without labels.
    """

    images: Path
    labels: Path | None

    @property
    def name(self) -> str:
        """The images' name in ledgers and tables."""
        return self.images.stem

    def read(self, outputs: int, question: Question) -> ImageSet:
        """Read the images for a question about a network with that many outputs.

        If the question is about labels, they have to be classes of the network.

        Raises:
            ConfigError: the question needs labels, and there are none.
            DataError: a file is missing, or its content is invalid.
        """
        from verify_pipeline import data

        if self.labels is None and question.specification.needs_labels:
            raise ConfigError(
                "--images and --labels",
                expected="both or neither",
                got="--images alone",
                remedy="Only --rows need no labels.",
            )
        question.specification.check_outputs(outputs)
        classes = outputs if question.specification.needs_labels else None
        return data.from_arrays(self.images, self.labels, classes, self.name, "arrays")


def own_arrays(images: Path | None, labels: Path | None, **others: object) -> OwnArrays | None:
    """The arrays that `--images` and `--labels` name; None if neither was given.

    Args:
        images: path, or None where the option was not given.
        labels: path, or None where the option was not given.
        others: by name, options that these two exclude; None where not given.

    Raises:
        ConfigError: labels without images, or one of ``others`` beside them.
    """
    if images is None and labels is None:
        return None
    if images is None:
        raise ConfigError("--images and --labels", expected="both or neither", got="one")
    refuse_beside("--images and --labels", "a data set, not your own images", others)
    return OwnArrays(images, labels)


def both(
    first: tuple[str, Path | None], second: tuple[str, Path | None]
) -> tuple[Path, Path] | None:
    """The paths of two options that require each other; None if neither was given.

    Args:
        first: its name, and the path or None.
        second: likewise.

    Raises:
        ConfigError: one without the other.
    """
    paths = [path for _, path in (first, second) if path is not None]
    if len(paths) == 1:
        names = f"{first[0]} and {second[0]}"
        raise ConfigError(names, expected="both or neither", got="one")
    return (paths[0], paths[1]) if paths else None


def refuse_beside(chosen: str, expected: str, others: Mapping[str, object]) -> None:
    """Refuse options that the chosen ones exclude.

    Args:
        chosen: names of the options that are given.
        expected: what the others are for.
        others: by name without dashes; None where one was not given.

    Raises:
        ConfigError: one of the others was given.
    """
    given = [f"--{name.replace('_', '-')}" for name, value in others.items() if value is not None]
    if given:
        raise ConfigError(
            " and ".join(given),
            expected=expected,
            got=chosen,
            remedy=f"Leave out {' and '.join(given)}, or {chosen}.",
        )


def named(option: str, out: Path) -> None:
    """Refuse a path that does not end in a file name, such as ``""``, ``/`` or ``..``.

    Raises:
        ConfigError: the path ends in no file name.
    """
    if out.name in ("", ".."):
        raise ConfigError(option, expected="a path that ends in a file's name", got=f"'{out}'")


def epoch_of(text: str | None) -> int | Literal["last", "best"] | None:
    """The epoch that `--epoch` names; None if it was not given.

    Raises:
        ConfigError: it names none.
    """
    named: dict[str | None, Literal["last", "best"] | None]
    named = {None: None, "last": "last", "best": "best"}
    if text in named or text is None:
        return named[text]
    if text.isascii() and text.isdecimal() and int(text) > 0:
        return int(text)
    raise ConfigError("--epoch", expected="a number from 1, best or last", got=repr(text))


def certify_fields(indices: str | None, stages: str | None, **others: Any) -> dict[str, Any]:
    """The given options as fields of certify's settings, in the form of a recipe's YAML.

    Args:
        indices: as typed; a bare number is a count.
        stages: as typed, separated by commas.
        others: fields by name, values as they are; None where the option was not given.
    """
    fields = {
        "indices": f":{indices}" if indices is not None and indices.isdecimal() else indices,
        "stages": None if stages is None else stages.split(","),
        **others,
    }
    return {key: value for key, value in fields.items() if value is not None}


def abcrown_setup(folder: Path, typed: Abcrown) -> Setup:
    """How α,β-CROWN is run.

    Args:
        folder: for its files and logs.
        typed: its options.

    Raises:
        DependencyError: α,β-CROWN is not installed.
        ConfigError: the memory is not a positive count.
    """
    from verify_pipeline.engines import Limits, Setup, find_tool

    memory = typed.abcrown_memory
    if memory is not None and memory < 1:
        raise ConfigError("--abcrown-memory", expected="MiB, at least 1", got=str(memory))
    size = None if memory is None else memory << 20
    tool = find_tool(typed.abcrown_home, typed.abcrown_python)
    return Setup(tool, folder, Limits(memory=size))


def engine_setup(engine: str, stages: str | None, folder: Path, typed: Abcrown) -> Setup | None:
    """How α,β-CROWN is run; None if it is not requested. See :func:`abcrown_setup`.

    Args:
        engine: as typed.
        stages: as typed, or None.
        folder: for its files and logs.
        typed: its options.

    Raises:
        ConfigError: the engine is unknown, or options of another engine were given.
        DependencyError: the tool is not installed.
    """
    if engine not in ("builtin", "abcrown"):
        raise ConfigError("--engine", expected="builtin or abcrown", got=engine)
    if engine == "abcrown" or "abcrown" in (stages or "").split(","):
        return abcrown_setup(folder, typed)
    if typed != Abcrown():
        raise ConfigError(
            "--abcrown-home, --abcrown-python and --abcrown-memory",
            expected="--engine abcrown beside them",
            got=f"--engine {engine}",
        )
    return None


def tell_ignored(chosen: Plan, search: object) -> None:
    """Name the keys of the search's settings that have no effect, on standard error.

    Args:
        chosen: the plan made of them.
        search: the file, as typed or as the recipe names it; anything else: they are the recipe's.
    """
    if chosen.ignored:
        source = search if isinstance(search, str) else "the recipe's search"
        keys = ", ".join(chosen.ignored)
        typer.echo(
            f"warning: {source}: the built-in search ignores what only α,β-CROWN follows: {keys}",
            err=True,
        )


def this_command() -> str:
    """The command line, for output files that record how they were made."""
    return shlex.join(["verify-pipeline", *sys.argv[1:]])
