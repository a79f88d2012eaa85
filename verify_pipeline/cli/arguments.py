"""What several commands make of what was typed."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from verify_pipeline.config import Recipe
    from verify_pipeline.data import ImageSet


def recipe_of(source: str, overrides: list[str] | None) -> Recipe:
    """The recipe of that name or path, with the values of `--set` in it.

    Raises:
        ConfigError: it is missing, or something in it or in an override is wrong.
    """
    from verify_pipeline.config import load_recipe

    pairs = {}
    for text in overrides or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("--set", expected="KEY=VALUE", got=repr(text))
        pairs[key] = value
    return load_recipe(source, pairs)


@dataclass(frozen=True)
class OwnArrays:
    """A user's own images and labels.

    Attributes:
        images: path of the images' array.
        labels: path of the labels' array.
    """

    images: Path
    labels: Path

    @property
    def name(self) -> str:
        """What the images are called in ledgers and tables."""
        return self.images.stem

    def read(self, classes: int) -> ImageSet:
        """The images, for a network of that many classes.

        Raises:
            DataError: a file is missing, or what it holds cannot be.
        """
        from verify_pipeline import data

        return data.from_arrays(self.images, self.labels, classes, self.name, "arrays")


def own_arrays(images: Path | None, labels: Path | None, **others: object) -> OwnArrays | None:
    """What `--images` and `--labels` name together; None: neither was given.

    Args:
        images: path, or None where the option was not given.
        labels: path, or None where the option was not given.
        others: by name, options that mean nothing beside these two; None where not given.

    Raises:
        ConfigError: one without the other, or one of ``others`` beside them.
    """
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        raise ConfigError("--images and --labels", expected="both or neither", got="one")
    given = [f"--{name}" for name, value in others.items() if value is not None]
    if given:
        raise ConfigError(
            " and ".join(given),
            expected="a data set, not your own images",
            got="--images",
            remedy=f"Leave out {' and '.join(given)}, or --images and --labels.",
        )
    return OwnArrays(images, labels)


def certify_fields(indices: str | None, stages: str | None, **others: Any) -> dict[str, Any]:
    """Fields of certify's settings as a recipe's YAML would have them, of the options given.

    Args:
        indices: as typed; digits alone are a count.
        stages: as typed, separated by commas.
        others: fields by name, values as they are; None where the option was not given.
    """
    fields = {
        "indices": int(indices) if indices is not None and indices.isdigit() else indices,
        "stages": None if stages is None else stages.split(","),
        **others,
    }
    return {key: value for key, value in fields.items() if value is not None}


def this_command() -> str:
    """The command line, for files that tell how they were made."""
    return shlex.join(["verify-pipeline", *sys.argv[1:]])
