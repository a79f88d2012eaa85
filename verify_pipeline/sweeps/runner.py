"""A sweep: every combination of a grid's values and seeds, each a whole run of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from verify_pipeline import pipeline, reports, strict_json
from verify_pipeline.atomic_write import check_folder, write_whole
from verify_pipeline.config import Recipe, load_recipe
from verify_pipeline.conversions import choose_device
from verify_pipeline.data import DataSettings, OwnDataSettings, Split
from verify_pipeline.errors import ConfigError, StudyError
from verify_pipeline.run_folders import RECIPE
from verify_pipeline.sweeps import folders
from verify_pipeline.sweeps.figure import draw_figure
from verify_pipeline.sweeps.grid import Grid, GridRun, check_runs, full_name, runs_of
from verify_pipeline.sweeps.locks import FileLock
from verify_pipeline.sweeps.machine import Machine
from verify_pipeline.sweeps.processes import Ended, Launcher, RunJob, run_all
from verify_pipeline.sweeps.results import SweepResult, SweepRun, finished_test
from verify_pipeline.sweeps.tune_plan import check_held_out
from verify_pipeline.sweeps.watching import JobWatcher, seconds_left
from verify_pipeline.sweeps.worker import run_job

LOCK, STATE = ".lock", "state.json"
"""Names of the sweep's lock, and of what is known of a run in the run's folder."""


@dataclass(frozen=True)
class SweepRequest:
    """Which runs are wanted.

    Attributes:
        recipe: name or path of a recipe, or one that was read.
        grid: YAML texts by dotted key of the recipe.
        seeds: how many for each combination: the recipe's own seed, and those after it.
        overrides: values that hold for all runs, YAML texts by dotted key.
    """

    recipe: Path | str | Recipe
    grid: Grid = field(default_factory=dict)
    seeds: int = 1
    overrides: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SweepPlan:
    """What a sweep's command would do.

    Attributes:
        said: what the folder is begun with.
        text: of the recipe.
        runs: all, those that are in the folder already first.
        recipes: by run.
        known: what is known of each run, by name.
    """

    said: folders.Said
    text: str
    runs: tuple[GridRun, ...]
    recipes: Mapping[str, Recipe]
    known: Mapping[str, SweepRun]

    @property
    def todo(self) -> tuple[GridRun, ...]:
        """The runs that are not done."""
        return tuple(run for run in self.runs if self.known[run.name].state != "done")


def plan_sweep(request: SweepRequest, folder: Path) -> SweepPlan:
    """Check a sweep, and find out what is done of it; nothing is written.

    The folder's own runs stay part of the sweep: a command may add values and seeds.

    Raises:
        ConfigError: the mistakes of all runs' recipes, in one error.
        StudyError: the folder belongs to another sweep.
    """
    text = folders.recipe_text(request.recipe)
    with folders.as_source(request.recipe) as source:
        base = load_recipe(source, request.overrides)
        wanted = runs_of(request.grid, base.train.seed, request.seeds)
        runs = {run.name: run for run in wanted}
        said: folders.Said = {
            "recipe": base.name,
            "set": dict(request.overrides),
            "grid": list(wanted[0].values),
        }
        kept = folders.read_said(folder, folders.SWEEP)
        if kept is not None:
            folders.refuse_other(folder, kept, said)
            folders.refuse_other_recipe(folder, text)
            held = {name: GridRun(name, values) for name, values in kept["runs"].items()}
            _refuse_one_name(held, runs)
            runs = held | runs
        recipes = check_runs(source, request.overrides, tuple(runs.values()))
    said["runs"] = {name: dict(run.values) for name, run in runs.items()}
    known = {name: _known(folder / name, run, recipes[name]) for name, run in runs.items()}
    return SweepPlan(said, text, tuple(runs.values()), recipes, known)


def _refuse_one_name(held: Mapping[str, GridRun], wanted: Mapping[str, GridRun]) -> None:
    """Refuse a run whose folder is that of other values, such as ``15`` after ``1:5``."""
    for name in held.keys() & wanted.keys():
        if dict(held[name].values) != dict(wanted[name].values):
            raise ConfigError(
                "--grid",
                expected=f"values whose folders differ; {name} is that of "
                + _typed(held[name].values),
                got=_typed(wanted[name].values),
                remedy="Name another folder for --out.",
            )


def _typed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={text}" for key, text in values.items())


def run_sweep(
    request: SweepRequest,
    folder: Path,
    machine: Machine,
    watcher: JobWatcher | None = None,
    command: str = "verify_pipeline.api.sweep",
) -> SweepResult:
    """Do every run of a sweep that is not done, and tabulate all of them.

    A run is ``pipeline.run`` in a process and a folder of its own, with a log. One that fails does
    not end the others; the next call tries it again. A call that was interrupted is continued by
    the same call.

    Args:
        request: which runs.
        folder: of the sweep; each run has a folder in it, named after what differs.
        machine: where runs are done, and how many at once.
        watcher: is told what happens.
        command: what makes the tables, as they tell their reader.

    Raises:
        ConfigError: a mistake in the grid, of all runs in one error.
        StudyError: the folder belongs to another sweep, or another command works on it.
        DataError: the data is missing, or the folder cannot be written.
        ProcessError: the cluster does not answer, has no room, or does not see the folder.
    """
    check_sweep(request, folder, machine)
    watching = watcher or JobWatcher()
    remedy = "Wait for it, or stop it; then repeat the command."
    with machine.launcher(folder) as launcher, FileLock(folder / LOCK, remedy=remedy):
        made = plan_sweep(request, folder)
        _keep(made, folder)
        _do(made, folder, machine, launcher, watching)
        result = SweepResult(folder, tuple(plan_sweep(request, folder).known.values()))
        return replace(result, files=_write(result, command, watching))


def check_sweep(request: SweepRequest, folder: Path, machine: Machine) -> SweepPlan:
    """Check all that :func:`run_sweep` refuses before its first run; nothing is written.

    Raises:
        VerifyPipelineError: as :func:`run_sweep`, but for another command that works there.
    """
    choose_device(machine.device)
    check_folder(folder)
    made = plan_sweep(request, folder)
    _check_data(made, machine.data_root)
    return made


def _check_data(made: SweepPlan, data_root: Path | None) -> None:
    """Refuse, before the first of many processes, what each of them would refuse."""
    sizes: dict[DataSettings | OwnDataSettings, tuple[int, int]] = {}
    for recipe in made.recipes.values():
        chosen = replace(recipe.train.data, validation=0, augment=True)
        if chosen not in sizes:
            train, test = (chosen.images(split, data_root) for split in get_args(Split))
            sizes[chosen] = len(train), len(test)
        images, test_images = sizes[chosen]
        check_held_out(recipe, images)
        pipeline.check_certification(recipe.certify, test_images)


def _keep(made: SweepPlan, folder: Path) -> None:
    if (folder / folders.SWEEP).is_file():
        folders.keep_again(folder, folders.SWEEP, made.said)
    else:
        folders.keep(folder, folders.SWEEP, made.said, made.text)


def _do(
    made: SweepPlan, folder: Path, machine: Machine, launcher: Launcher, watcher: JobWatcher
) -> None:
    """Run what is to be done."""
    todo = iter(made.todo)
    left = len(made.todo)
    watcher.planned(len(made.runs), len(made.runs) - left, launcher.jobs)
    done: list[float] = []

    def next_job() -> RunJob | None:
        run = next(todo, None)
        if run is None:
            return None
        values = {**made.said["set"], **run.values}
        values["name"] = full_name(made.said["recipe"], run.name)
        place = folder / run.name
        return RunJob(
            run.name, place, {**run_job(place, folder / RECIPE, values), **machine.options}
        )

    for ended in run_all(next_job, launcher, lambda job: watcher.started(job.name)):
        _keep_state(ended)
        left -= 1
        watcher.ended(ended.job.name, ended.error, ended.seconds)
        if ended.error is None:
            done.append(ended.seconds)
        if done and left:
            watcher.expected(left, seconds_left(done, left, launcher.jobs))


def _keep_state(ended: Ended) -> None:
    state = "done" if ended.error is None else "failed"
    about = {"state": state, "seconds": ended.seconds, "error": ended.error}
    write_whole(ended.job.folder / STATE, f"{json.dumps(about, ensure_ascii=False)}\n")


def _known(place: Path, run: GridRun, recipe: Recipe) -> SweepRun:
    """What is known of a run; one whose verdicts are gone is open again."""
    nothing = SweepRun(run.name, run.values, "open")
    try:
        about = strict_json.parse((place / STATE).read_text(encoding="utf-8"))
        state, seconds, error = about["state"], float(about["seconds"]), about["error"]
    except FileNotFoundError:
        return nothing
    except (OSError, ValueError, KeyError, TypeError) as damage:
        raise StudyError(
            str(place / STATE),
            expected="what is known of a run",
            got=str(damage),
            remedy="Delete the file; the run is then continued.",
        ) from None
    if state != "done":
        return replace(nothing, state="failed", seconds=seconds, error=f"{error}")
    summary = finished_test(place, recipe)
    if summary is None:
        return nothing
    return replace(nothing, state="done", seconds=seconds, summary=summary)


def _write(result: SweepResult, command: str, watcher: JobWatcher) -> tuple[Path, ...]:
    """The table of the verdicts and its figure, and a table of all runs, failed ones too."""
    summaries = [run.summary for run in result.runs if run.summary is not None]
    frame = result.to_frame().assign(generated_by=command)
    text = frame.to_csv(index=False, lineterminator="\n")
    files: tuple[Path, ...] = (write_whole(result.folder / "runs.csv", text),)
    if not summaries:
        return files
    files += reports.tabulate(summaries, result.folder, "table", command)
    return files + draw_figure(summaries, result.folder, command, watcher)
