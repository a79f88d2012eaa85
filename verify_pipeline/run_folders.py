"""What the folder of a run holds, and what the run was begun with.

A run is continued by the command that began it. The values of ``--set`` are kept in the folder, so
that they need not be typed again, and so that others are refused instead of mixed in.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast, get_args

from verify_pipeline import strict_json
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify.records import Run
from verify_pipeline.certify.run_images import images_of
from verify_pipeline.config import PATH_KEYS, Recipe, load_recipe
from verify_pipeline.data import BoxSet, ImageSet, OwnDataSettings, Split
from verify_pipeline.errors import ConfigError
from verify_pipeline.training.checkpoint import STATE
from verify_pipeline.training.observer import Silent

RECIPE, LEDGER, BEGUN = "recipe.yaml", "ledger.sqlite", "begun.json"
"""Names of files in it."""

RADII = "radius.sqlite"
"""Name of the ledger that a search for radii writes beside a network. At most ε it asks only some
of the images. So its runs stay unfinished, and would disturb tables of the other ledger."""


def own_data(folders: Iterable[Path], name: str) -> OwnDataSettings | None:
    """The own data set of this name that a recipe in one of the folders is about.

    Raises:
        ConfigError: a recipe there is damaged.
    """
    for folder in dict.fromkeys(folders):
        if not (folder / RECIPE).is_file():
            continue
        chosen = load_recipe(folder / RECIPE).train.data
        if isinstance(chosen, OwnDataSettings) and chosen.full_name == name:
            return chosen
    return None


def images_of_run(
    run: Run,
    folders: Iterable[Path],
    data_root: Path | None,
    given: ImageSet | BoxSet | None = None,
    download: bool = True,
) -> ImageSet | BoxSet | None:
    """The images of a ledger's run: see ``run_images.images_of``; those of own files, too.

    Args:
        run: as the ledger has it.
        folders: in which recipes may say where own files are: those of the ledgers.
        data_root: where data sets are looked for.
        given: images that the caller has.
        download: whether what is missing may be downloaded.

    Raises:
        DataError: files are missing or damaged.
        ConfigError: a recipe there is damaged.
    """
    found = images_of(run, data_root, given, download)
    if found is not None or run.split not in get_args(Split):
        return found
    own = own_data(folders, run.data_set)
    return None if own is None else own.images(cast("Split", run.split))


@dataclass(frozen=True)
class Begun:
    """What a run was begun with.

    Attributes:
        recipe: with the overrides in it.
        source: the recipe's name or path, as it was typed.
        overrides: values of ``--set`` by dotted key, as they were typed.
        device: as it was typed.
    """

    recipe: Recipe
    source: str
    overrides: Mapping[str, str]
    device: str = "auto"

    def command(self, folder: Path) -> str:
        """The command that makes the run anew in a folder, quoted for a shell."""
        sets = [word for key, text in self.overrides.items() for word in ("--set", f"{key}={text}")]
        device = [] if self.device == "auto" else ["--device", self.device]
        run = ["verify-pipeline", "run", self.source, "--out", str(folder)]
        return shlex.join([*run, *sets, *device])


def begin(source: str, overrides: Mapping[str, str], folder: Path, device: str = "auto") -> Begun:
    """The recipe of a run in a folder: a new run, or the one that was begun there.

    Args:
        source: name or path of the recipe.
        overrides: values of ``--set``; those that the run was begun with may be left out.
        folder: of the run.
        device: as typed; a run may go on on another one.

    Raises:
        ConfigError: something in the recipe is wrong, or the folder's run was begun with another
            recipe or other values.
    """
    recipe = load_recipe(source, overrides)
    kept = read_begun(folder)
    if kept is None:
        return Begun(recipe, source, overrides, device)
    if kept["name"] != recipe.name:
        raise ConfigError(
            f"folder {folder}",
            expected=f"the recipe that it was begun with, {kept['name']}",
            got=recipe.name,
            remedy="Name another folder.",
        )
    before = load_recipe(source, kept["set"])
    now = load_recipe(source, {**kept["set"], **overrides})
    _refuse_others(folder, overrides, before, now)
    return Begun(now, source, {**kept["set"], **_moved(overrides)}, device)


def read_begun(folder: Path) -> dict[str, Any] | None:
    """What :class:`KeepBegun` wrote: ``name``, ``source``, ``set`` and ``device``.

    Returns:
        None where no training was begun, or by a version that did not keep it.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / BEGUN
    if not path.is_file() or not (folder / STATE).is_file():
        return None
    try:
        kept = strict_json.parse(path.read_text(encoding="utf-8"))
        texts = [kept["name"], kept["source"], kept["device"], *kept["set"], *kept["set"].values()]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("values that are no texts")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            str(path),
            expected="what the run was begun with",
            got=f"no key {error}" if isinstance(error, KeyError) else str(error),
            remedy="Delete the file; every --set has to be typed again then.",
        ) from None
    return dict(kept)


class KeepBegun(Silent):
    """Keeps what a run was begun with, once there is something to be continued.

    Args:
        folder: of the run.
        begun: what is kept.
    """

    def __init__(self, folder: Path, begun: Begun) -> None:
        self._folder, self._begun = folder, begun

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        """Write it behind the first epoch, whose checkpoint is there by then."""
        if metrics["epoch"] == 1 or not (self._folder / BEGUN).exists():
            begun = self._begun
            kept = {"name": begun.recipe.name, "source": begun.source, "device": begun.device}
            text = json.dumps({**kept, "set": dict(begun.overrides)}, indent=1)
            write_whole(self._folder / BEGUN, f"{text}\n")


def _refuse_others(folder: Path, overrides: Mapping[str, str], before: Recipe, now: Recipe) -> None:
    """Refuse overrides that would make another run of it."""
    values = asdict(before), asdict(now)
    other = [
        key
        for key in overrides
        if key not in _moved(overrides) and _at(values[0], key) != _at(values[1], key)
    ]
    if other:
        raise ConfigError(
            f"--set in folder {folder}",
            expected="what it was begun with, "
            + ", ".join(f"{key}={_at(values[0], key)}" for key in other),
            got=", ".join(f"{key}={overrides[key]}" for key in other),
            remedy="Leave these out to continue, or name another folder; to certify the exported "
            "file in other ways: verify-pipeline certify.",
        )


def _moved(overrides: Mapping[str, str]) -> dict[str, str]:
    """Overrides whose path may change: the content counts, which the checkpoint knows."""
    paths = {".".join(map(str, path)) for path in PATH_KEYS}
    return {k: text for k, text in overrides.items() if k in paths and Path(text).exists()}


def _at(value: Any, key: str) -> Any:
    """The value at a dotted key; None where there is none."""
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
