"""The commands that run a recipe many times, and compare what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify_pipeline.cli import options, panels
from verify_pipeline.cli.arguments import named, pairs_of, this_command
from verify_pipeline.cli.grouping import grouped
from verify_pipeline.cli.workers import RunOptions
from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from verify_pipeline.cli.sweep_watching import SweepReporter
    from verify_pipeline.sweeps.results import TuneResult

DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check everything and show the plan; start nothing and write nothing.",
        rich_help_panel=panels.OUTPUT,
    ),
]


@grouped
def sweep(
    recipe: options.RecipeArgument,
    out: options.Out,
    where: options.Where,
    by: RunOptions,
    shown: options.Shown,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="KEY=VALUE,…",
            help="Values of a key of the recipe, for example train.loss.alpha=0.01,0.1,1. "
            "Repeatable: all combinations are run.",
            rich_help_panel=panels.RECIPE,
        ),
    ] = None,
    seeds: Annotated[
        int,
        typer.Option(
            help="Seeds for each combination: the recipe's own, and those after it.",
            rich_help_panel=panels.RECIPE,
        ),
    ] = 1,
    overrides: options.Overrides = None,
    dry_run: DryRun = False,
) -> None:
    """Run a recipe for every combination of some values, and tabulate all of them.

    Each run is a whole `run` in a process and a folder of its own, named after what differs. A run
    that fails does not end the others; the same command tries it again, and continues what was
    interrupted. More values and seeds may be added later. Exits with 2 if a run failed.
    """
    from verify_pipeline.sweeps.grid import read_grid
    from verify_pipeline.sweeps.machine import Machine
    from verify_pipeline.sweeps.runner import SweepRequest, check_sweep, run_sweep

    told = _reporter(shown, "runs", dry_run)
    request = SweepRequest(recipe, read_grid(grid or []), seeds, pairs_of(overrides))
    machine = Machine(by.chosen, where.data_root, where.device)
    if dry_run:
        plan = check_sweep(request, out, machine)
        typer.echo(f"{len(plan.runs)} runs, {len(plan.todo)} to do")
        for run in plan.runs:
            typer.echo(f"{plan.known[run.name].state:<6}  {run.name}")
        return
    result = run_sweep(request, out, machine, told.watcher, this_command())
    done = [run.summary for run in result.runs if run.summary is not None]
    told.finished(done, result.to_frame())
    told.wrote(result.files)
    for failed in result.failed:
        typer.echo(f"failed: {failed.name}: {failed.error}", err=True)
    if result.failed:
        typer.echo("the same command tries them again", err=True)
        raise typer.Exit(2)


@dataclass(frozen=True)
class SearchOptions:
    """Options about what is searched and how it is measured, as typed."""

    objectives: Annotated[
        str,
        typer.Option(
            help="What is maximised, comma-separated: standard, verified, attack-robust.",
            rich_help_panel=panels.SEARCH,
        ),
    ] = "standard,verified"
    estimate: Annotated[
        str,
        typer.Option(
            help="How verified accuracy is measured in the search: complete (by all stages "
            "of the recipe), or crown or ibp (by bounds alone).",
            rich_help_panel=panels.SEARCH,
        ),
    ] = "complete"
    timeout: Annotated[
        float | None,
        typer.Option(
            help="Seconds for each validation image. Default: as the recipe says, at most 10.",
            rich_help_panel=panels.SEARCH,
        ),
    ] = None
    space: Annotated[
        Path | None,
        typer.Option(
            help="YAML file of the search space. Default: the package's for the recipe's loss.",
            rich_help_panel=panels.SEARCH,
        ),
    ] = None
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of the search; trainings have the recipe's.",
            rich_help_panel=panels.SEARCH,
        ),
    ] = 0
    prune: Annotated[
        bool,
        typer.Option(
            "--prune/--no-prune",
            help="End trainings early that are far behind in standard and IBP accuracy.",
            rich_help_panel=panels.SEARCH,
        ),
    ] = True


@grouped
def tune(
    recipe: options.RecipeArgument,
    out: options.Out,
    searched: SearchOptions,
    where: options.Where,
    by: RunOptions,
    shown: options.Shown,
    trials: Annotated[
        int, typer.Option(help="Trials of the study.", rich_help_panel=panels.SEARCH)
    ] = 60,
    overrides: options.Overrides = None,
    dry_run: DryRun = False,
) -> None:
    """Search a recipe's settings for a Pareto front of standard and verified accuracy.

    Trials are chosen on images that are held out of training, by all stages of the recipe's
    certification if nothing else is said. The front's networks are then certified on the test
    images. Writes report.md, CSV files, and the front's recipes, which `run` takes. The same
    command continues what was interrupted; several commands may work on one folder. Exits with
    2 if no trial is complete, or if test images of the front are not certified. Needs the extra
    `tune`.
    """
    from verify_pipeline.sweeps import tune_plan, tuner
    from verify_pipeline.sweeps.machine import Machine
    from verify_pipeline.sweeps.pruning import PruningRule

    told = _reporter(shown, "trials", dry_run)
    request = tune_plan.TuneRequest(
        recipe,
        pairs_of(overrides),
        tuple(name.strip() for name in searched.objectives.split(",")),
        searched.estimate,
        searched.timeout,
        searched.space,
        searched.seed,
        PruningRule(active=searched.prune),
    )
    machine = Machine(by.chosen, where.data_root, where.device)
    if dry_run:
        plan = tuner.check_tuning(request, out, trials, machine)
        typer.echo(f"{trials} trials in {out}{', begun already' if plan.begun else ''}")
        for line in plan.lines:
            typer.echo(line)
        return
    result = tuner.tune(request, out, trials, machine, told.watcher, this_command())
    tested = [trial.summary for trial in result.front if trial.summary is not None]
    told.finished(tested, result.to_frame())
    if result.files:
        front_of = f"front: {len(result.front)} of {len(result.trials)} trials"
        told.wrote(result.files, f"{front_of}, {out / 'report.md'}")
        _tell_unfinished(result)


def _tell_unfinished(result: TuneResult) -> None:
    """Say what is missing of a tuning that has ended, and exit with 2 if something is."""
    if not result.front:
        errors = [trial.error for trial in result.trials if trial.error]
        last = f"; the last one failed: {errors[-1]}" if errors else ""
        typer.echo(f"no trial is complete{last}", err=True)
        raise typer.Exit(2)
    open_ = [str(trial.number) for trial in result.front if trial.summary is None]
    if open_:
        typer.echo(
            f"test images are not certified, of trials {', '.join(open_)}; the same command tries "
            "again",
            err=True,
        )
        raise typer.Exit(2)


@grouped
def front(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]FOLDER...",
            help="Folders of sweeps and tunings. Those of one name are repetitions of one method.",
        ),
    ],
    shown: options.Shown,
    reference: Annotated[
        str,
        typer.Option(
            metavar="STANDARD,VERIFIED",
            help="The point that dominated areas start at, in %.",
            rich_help_panel=panels.QUESTION,
        ),
    ] = "0,0",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write OUT.md, OUT.csv, OUT-points.csv and OUT-attained.csv, too.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = None,
) -> None:
    """Compare methods: the area that their fronts dominate, and what half of their seeds attain.

    The points are standard and verified accuracy on test images. Each tuning, and each seed of a
    sweep, is one repetition of its method. Results of different test images or ε are refused.
    """
    from verify_pipeline.sweeps.comparison import compare_fronts, named_folders
    from verify_pipeline.sweeps.comparison_report import write_comparison

    told = _reporter(shown, "methods")
    if out is not None:
        named("--out", out)
    compared = compare_fronts(named_folders(folders), _reference(reference))
    told.compared(compared)
    if out is not None:
        told.wrote(write_comparison(compared, out.parent, out.name, this_command()))


def _reference(text: str) -> tuple[float, ...]:
    try:
        percentages = [float(part) for part in text.split(",")]
    except ValueError:
        percentages = []
    if len(percentages) != 2 or not all(0 <= each < 100 for each in percentages):
        expected = "two numbers from 0 to below 100, in %"
        raise ConfigError("--reference", expected=expected, got=repr(text))
    return tuple(each / 100 for each in percentages)


def _reporter(shown: options.Shown, what: str, dry_run: bool = False) -> SweepReporter:
    from verify_pipeline.cli.sweep_watching import sweep_reporter

    if dry_run and shown.json:
        raise ConfigError("--dry-run and --json", expected="one of them", got="both")
    return sweep_reporter(shown, what)
