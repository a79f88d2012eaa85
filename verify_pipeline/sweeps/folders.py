"""What a sweep or a tuning was begun with, kept in its folder."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from verify_pipeline import config, strict_json
from verify_pipeline.atomic_write import write_all, write_whole
from verify_pipeline.config import Recipe, dump
from verify_pipeline.errors import ConfigError, StudyError
from verify_pipeline.run_folders import RECIPE

SWEEP, TUNING = "sweep.json", "tune.json"
"""What a folder was begun with."""

Said = dict[str, Any]
"""What a command says of its sweep or tuning, in JSON's types."""


def recipe_text(source: Path | str | Recipe) -> str:
    """A recipe's YAML text, as its file has it.

    The text of a file keeps what is left open, such as certify's ε, which follows from train's. A
    :class:`Recipe` has no such thing left: all of its values are in the text.

    Raises:
        ConfigError: there is no such recipe, or it cannot be read.
    """
    if isinstance(source, Recipe):
        return dump(source)
    return config.recipe_text(source)


@contextmanager
def as_source(recipe: Path | str | Recipe) -> Iterator[Path | str]:
    """A recipe as ``load_recipe`` takes it; one that was read becomes a file for the moment."""
    if not isinstance(recipe, Recipe):
        yield recipe
        return
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"{recipe.name}.yaml"
        path.write_text(recipe_text(recipe), encoding="utf-8")
        try:
            yield path
        except ConfigError as error:  # nobody but this function knows of the file
            raise ConfigError(str(error).replace(str(path), f"recipe {recipe.name}")) from None


def read_said(folder: Path, name: str) -> Said | None:
    """What a folder was begun with; None: nothing of this kind was begun there.

    Raises:
        StudyError: it was begun with the other command, or the file is damaged.
    """
    other = {SWEEP: TUNING, TUNING: SWEEP}[name]
    if (folder / other).is_file():
        raise StudyError(
            f"folder {folder}",
            expected=f"a folder of its own, with {name}",
            got=f"one with {other}",
            remedy="Name another folder.",
        )
    path = folder / name
    if not path.is_file():
        return None
    try:
        said = strict_json.parse(path.read_text(encoding="utf-8"))
        if not isinstance(said, dict):
            raise ValueError("no mapping")
        return said
    except (OSError, ValueError) as error:
        raise StudyError(
            str(path), expected="what was begun in this folder", got=str(error)
        ) from None


def refuse_other(folder: Path, kept: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Refuse a command that would mix something else into a folder.

    Args:
        folder: of the sweep or tuning.
        kept: what it was begun with.
        said: what the command says, of the same keys.

    Raises:
        StudyError: they differ.
    """
    for key, value in said.items():
        if kept.get(key) != value:
            before, now = _flat(kept.get(key), ""), _flat(value, "")
            raise StudyError(
                f"folder {folder}",
                expected=f"the {key} that it was begun with, {_shown(before, now)}",
                got=_shown(now, before),
                remedy="Name another folder, or repeat the first command.",
            )


def _flat(value: Any, key: str) -> dict[str, str]:
    """The values in mappings and lists of mappings by dotted key; other values by the key alone."""
    if isinstance(value, dict):
        parts = {f"{key}.{name}" if key else str(name): each for name, each in value.items()}
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        parts = {f"{key}[{place}]": each for place, each in enumerate(value)}
    else:
        text = (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)
        return {key: text}
    return {name: text for part, each in parts.items() for name, text in _flat(each, part).items()}


def _shown(values: Mapping[str, str], others: Mapping[str, str]) -> str:
    """What differs from the others."""
    differ = {key: text for key, text in values.items() if others.get(key) != text}
    return ", ".join(f"{key}={text}" if key else text for key, text in differ.items()) or "none"


def keep(folder: Path, name: str, said: Said, recipe: str) -> None:
    """Write what a folder is begun with, and its recipe.

    Raises:
        DataError: the folder cannot be written.
    """
    write_all({folder / RECIPE: recipe, folder / name: _json(said)})


def keep_again(folder: Path, name: str, said: Said) -> None:
    """Replace what :func:`keep` wrote, where more was added; the recipe stays."""
    write_whole(folder / name, _json(said))


def refuse_other_recipe(folder: Path, text: str) -> None:
    """Refuse to continue with a recipe whose text is not the folder's.

    Raises:
        StudyError: the folder's recipe is gone, or another one.
    """
    path = folder / RECIPE
    try:
        same = path.read_text(encoding="utf-8") == text
    except OSError as error:
        raise StudyError(str(path), expected="the recipe", got=str(error)) from None
    if not same:
        raise StudyError(
            f"folder {folder}",
            expected=f"the recipe as it was when the folder was begun, {path}",
            got="another text",
            remedy="Name another folder.",
        )


def _json(said: Said) -> str:
    return f"{json.dumps(said, indent=1, ensure_ascii=False)}\n"
