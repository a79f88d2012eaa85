"""``api.sweep``, ``api.tune`` and ``api.front``: the commands as functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from verify_pipeline.config import Recipe
from verify_pipeline.sweeps.comparison import FrontComparison, compare_fronts, named_folders
from verify_pipeline.sweeps.pareto import Point
from verify_pipeline.sweeps.processes import Machine
from verify_pipeline.sweeps.results import SweepResult, TuneResult
from verify_pipeline.sweeps.runner import SweepRequest, run_sweep
from verify_pipeline.sweeps.tune_plan import TuneRequest
from verify_pipeline.sweeps.tuner import tune as tune_request
from verify_pipeline.sweeps.watching import JobWatcher


def sweep(
    recipe: Recipe | Path | str,
    grid: Mapping[str, Sequence[Any]],
    folder: Path | str,
    *,
    seeds: int = 1,
    jobs: int = 1,
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
        jobs: processes at once.
        overrides: values that hold for all runs, by dotted key.
        data_root: where the data set is looked for.
        watcher: is told what happens.

    Raises:
        VerifyPipelineError: a mistake in the grid, or the folder belongs to something else. Runs
            that fail raise nothing: see ``SweepResult.failed``.
    """
    texts = {key: tuple(_text(value) for value in values) for key, values in grid.items()}
    request = SweepRequest(recipe, texts, seeds, _texts(overrides))
    return run_sweep(request, Path(folder), Machine(jobs, data_root), watcher)


def tune(
    recipe: Recipe | Path | str,
    folder: Path | str,
    trials: int,
    *,
    jobs: int = 1,
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
        jobs: trials at once.
        overrides: values that hold for all trials, by dotted key.
        data_root: where the data set is looked for.
        watcher: is told what happens.
        options: fields of ``TuneRequest``: ``objectives``, ``estimate``, ``timeout``, ``space``,
            ``seed``, ``pruning``.

    Raises:
        VerifyPipelineError: a mistake in recipe, space or options; the folder belongs to something
            else; or Optuna is not installed. Trials that fail raise nothing.
    """
    request = TuneRequest(recipe, _texts(overrides), **options)
    return tune_request(request, Path(folder), trials, Machine(jobs, data_root), watcher)


def front(
    folders: Sequence[Path | str] | Mapping[str, Sequence[Path]], reference: Point = (0.0, 0.0)
) -> FrontComparison:
    """Compare the fronts of sweeps and tunings: dominated area, and attainment over seeds.

    Args:
        folders: of sweeps and tunings; ``NAME=FOLDER`` names a method, or a mapping by name.
            Folders of one name are repetitions of one method.
        reference: standard and verified accuracy, shares, that dominated areas start at.

    Raises:
        VerifyPipelineError: a folder holds no finished sweep or tuning.
    """
    named = folders if isinstance(folders, Mapping) else named_folders(map(str, folders))
    return compare_fronts(named, reference)


def _texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {key: _text(value) for key, value in (values or {}).items()}


def _text(value: Any) -> str:
    """A value as YAML text; a text is taken as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(each) for each in value)}]"
    return repr(value) if isinstance(value, int) else repr(float(value))
