"""The commands: each reads its arguments, calls the pipeline, and shows the result.

Only typer and rich are imported at the top. The commands import torch and the rest of the package
themselves, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify_pipeline._version import __version__
from verify_pipeline.cli import panels
from verify_pipeline.cli.arguments import epoch_of, named, pairs_of, this_command
from verify_pipeline.cli.certifying import certify, recheck
from verify_pipeline.cli.crosschecking import crosscheck
from verify_pipeline.cli.framework import Command, Group, refuse_torchrun, run_application
from verify_pipeline.cli.grouping import grouped
from verify_pipeline.cli.ledgers import ledgers
from verify_pipeline.cli.options import (
    DataRoot,
    Device,
    Out,
    Overrides,
    RecipeArgument,
    Shown,
    folder,
)
from verify_pipeline.cli.planning import plan
from verify_pipeline.cli.plotting import plot
from verify_pipeline.cli.proofs import check_proofs
from verify_pipeline.cli.properties import vnncomp, vnncomp_merge, vnncomp_table, vnnlib
from verify_pipeline.cli.radius import radius
from verify_pipeline.cli.reporting_page import report
from verify_pipeline.cli.showing import show
from verify_pipeline.cli.status import status
from verify_pipeline.cli.sweeping import front, sweep, tune
from verify_pipeline.cli.tabulating import table
from verify_pipeline.cli.watching import Reporter, reporter

if TYPE_CHECKING:
    from verify_pipeline.run_folders import Begun


app = typer.Typer(
    name="verify-pipeline",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Train networks with expressive losses, export them to ONNX, certify whole data sets, and "
        "tabulate the results.\n\n"
        "Exit codes: 0 done, 2 something in the command, the files or the installation is not as "
        "it must be (the message says what and what to do), 130 stopped by Ctrl-C."
    ),
)


_command = functools.partial(app.command, cls=Command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"verify-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Options of the command itself; its help is the application's."""
    refuse_torchrun(context.invoked_subcommand)


@_command()
def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Show this recipe in full, defaults included.")
    ] = None,
) -> None:
    """List the recipes that come with the package, or show one in full."""
    from verify_pipeline.config import dump, load_recipe, recipe_names

    if name is not None:
        typer.echo(dump(load_recipe(name)), nl=False)
        return
    names = recipe_names()
    width = max(map(len, names))
    for each in names:
        typer.echo(f"{each:<{width}}  {load_recipe(each).description}")


