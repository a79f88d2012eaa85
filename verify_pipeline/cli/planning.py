"""The command that says what a recipe will cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from verify_pipeline.cli import panels
from verify_pipeline.cli.arguments import recipe_of
from verify_pipeline.cli.dry_run import Measure, told
from verify_pipeline.cli.grouping import grouped
from verify_pipeline.cli.options import DataRoot, Device, Overrides, RecipeArgument, Shown
from verify_pipeline.cli.watching import refuse_both


@grouped
def plan(
    recipe: RecipeArgument,
    shown: Shown,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|ONNX",
            help="Folder of a finished or unfinished training of this recipe, or an ONNX file: a "
            "sample of its certification is measured, too, for as many seconds.",
            rich_help_panel=panels.RECIPE,
        ),
    ] = None,
    measure: Measure = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    overrides: Overrides = None,
) -> None:
    """Say what a recipe will cost: time, memory and disk, from a minute of its training.

    Some steps of each phase of the training are done on the real images; nothing is kept. What the
    certification costs depends on the trained network: without --like there is an upper limit only.
    No file is created or changed.
    """
    from verify_pipeline.cli.forecast_text import lines
    from verify_pipeline.cli.recipe_text import recipe_rows
    from verify_pipeline.planning.certification import MEASURE
    from verify_pipeline.planning.recipe import plan_recipe

    refuse_both(shown)
    found = plan_recipe(
        recipe_of(recipe, overrides),
        like=like,
        data_root=data_root,
        device=device,
        seconds=MEASURE if measure is None else measure,
        tell=told(not (shown.quiet or shown.json)),
    )
    if shown.json:
        typer.echo(json.dumps(found.fields(), ensure_ascii=False))
    else:
        typer.echo("\n".join(lines(recipe_rows(found))))
