"""The command `table`: verdicts of ledgers as a table, in every format."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify_pipeline.cli import options, panels
from verify_pipeline.cli.arguments import named, pairs_of, this_command
from verify_pipeline.cli.grouping import grouped
from verify_pipeline.cli.proofs import ResultsOfProofs

if TYPE_CHECKING:
    from verify_pipeline.certify.tally import Summary


class Format(StrEnum):
    """What `table --format` prints."""

    TEXT = "text"
    MARKDOWN = "markdown"
    CSV = "csv"
    LATEX = "latex"
    HTML = "html"


Ledgers = Annotated[list[Path], typer.Argument(metavar="LEDGER...", help="SQLite files.")]
By = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Group rows by these, comma-separated: network, method, alpha, sabr_lambda, "
        "architecture, seed, or a setting of the training such as train.optimiser.l1. Default: "
        "runs that differ in their seed only make one row.",
        rich_help_panel=panels.TABLE,
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Show these columns, comma-separated, such as method,alpha,standard,verified.",
        rich_help_panel=panels.TABLE,
    ),
]
VerdictsOf = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=FILE",
        help="Add a column with another tool's verdicts: a CSV file with the columns image, "
        "verdict, and network where there are several. Repeatable.",
        rich_help_panel=panels.TABLE,
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="What to print.", rich_help_panel=panels.OUTPUT)
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Write OUT.csv, OUT.md, OUT.tex, OUT.html and seconds in OUT-seconds.csv and .md, "
        "too; with --literature also OUT.bib.",
        rich_help_panel=panels.OUTPUT,
    ),
]
ImagesFrame = Annotated[
    Path | None,
    typer.Option(
        help="Write one row for each image, to a file that ends in .csv or .parquet.",
        rich_help_panel=panels.OUTPUT,
    ),
]


@dataclass(frozen=True)
class TableOptions:
    """What the table shows, as typed."""

    by: By = None
    columns: Columns = None
    literature: options.Literature = False
    verdicts_of: VerdictsOf = None


@dataclass(frozen=True)
class TableFiles:
    """Where it is written, as typed."""

    format_: FormatOption = Format.TEXT
    out: Out = None
    images_frame: ImagesFrame = None
    proofs: ResultsOfProofs = None


@grouped
def table(ledgers: Ledgers, shown: TableOptions, files: TableFiles) -> None:
    """Tabulate the verdicts of ledgers: runs that differ in their seed only make one row.

    A row of several seeds shows mean ± standard deviation, a row of one seed the 95 % Wilson
    interval over images. The best figures are bold.
    """
    from verify_pipeline import reports
    from verify_pipeline.cli.show import show_summaries
    from verify_pipeline.reporting import Layout, read_other_verdicts, rendered, write_images
    from verify_pipeline.reporting.files import check_images_path

    for option, path in (("--out", files.out), ("--images-frame", files.images_frame)):
        if path is not None:
            named(option, path)
    if files.images_frame is not None:
        check_images_path(files.images_frame)
    others = pairs_of(shown.verdicts_of, "--verdicts-of")
    layout = Layout(
        _names(shown.by),
        _names(shown.columns),
        shown.literature,
        tuple(read_other_verdicts(name, Path(path)) for name, path in others.items()),
    )
    results = reports.read_ledgers(ledgers)
    written: list[Path] = []
    if files.out is not None:
        folder, name = files.out.parent, files.out.name
        written += reports.tabulate(results, folder, name, this_command(), layout)
    if files.images_frame is not None:
        written.append(write_images(results, files.images_frame))
    as_text = files.format_ is Format.TEXT
    if as_text:
        show_summaries(results, layout)
    else:
        typer.echo(rendered(results, files.format_.value, this_command(), layout), nl=False)
    if files.proofs is not None:
        for line in _checked(results, files.proofs):
            typer.echo(line, err=not as_text)
    for path in written:
        typer.echo(f"wrote {path}", err=not as_text)


def _checked(results: list[Summary], proofs: Path) -> list[str]:
    """How many verdicts of each run the checker has checked."""
    from verify_pipeline.proving.results import checked_verdicts, read_results

    found = read_results(proofs)
    return [str(checked_verdicts(summary, found)) for summary in results]


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())
