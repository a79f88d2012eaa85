"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
