"""Radii as tables: for a terminal, as Markdown, and as CSV files."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pandas as pd
from rich import box
from rich.table import Table

from verify_pipeline.atomic_write import write_all
from verify_pipeline.certify.boxes import spread
from verify_pipeline.certify.radii import AT_LARGEST, MISCLASSIFIED, STEP, RobustnessDistribution
from verify_pipeline.markdown import markdown_code, markdown_text
from verify_pipeline.problem import Reason
from verify_pipeline.reporting.facts import asked_text, epsilon_text, fraction_text

SHOWN_EPSILONS = 9
"""Rows of the table of certified accuracies, at most."""

FILES = ("{}.csv", "{}-curve.csv", "{}.md")
"""Names of the files: a row for each image, the curve, and the page."""


def write_radii(
    radii: RobustnessDistribution, folder: Path, name: str, command: str
) -> tuple[Path, ...]:
    """Write ``<name>.csv``, ``<name>-curve.csv`` and ``<name>.md``.

    Args:
        radii: of which images.
        folder: made if it is not there.
        name: of the files.
        command: what generates them; it stands in each.

    Returns:
        The files' paths.

    Raises:
        DataError: a file cannot be written.
    """
    frames = (radii.to_frame().drop(columns="seconds"), radii.curve())
    tables = (frame.assign(generated_by=command) for frame in frames)
    contents = [table.to_csv(index=False, lineterminator="\n") for table in tables]
    contents.append(radii_as_markdown(radii, command))
    return write_all(
        {folder / form.format(name): text for form, text in zip(FILES, contents, strict=True)}
    )


def radii_title(radii: RobustnessDistribution) -> str:
    """One line: the network, the images, the question and the ε."""
    run = radii.info.run
    asked = asked_text(radii.info)
    words = [
        f"{radii.info.network_name} on {run.data_set} {run.split}",
        *([asked] if asked else []),
        f"{len(radii.images)} images",
        f"ε up to {_epsilon(radii, radii.largest)} in {len(radii.grid)} steps",
    ]
    return ", ".join(words)


def curve_rows(radii: RobustnessDistribution) -> list[tuple[str, str, str]]:
    """ε, verified % and robust at most %, at a few ε of the grid."""
    shown = spread((0.0, *radii.grid), SHOWN_EPSILONS)
    rows = radii.curve(shown).itertuples(index=False)
    return [(_epsilon(radii, e), f"{verified:.2f}", f"{most:.2f}") for e, verified, most in rows]


def quantile_rows(radii: RobustnessDistribution) -> list[tuple[str, str, str]]:
    """The share of images, and both ends of that quantile of their radius."""
    rows = radii.quantiles().itertuples(index=False)
    return [
        (f"{100 * share:.0f} %", _number(lower), _number(upper)) for share, lower, upper in rows
    ]


def radii_notes(radii: RobustnessDistribution) -> list[str]:
    """Sentences under the tables: the average, the radii that are cut off, the open intervals."""
    lower, upper = radii.average
    cut = sum(image.verified >= radii.largest for image in radii.images)
    told = [
        f"Average certified radius: {_number(lower)}. The average radius is at most "
        f"{_number(upper)}. A misclassified image counts as 0"
        + (
            f", the {cut} images verified at {_epsilon(radii, radii.largest)} as that."
            if cut
            else "."
        )
    ]
    usual = (AT_LARGEST, MISCLASSIFIED, STEP)
    gaps = Counter(image.gap for image in radii.images if image.gap not in usual)
    if gaps:
        reasons = ", ".join(f"{count} {_reason(gap)}" for gap, count in gaps.most_common())
        told.append(f"Intervals wider than a step: {reasons}.")
    return told


def radii_as_rich(radii: RobustnessDistribution) -> list[Table]:
    """The certified accuracies and the quantiles, for a terminal."""
    tables = []
    for headings, rows in (
        (("ε", "Verified %", "Robust at most %"), curve_rows(radii)),
        (("Images", "Verified up to", "Falsified from"), quantile_rows(radii)),
    ):
        table = Table(box=box.SIMPLE_HEAD)
        for heading in headings:
            table.add_column(heading, justify="right", overflow="fold")
        for row in rows:
            table.add_row(*row)
        tables.append(table)
    return tables


def radii_as_markdown(radii: RobustnessDistribution, command: str) -> str:
    """A page: both tables, the average, and how it was made."""
    return "\n".join(
        [
            f"# Radii of {markdown_text(radii_title(radii))}",
            "",
            *_markdown(("ε", "Verified %", "Robust at most %"), curve_rows(radii)),
            "",
            "At ε = 0, *verified* is the standard accuracy. *Robust at most* counts the images "
            "without a counterexample.",
            "",
            *_markdown(("Images", "Verified up to", "Falsified from"), quantile_rows(radii)),
            "",
            "At least this share of the images has a radius in or below the interval.",
            "",
            *(f"* {markdown_text(note)}" for note in radii_notes(radii)),
            "",
            f"Generated by {markdown_code(command)}.",
            "",
        ]
    )


def _markdown(headings: tuple[str, ...], rows: list[tuple[str, str, str]]) -> list[str]:
    lines = [headings, tuple("---:" for _ in headings), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _epsilon(radii: RobustnessDistribution, value: float) -> str:
    """ε as a fraction like 2/255 if all of the grid are such, else as a decimal."""
    fractions = all(map(fraction_text, radii.grid)) and any(
        "/" in epsilon_text(each) for each in radii.grid
    )
    return fraction_text(value) if fractions and value else f"{value:.6g}"


def _number(value: float) -> str:
    return f"{value:.5f}" if math.isfinite(value) and not pd.isna(value) else "–"


def _reason(gap: str) -> str:
    """A gap with the message of its reason, if it is one reason."""
    name = gap.upper()
    return f"{gap} ({Reason[name].value})" if name in Reason.__members__ else gap