@_command()
@grouped
def train(
    recipe: RecipeArgument,
    out: Out,
    shown: Shown,
    data_root: DataRoot = None,
    device: Device = "auto",
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Write metrics for TensorBoard, too.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Train the network of a recipe.

    Writes a checkpoint after each epoch and metrics.csv into --out. If it is interrupted, the same
    command continues it; on the CPU the result equals that of an uninterrupted run.

    torchrun --nproc-per-node N -m verify_pipeline train … trains in N processes, on the same
    batches: see docs/several-machines.md.
    """
    from verify_pipeline import pipeline, process_group
    from verify_pipeline.run_folders import KeepBegun, begin
    from verify_pipeline.training import Several, Silent, TensorBoard

    told = reporter(shown)
    with process_group.joined() as group:
        begun = group.shared(lambda: begin(recipe, pairs_of(overrides), out, device))
        board = TensorBoard(out / "tensorboard") if tensorboard and group.is_first else Silent()
        pipeline.train(
            begun.recipe,
            out,
            data_root=data_root,
            device=device,
            observer=Several(KeepBegun(out, begun), board, told.training or Silent()),
            progress=told.progress,
            group=group,
        )
        if group.is_first:
            told.trained(begun.recipe, out)


@_command()
def export(
    trained: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of a finished training.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file. Default: FOLDER/<recipe>.onnx.", rich_help_panel=panels.OUTPUT
        ),
    ] = None,
    epoch: Annotated[
        str | None,
        typer.Option(
            metavar="N|best|last",
            help="The epoch whose network it is, of those that the folder keeps. Default: the "
            "run's network, as keep.network says.",
            rich_help_panel=panels.RECIPE,
        ),
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Write a trained network as one ONNX file.

    The file contains the normalisation and the folded batch norm; its batch axis is free. It is
    written only if onnxruntime reproduces the network's outputs on random inputs and on test
    images.
    """
    from verify_pipeline import pipeline
    from verify_pipeline.cli.show import show_export

    if out is not None:
        named("--out", out)
    show_export(pipeline.export_folder(trained, out, data_root, epoch_of(epoch)))


_command()(plan)
_command()(certify)
_command()(recheck)
_command("check-proofs")(check_proofs)
_command()(radius)
_command()(show)
_command()(vnnlib)
_command()(vnncomp)
_command()(crosscheck)
_command()(plot)
_command("vnncomp-merge")(vnncomp_merge)
_command("vnncomp-table")(vnncomp_table)
_command()(status)
app.add_typer(ledgers, name="ledger")
_command()(sweep)
_command()(tune)
_command()(front)


@_command()
@grouped
def run(
    recipe: RecipeArgument,
    out: Out,
    shown: Shown,
    data_root: DataRoot = None,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """Do everything a recipe says: train, export, certify all test images, tabulate.

    If it is interrupted, the same command continues it; --set need not be typed again.
    """
    from verify_pipeline.run_folders import begin

    told = reporter(shown)
    _run(begin(recipe, pairs_of(overrides), out, device), out, data_root, told)


@_command()
@grouped
def demo(
    shown: Shown,
    out: Annotated[
        Path,
        typer.Option(
            parser=folder,
            metavar="PATH",
            help="Folder for everything that is made.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = Path("results/demo"),
    overrides: Overrides = None,
) -> None:
    """Train on small digits (8 x 8, embedded), export, certify every test image, tabulate.

    It takes about a minute and uses one CPU core only, so that sums do not depend on the number of
    cores: the same seed gives the same table.
    """
    import torch

    from verify_pipeline.run_folders import begin

    told = reporter(shown)
    torch.set_num_threads(1)
    _run(begin("digits-cc-ibp", pairs_of(overrides), out, "cpu"), out, None, told)


_command()(table)
_command()(report)


@_command()
def publish(
    run_folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of a finished `run`.")
    ],
    models: Annotated[
        Path,
        typer.Option(
            parser=folder,
            metavar="PATH",
            help="Where the file and its card go.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = Path("models"),
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace another network of the same name there.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = False,
    data_root: DataRoot = None,
) -> None:
    """Copy the network of a finished run into a folder of models, with a card of its results.

    The card names the recipe, the seed, the file's hash, the verdicts, and the commands.
    """
    from verify_pipeline import reports

    written = reports.publish(
        run_folder, models, this_command(), overwrite=overwrite, data_root=data_root
    )
    for path in written:
        typer.echo(f"wrote {path}")


@_command()
def doctor(data_root: DataRoot = None) -> None:
    """Show the installation: versions, device, external tools, data root.

    Exits with 2 when a requirement of the main commands is missing.
    """
    from verify_pipeline.doctor import examine

    findings = tuple(examine(data_root))
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        color = typer.colors.RED if finding.missing else None
        typer.secho(f"{finding.subject:<{width}}  {finding.fact}", fg=color)
        if finding.remedy:
            typer.echo(f"{'':<{width}}  -> {finding.remedy}")
    if any(finding.missing for finding in findings):
        raise typer.Exit(2)


def _run(begun: Begun, out: Path, data_root: Path | None, told: Reporter) -> None:
    from verify_pipeline import pipeline
    from verify_pipeline.atomic_write import check_folder
    from verify_pipeline.certify.settings import plan
    from verify_pipeline.run_folders import LEDGER, KeepBegun
    from verify_pipeline.training import Several, Silent

    check_folder(out)
    told.ignored(plan(begun.recipe.certify), begun.recipe.certify.search)
    outcome = pipeline.run(
        begun.recipe,
        out,
        data_root=data_root,
        device=begun.device,
        train_observer=Several(KeepBegun(out, begun), told.training or Silent()),
        certify_observer=told.certification,
        command=begun.command(out),
        progress=told.progress,
    )
    told.exported(outcome.export)
    told.certified(outcome.summary, out / LEDGER)
    told.wrote(outcome.tables)


def main() -> None:
    """Entry point of the console command."""
    run_application(app)
