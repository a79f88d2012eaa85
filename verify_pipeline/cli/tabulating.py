"""The command `table`: verdicts of ledgers as a table, in every format."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from verify_pipeline.cli import panels
from verify_pipeline.cli.arguments import named, pairs_of, this_command


class Format(StrEnum):
    """What `table --format` prints."""

    TEXT = "text"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"
    HTML = "html"


def table(
    ledgers: Annotated[list[Path], typer.Argument(metavar="LEDGER...", help="SQLite files.")],
    by: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Group rows by these, comma-separated: network, method, alpha, sabr_lambda, "
            "architecture, seed, or a setting of the training such as train.optimiser.l1. Default: "
            "runs that differ in their seed only make one row.",
            rich_help_panel=panels.TABLE,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Show these columns, comma-separated, such as method,alpha,standard,verified.",
            rich_help_panel=panels.TABLE,
        ),
    ] = None,
    literature: Annotated[
        bool,
        typer.Option(
            "--literature",
            help="Add published results on the same data and ε, and the differences to them.",
            rich_help_panel=panels.TABLE,
        ),
    ] = False,
    verdicts_of: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Add a column with another tool's verdicts: a CSV file with the columns image, "
            "verdict, and network where there are several. Repeatable.",
            rich_help_panel=panels.TABLE,
        ),
    ] = None,
    format_: Annotated[
        Format,
        typer.Option("--format", help="What to print.", rich_help_panel=panels.OUTPUT),
    ] = Format.TEXT,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write OUT.csv, OUT.md, OUT.tex, OUT.html and seconds in OUT-seconds.csv and .md, "
            "too; with --literature also OUT.bib.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = None,
    images_frame: Annotated[
        Path | None,
        typer.Option(
            help="Write one row for each image, to a file that ends in .csv or .parquet.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = None,
) -> None:
    """Tabulate the verdicts of ledgers: runs that differ in their seed only make one row.

    A row of several seeds shows mean ± standard deviation, a row of one seed the 95 % Wilson
    interval over images. The best figures are bold.
    """
    from verify_pipeline import reports
    from verify_pipeline.cli.show import show_summaries
    from verify_pipeline.reporting import Layout, read_other_verdicts, rendered, write_images

    for option, path in (("--out", out), ("--images-frame", images_frame)):
        if path is not None:
            named(option, path)
    others = pairs_of(verdicts_of, "--verdicts-of")
    layout = Layout(
        _names(by),
        _names(columns),
        literature,
        tuple(read_other_verdicts(name, Path(path)) for name, path in others.items()),
    )
    results = reports.read_ledgers(ledgers)
    if format_ is Format.TEXT:
        show_summaries(results, layout)
    else:
        typer.echo(rendered(results, format_.value, this_command(), layout), nl=False)
    written = [write_images(results, images_frame)] if images_frame is not None else []
    if out is not None:
        written += reports.tabulate(results, out.parent, out.name, this_command(), layout)
    for path in written:
        typer.echo(f"wrote {path}", err=format_ is not Format.TEXT)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
