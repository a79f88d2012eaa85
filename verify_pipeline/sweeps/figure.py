"""The figure at the end of a sweep or a tuning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import DependencyError
from verify_pipeline.figures import drawings
from verify_pipeline.figures.files import save_figure
from verify_pipeline.sweeps.watching import JobWatcher

FORMATS = ("pdf", "svg")


def draw_figure(
    summaries: Sequence[Summary], folder: Path, command: str, watcher: JobWatcher
) -> tuple[Path, ...]:
    """Draw standard against verified accuracy as ``figure.pdf`` and ``figure.svg``.

    Without matplotlib there is no figure: hours of runs do not end with an error for its sake.

    Args:
        summaries: of test images, at least one.
        folder: of the files.
        command: what makes them.
        watcher: is told what is not in the figure, or that there is none.

    Returns:
        The files' paths.

    Raises:
        DataError: a file cannot be written.
    """
    try:
        drawing = drawings.accuracy(summaries)
    except DependencyError as error:
        watcher.noted(f"No figure was drawn: {error}")
        return ()
    for note in drawing.notes:
        watcher.noted(note)
    name = folder / "figure"
    return save_figure(drawing.figure, name, FORMATS, title=drawing.title, command=command)
