"""The commands. Each is a few lines: read the arguments, call the pipeline, show what came back.

Only typer and rich are imported at the top: torch and the package's parts come in inside the
commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from verify_pipeline.errors import ConfigError, VerifyPipelineError

if TYPE_CHECKING:
    from verify_pipeline.config import Recipe


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

RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="Name of a recipe (see `recipes`), or path of a YAML file."
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder that holds the data sets. Default: the environment variable "
        "VERIFY_PIPELINE_DATA, then downloads."
    ),
]
Out = Annotated[
    Path, typer.Option(help="Folder for everything that is made; the same command continues there.")
]
Device = Annotated[
    str, typer.Option(help="Where to compute: auto (CUDA if there is one), cpu, cuda, cuda:1, …")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Replace a value of the recipe, such as train.loss.alpha=0.5. Repeatable.",
    ),
]


def _recipe(source: str, overrides: list[str] | None) -> Recipe:
    from verify_pipeline.config import load_recipe

    pairs = {}
    for text in overrides or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("--set", expected="KEY=VALUE", got=repr(text))
        pairs[key] = value
    return load_recipe(source, pairs)


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
    from verify_pipeline.cli.progress import Bar, TrainProgress
    from verify_pipeline.training import Several, TensorBoard, TrainObserver

    chosen = _recipe(recipe, overrides)
    with Bar() as bar:
        observer: TrainObserver = TrainProgress(bar)
        if tensorboard:
            observer = Several(observer, TensorBoard(out / "tensorboard"))
        pipeline.train(chosen, out, data_root=data_root, device=device, observer=observer)
    typer.echo(f"trained {chosen.name}: {out}")


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


def main() -> None:
    """Entry point of the console command."""
    app()
