"""The command that shows what a ledger knows of one image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify_pipeline.cli import options, panels
from verify_pipeline.cli.arguments import named, own_arrays, this_command
from verify_pipeline.cli.grouping import grouped
from verify_pipeline.cli.options import DataRoot
from verify_pipeline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from torch import Tensor

    from verify_pipeline.data import ImageSet
    from verify_pipeline.reporting.image_details import ImageRow

Image = Annotated[
    int,
    typer.Option(
        min=0, help="The image: its place in the data set.", rich_help_panel=panels.IMAGES
    ),
]
RunNumber = Annotated[
    int | None,
    typer.Option(
        "--run",
        min=1,
        help="Which run of the ledger, counted from 1, if several have a verdict on the image.",
        rich_help_panel=panels.QUESTION,
    ),
]
Epsilon = Annotated[
    str | None,
    typer.Option(
        "--epsilon",
        "--eps",
        help="Only runs with this ε, such as 2/255.",
        rich_help_panel=panels.QUESTION,
    ),
]
NetworkOption = Annotated[
    Path | None,
    typer.Option(
        help="The network's file: show its outputs at the image itself, too.",
        rich_help_panel=panels.QUESTION,
    ),
]
Png = Annotated[
    Path | None,
    typer.Option(
        help="Draw the image, the counterexample and their amplified difference into this file, "
        "which may also end in .pdf or .svg.",
        rich_help_panel=panels.OUTPUT,
    ),
]


@dataclass(frozen=True)
class ShownRun:
    """Options about the run and its images, as typed."""

    run: RunNumber = None
    epsilon: Epsilon = None
    network: NetworkOption = None
    images: options.Images = None
    labels: options.Labels = None
    data_root: DataRoot = None


@grouped
def show(
    ledger: Annotated[Path, typer.Argument(metavar="LEDGER", help="SQLite file of verdicts.")],
    image: Image,
    shown: ShownRun,
    png: Png = None,
) -> None:
    """Show everything that a ledger knows of one image, and draw it.

    That is the verdict with its reason, the bounds and seconds of each stage, and the
    counterexample. If several runs have a verdict on the image, they are listed; --run or --epsilon
    chooses one.
    """
    from verify_pipeline.certify.ledger import Ledger
    from verify_pipeline.figures.files import check_formats
    from verify_pipeline.reporting.image_details import RunChoice, image_rows
    from verify_pipeline.reporting.image_text import rows_as_lines

    if png is not None:
        named("--png", png)
        check_formats((png.suffix.removeprefix(".").lower(),))
    with Ledger.existing(ledger) as book:
        rows = image_rows(book, image, RunChoice(shown.run, _epsilon(shown.epsilon)))
    if len(rows) == 1:
        _show_one(ledger, rows[0], shown, png)
        return
    of_one_run = {
        "--network": shown.network,
        "--images": shown.images,
        "--labels": shown.labels,
        "--png": png,
    }
    _refuse_of_one_run(rows, of_one_run)
    typer.echo("\n".join(rows_as_lines(rows)))
    typer.echo("\n--run N shows one of them in full.")


def _refuse_of_one_run(rows: Sequence[ImageRow], typed: Mapping[str, Path | None]) -> None:
    """Refuse options of one run if there are several.

    Raises:
        ConfigError: one of them was given.
    """
    given = [name for name, value in typed.items() if value is not None]
    if given:
        numbers = ", ".join(str(row.number) for row in rows)
        raise ConfigError(
            " and ".join(given),
            expected="one run",
            got=f"several with a verdict on image {rows[0].record.index}: {numbers}",
            remedy="Choose one with --run.",
        )


def _epsilon(text: str | None) -> float | None:
    from verify_pipeline.settings import number

    try:
        return None if text is None else number(text)
    except ValueError as error:
        raise ConfigError(f"--epsilon: {error}") from None


def _show_one(ledger: Path, row: ImageRow, shown: ShownRun, png: Path | None) -> None:
    """Print a row in full; draw it if a file is named."""
    from verify_pipeline import onnx
    from verify_pipeline.reporting.image_details import change_of, outputs_at
    from verify_pipeline.reporting.image_text import (
        caption_title,
        counterexample_as_lines,
        outputs_as_lines,
        row_as_lines,
    )

    pixels, problem = None, ""
    try:
        pixels = _pixels(ledger, row, shown, download=png is not None)
    except DataError as error:
        if png is not None or shown.data_root is not None or shown.images is not None:
            raise
        problem = str(error)
    outputs = None
    if shown.network is not None:
        network = onnx.load_network(shown.network, check_parity=False)
        if pixels is None:
            raise DataError(
                "--network", expected="an image to show outputs at", got=problem or "none"
            )
        outputs = outputs_at(network, row, pixels)
    found = row.counterexample
    change = None if pixels is None or found is None else change_of(found, pixels)
    figure = None if png is None or pixels is None else _drawn(row, pixels, outputs)
    lines = row_as_lines(row)
    if outputs is not None:
        lines += ["", "at the image"]
        lines += outputs_as_lines(outputs, row.record.label, "  outputs")
    if found is not None:
        lines += ["", *counterexample_as_lines(row, change)]
    if pixels is None:
        lines += ["", f"The image itself is not known: {problem}"]
    typer.echo("\n".join(lines))
    if png is not None and figure is not None:
        from verify_pipeline.figures.files import save_figure

        title = " ".join(caption_title(row))
        for path in save_figure(figure, png, title=title, command=this_command()):
            typer.echo(f"wrote {path}")


def _pixels(ledger: Path, row: ImageRow, shown: ShownRun, download: bool) -> Tensor:
    """The image's pixels ``*X``.

    Raises:
        DataError: they are not found, or are another image's.
    """
    from verify_pipeline.certify.run_images import pixels_of
    from verify_pipeline.data import ImageSet
    from verify_pipeline.run_folders import images_of_run

    run, own = row.info.run, _own_images(row, shown)
    found = images_of_run(run, [ledger.parent], shown.data_root, own, download)
    if found is None:
        raise DataError(
            f"images {run.data_set} {run.split}",
            expected="a known data set",
            got="your own images" if run.split == "arrays" else "another name",
            remedy="Name the arrays that were certified, with --images and --labels.",
        )
    if not isinstance(found, ImageSet):
        raise DataError(f"images {run.data_set}", expected="images", got="boxes")
    return pixels_of(row.record, found)


def _own_images(row: ImageRow, shown: ShownRun) -> ImageSet | None:
    """The user's own images, if any are named."""
    from verify_pipeline import data

    own = own_arrays(shown.images, shown.labels)
    if own is None:
        return None
    classes = row.info.outputs if own.labels is not None else None
    return data.from_arrays(own.images, own.labels, classes, own.name, "arrays")


def _drawn(row: ImageRow, pixels: Tensor, outputs: Tensor | None) -> Figure:
    """The figure of an image.

    Raises:
        DataError: the image cannot be drawn.
        DependencyError: matplotlib is not installed.
    """
    from verify_pipeline.figures.draw.image import ImageCaption, draw_image
    from verify_pipeline.figures.style import styled
    from verify_pipeline.reporting.image_text import caption_lines, caption_title
    from verify_pipeline.reporting.pictures import pictures_of

    found, label = row.counterexample, row.record.label
    adversarial = None if found is None else found.input.reshape(pixels.shape)
    after = [] if found is None else caption_lines(found.output, label)
    before = [] if label is None else [f"label {label}"]
    before += [] if outputs is None else caption_lines(outputs, label)
    pictures = pictures_of(pixels, adversarial)
    with styled():
        return draw_image(pictures, ImageCaption(caption_title(row), before, after))
