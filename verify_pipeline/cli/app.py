"""The commands. Each is a few lines: read the arguments, call the pipeline, show what came back.

Only typer and rich are imported at the top: torch and the package's parts come in inside the
commands, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from verify_pipeline._version import __version__
from verify_pipeline.cli.arguments import named, pairs_of, this_command
from verify_pipeline.cli.certifying import certify, recheck
from verify_pipeline.cli.crosschecking import crosscheck
from verify_pipeline.cli.options import DataRoot, Device, Out, Overrides, RecipeArgument, folder
from verify_pipeline.cli.properties import vnncomp, vnncomp_table, vnnlib
from verify_pipeline.errors import VerifyPipelineError

if TYPE_CHECKING:
    from verify_pipeline.run_folders import Begun


class _Group(TyperGroup):
    """Turns the errors a user can mend into a message and an exit code, whatever the command."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command line's command."""
        try:
            return super().invoke(ctx)
        except VerifyPipelineError as error:
            sys.stdout.flush()
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has left; typer ends quietly
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(VerifyPipelineError.exit_code) from None
        except KeyboardInterrupt:
            typer.echo("\nstopped; continue with the same command", err=True)
            raise typer.Exit(130) from None


app = typer.Typer(
    name="verify-pipeline",
    cls=_Group,
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


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"verify-pipeline {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version."),
    ] = False,
) -> None:
    """Options of the command itself; its help is the application's."""


@app.command()
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


@app.command()
def train(
    recipe: RecipeArgument,
    out: Out,
    data_root: DataRoot = None,
    device: Device = "auto",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write metrics for TensorBoard, too.")
    ] = False,
    overrides: Overrides = None,
) -> None:
    """Train the network of a recipe.

    Writes a checkpoint after each epoch and metrics.csv into --out. Stopped at any moment, the
    same command continues; on the CPU the result is the same as in one go.
    """
    from verify_pipeline import pipeline
    from verify_pipeline.run_folders import KeepBegun, begin
    from verify_pipeline.training import Several, TensorBoard, TrainObserver

    begun = begin(recipe, pairs_of(overrides), out, device)
    observer: TrainObserver = KeepBegun(out, begun)
    if tensorboard:
        observer = Several(observer, TensorBoard(out / "tensorboard"))
    pipeline.train(
        begun.recipe, out, data_root=data_root, device=device, observer=observer, progress=True
    )
    typer.echo(f"trained {begun.recipe.name}: {out}")


@app.command()
def export(
    trained: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of a finished training.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The file. Default: FOLDER/<recipe>.onnx.")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Write a trained network as one ONNX file.

    Normalisation is inside, batch norm folded, the batch axis free. The file appears only if
    onnxruntime computes with it what the network does, on random inputs and on test images.
    """
    from verify_pipeline import pipeline
    from verify_pipeline.cli.show import show_export

    if out is not None:
        named("--out", out)
    show_export(pipeline.export_folder(trained, out, data_root))


app.command()(certify)
app.command()(recheck)
app.command()(vnnlib)
app.command()(vnncomp)
app.command()(crosscheck)
app.command("vnncomp-table")(vnncomp_table)


@app.command()
def run(
    recipe: RecipeArgument,
    out: Out,
    data_root: DataRoot = None,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """Do everything a recipe says: train, export, certify all test images, tabulate.

    Stopped at any moment, the same command continues; what --set said need not be typed again.
    """
    from verify_pipeline.run_folders import begin

    _run(begin(recipe, pairs_of(overrides), out, device), out, data_root)


@app.command()
def demo(
    out: Annotated[
        Path,
        typer.Option(parser=folder, metavar="PATH", help="Folder for everything that is made."),
    ] = Path("results/demo"),
    overrides: Overrides = None,
) -> None:
    """Train on small digits (8 x 8, embedded), export, certify every test image, tabulate.

    About a minute on one CPU core, and only one is used: sums do not depend on how many there are,
    so the same seed gives the same table.
    """
    import torch

    from verify_pipeline.run_folders import begin

    torch.set_num_threads(1)
    _run(begin("digits-cc-ibp", pairs_of(overrides), out, "cpu"), out, None)


@app.command()
def table(
    ledgers: Annotated[list[Path], typer.Argument(metavar="LEDGER...", help="SQLite files.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Write OUT.csv, OUT.md and their -seconds companions, too."),
    ] = None,
) -> None:
    """Tabulate what ledgers hold: one row for each run."""
    from verify_pipeline import reports
    from verify_pipeline.cli.show import show_summaries

    if out is not None:
        named("--out", out)
    results = reports.read_ledgers(ledgers)
    show_summaries(results)
    if out is not None:
        for path in reports.tabulate(results, out.parent, out.name, this_command()):
            typer.echo(f"wrote {path}")


@app.command()
def publish(
    run_folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder of a finished `run`.")
    ],
    models: Annotated[
        Path,
        typer.Option(parser=folder, metavar="PATH", help="Where the file and its card go."),
    ] = Path("models"),
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another network of the same name there.")
    ] = False,
    data_root: DataRoot = None,
) -> None:
    """Copy the network of a finished run into a folder of models, with a card of what was proved.

    The card names the recipe, the seed, the file's hash, the verdicts, and the commands.
    """
    from verify_pipeline import reports

    written = reports.publish(
        run_folder, models, this_command(), overwrite=overwrite, data_root=data_root
    )
    for path in written:
        typer.echo(f"wrote {path}")


@app.command()
def doctor(data_root: DataRoot = None) -> None:
    """Show what is installed and what would be used: versions, device, tools, data root.

    Exits with 2 when something that the main commands need is missing.
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


def _run(begun: Begun, out: Path, data_root: Path | None) -> None:
    from verify_pipeline import pipeline
    from verify_pipeline.cli.show import show_export, show_summaries
    from verify_pipeline.run_folders import KeepBegun

    outcome = pipeline.run(
        begun.recipe,
        out,
        data_root=data_root,
        device=begun.device,
        train_observer=KeepBegun(out, begun),
        command=begun.command(out),
        progress=True,
    )
    show_export(outcome.export)
    show_summaries([outcome.summary])
    typer.echo("\n".join(f"wrote {path}" for path in outcome.tables))


def main() -> None:
    """Entry point of the console command."""
    app()
