"""The command `report`: one HTML page of runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify_pipeline.cli import options, panels
from verify_pipeline.cli.arguments import named, own_arrays, this_command
from verify_pipeline.errors import DataError

if TYPE_CHECKING:
    from verify_pipeline.data import ImageSet


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs, or SQLite files.")
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The page.", rich_help_panel=panels.OUTPUT),
    ] = Path("report.html"),
    title: Annotated[
        str,
        typer.Option(help="Title of the page.", rich_help_panel=panels.OUTPUT, show_default="runs"),
    ] = "",
    gallery: Annotated[
        int,
        typer.Option(
            help="How many images of each kind are shown: counterexamples, open images, hardest "
            "proofs.",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = 12,
    literature: options.Literature = False,
    class_names: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of the classes: a text file with one a line. Default: the data set's.",
            rich_help_panel=panels.IMAGES,
        ),
    ] = None,
    images: options.Images = None,
    labels: options.Labels = None,
    data_root: options.DataRoot = None,
) -> None:
    """Write one HTML page of runs, for a paper's supplement or a colleague.

    It has the table of results, figures, the stages with their costs, counterexamples, open images,
    hardest proofs, which class threatens which, a table of all images that sorts and filters, and
    how to make the runs again. Everything is in the file; it makes no request.
    """
    from verify_pipeline import report_page
    from verify_pipeline.reporting import Layout

    named("--out", out)
    names = () if class_names is None else _lines(class_names)
    page = report_page.report(
        runs,
        out,
        title=title,
        gallery=gallery,
        layout=Layout(literature=literature),
        images=_own_images(images, labels),
        class_names=names,
        data_root=data_root,
        command=this_command(),
    )
    typer.echo(f"wrote {page}")


def _own_images(images: Path | None, labels: Path | None) -> ImageSet | None:
    from verify_pipeline import data

    own = own_arrays(images, labels)
    if own is None:
        return None
    return data.from_arrays(own.images, own.labels, None, own.name, "arrays")


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"class names {path}", expected="a text file", got=str(error)) from None
    names = tuple(line.strip() for line in lines)
    empty = [place for place, name in enumerate(names, 1) if not name]
    if not names or empty:
        raise DataError(
            f"class names {path}",
            expected="a name on each line, class 0 first",
            got=f"nothing on line {empty[0]}" if empty else "an empty file",
        )
    return names
