"""A comparison of fronts as Markdown and CSV."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from verify_pipeline.atomic_write import write_all
from verify_pipeline.markdown import markdown_code, markdown_row, markdown_text
from verify_pipeline.sweeps.comparison import FrontComparison

HEADINGS = {
    "method": "Method",
    "repetitions": "Repetitions",
    "points": "Points",
    "chosen_on": "Chosen on",
    "hypervolume": "Dominated area",
    "hypervolume_std": "± std",
    "hypervolume_of_median": "Of the median surface",
    "on_joint_front": "On the joint front",
}


def rows_of(compared: FrontComparison) -> list[list[str]]:
    """The cells of the table, a heading and one row for each method."""
    frame = compared.to_frame()
    cells = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return [[HEADINGS[str(name)] for name in frame], *cells]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.4f}"
    return "–" if value is None else str(value)


def notes_of(compared: FrontComparison) -> list[str]:
    """What a reader has to know of the table."""
    standard, verified = (100 * each for each in compared.reference)
    notes = [
        f"Points are standard and verified accuracy on test images: {compared.question}. Areas are "
        f"of 1, with the reference point {standard:g} % and {verified:g} %; the median surface is "
        "what half of the repetitions attain."
    ]
    if any("test" in method.chosen_on for method in compared.methods):
        notes.append(
            "Chosen on test: a sweep's front is that of all its runs, so that the test images "
            "decide which of them are on it; this favours it against a tuning."
        )
    return [*notes, *_different_settings(compared)]


def _different_settings(compared: FrontComparison) -> list[str]:
    """How each method was certified, unless all were certified alike."""
    if len({text for method in compared.methods for text in method.settings}) < 2:
        return []
    said = (f"{method.name}: {text}." for method in compared.methods for text in method.settings)
    return [f"Certified with different settings, which may decide other images. {' '.join(said)}"]


def write_comparison(
    compared: FrontComparison, folder: Path, name: str, command: str
) -> tuple[Path, ...]:
    """Write ``<name>.md``, ``<name>.csv``, ``<name>-points.csv`` and ``<name>-attained.csv``.

    Raises:
        DataError: the folder cannot be written.
    """
    head, *rows = rows_of(compared)
    lines = [
        markdown_row(head),
        f"|{'---|' * len(head)}",
        *(markdown_row(row) for row in rows),
        "",
        *(markdown_text(note) for note in notes_of(compared)),
        "",
        f"Made by {markdown_code(command)}.",
        "",
    ]
    frames = {
        "": compared.to_frame(),
        "-points": compared.points_frame(),
        "-attained": compared.surfaces_frame(),
    }
    contents: dict[Path, str | bytes] = {folder / f"{name}.md": "\n".join(lines)}
    for end, frame in frames.items():
        text = frame.assign(generated_by=command).to_csv(index=False, lineterminator="\n")
        contents[folder / f"{name}{end}.csv"] = text
    return write_all(contents)
