"""``api.sweep``, ``api.tune`` and ``api.front``: the commands as functions."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from verify_pipeline.config import Recipe, checked
from verify_pipeline.errors import ConfigError
from verify_pipeline.ray_cluster import Cluster
from verify_pipeline.sweeps.comparison import FrontComparison, compare_fronts, named_folders
from verify_pipeline.sweeps.machine import Machine
from verify_pipeline.sweeps.pareto import Point
from verify_pipeline.sweeps.results import SweepResult, TuneResult
from verify_pipeline.sweeps.runner import SweepRequest, run_sweep
from verify_pipeline.sweeps.tune_plan import TuneRequest
from verify_pipeline.sweeps.tuner import tune as tune_request
from verify_pipeline.sweeps.watching import JobWatcher


def sweep(
    recipe: Recipe | Path | str,
    grid: Mapping[str, Iterable[Any]],
    folder: Path | str,
    *,
    seeds: int = 1,
    jobs: int = 1,
    cluster: Cluster | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_root: Path | None = None,
    watcher: JobWatcher | None = None,
) -> SweepResult:
    """Run a recipe for every combination of some values and seeds, each in its own process.

    The same call continues what was interrupted, and retries what failed.

    Args:
        recipe: name, path, or one that was read. A recipe that was read says certify's ε itself:
            with another ``train.epsilon.target``, give ``certify.epsilon``, too.
        grid: values by dotted key, such as ``{"train.loss.alpha": [0.01, 0.1]}``.
        folder: of the sweep.
        seeds: for each combination: the recipe's own seed, and those after it.
        jobs: processes of this machine at once.
        cluster: of Ray, on whose nodes the runs are done instead; they share ``folder``.
        overrides: values that hold for all runs, by dotted key.
        data_root: where the data set is looked for.
        watcher: is told what happens.

    Raises:
        VerifyPipelineError: a mistake in the grid, or the folder belongs to something else. Runs
            that fail raise nothing: see ``SweepResult.failed``.
    """
    request = SweepRequest(recipe, _grid(grid), _count("seeds", seeds), _texts(overrides))
    machine = Machine(cluster or _count("jobs", jobs), data_root)
    return run_sweep(request, Path(folder), machine, watcher)


def tune(
    recipe: Recipe | Path | str,
    folder: Path | str,
    trials: int,
    *,
    jobs: int = 1,
    cluster: Cluster | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_root: Path | None = None,
    watcher: JobWatcher | None = None,
    **options: Any,
) -> TuneResult:
    """Search the settings of a recipe for a Pareto front of standard and verified accuracy.

    The choice is made on images held out of training; the front's networks are then certified on
    the test images. The same call continues what was interrupted.

    Args:
        recipe: name, path, or one that was read.
        folder: of the tuning.
        trials: that the study is to have.
        jobs: processes of this machine at once.
        cluster: of Ray, on whose nodes the trials are done instead; they share ``folder``.
        overrides: values that hold for all trials, by dotted key.
        data_root: where the data set is looked for.
        watcher: is told what happens.
        options: fields of ``TuneRequest``: ``objectives``, ``estimate``, ``timeout``, ``space``,
            ``seed``, ``pruning``.

    Raises:
        VerifyPipelineError: a mistake in recipe, space or options; the folder belongs to something
            else; or Optuna is not installed. Trials that fail raise nothing.
    """
    said = {"recipe": recipe, "overrides": _texts(overrides), **options}
    request = checked(TuneRequest, said, "api.tune")
    machine = Machine(cluster or _count("jobs", jobs), data_root)
    return tune_request(request, Path(folder), _count("trials", trials), machine, watcher)


def front(
    folders: Sequence[Path | str] | Mapping[str, Sequence[Path | str]],
    reference: Point = (0.0, 0.0),
) -> FrontComparison:
    """Compare the fronts of sweeps and tunings: dominated area, and attainment over seeds.

    Args:
        folders: of sweeps and tunings; ``NAME=FOLDER`` names a method, or a mapping by name.
            Folders of one name are repetitions of one method.
        reference: standard and verified accuracy, shares, that dominated areas start at.

    Raises:
        VerifyPipelineError: a folder holds no finished sweep or tuning.
    """
    if isinstance(folders, str | Path):
        raise ConfigError("folders", expected="a list, or lists by name", got=repr(str(folders)))
    if not isinstance(folders, Mapping):
        return compare_fronts(named_folders(map(str, folders)), reference)
    return compare_fronts({name: _list(name, each) for name, each in folders.items()}, reference)


def _grid(grid: Mapping[str, Iterable[Any]]) -> dict[str, tuple[str, ...]]:
    """The grid's values as YAML texts.

    Raises:
        ConfigError: a key has no list of values, or a value is none that YAML has.
    """
    texts = {}
    for key, values in _by_key("grid", grid).items():
        name = f"grid, {key}"
        texts[key] = tuple(_text(name, value) for value in _list(name, values))
        if not texts[key]:
            raise ConfigError(name, expected="at least one value", got="none")
    return texts


def _list(name: str, values: Any) -> list[Any]:
    """What may be a list, a tuple or an array, but not one text."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        got = repr(values) if isinstance(values, str | int | float) else _kind(values)
        raise ConfigError(name, expected="a list of values", got=got)
    return list(values)


def _count(name: str, value: Any) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise ConfigError(name, expected="a whole number", got=repr(value))


def _texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    given = _by_key("overrides", values or {})
    return {key: _text(f"overrides, {key}", value) for key, value in given.items()}


def _by_key(name: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(name, expected="a mapping by dotted keys", got=_kind(given))
    if not all(isinstance(key, str) for key in given):
        raise ConfigError(name, expected="dotted keys", got=", ".join(map(repr, given)))
    return given


def _text(name: str, value: Any) -> str:
    """A value as YAML text; a text is taken as it is.

    Raises:
        ConfigError: it is something else than what a recipe's keys have.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(name, each) for each in value)}]"
    for convert in (operator.index, float):
        try:
            return repr(convert(value))
        except (TypeError, ValueError):
            continue
    expected = "a number, a text, a truth value, None, or a list of these"
    raise ConfigError(name, expected=expected, got=_kind(value))


def _kind(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
