"""Figures of one panel for each run, in a grid."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from verify_pipeline.errors import ConfigError
from verify_pipeline.figures.style import INCHES, Width, new_figure, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS: dict[Width, int] = {"column": 1, "page": 2}
MOST = 12
"""Panels of a figure: more do not fit on a paper's page."""


def run_panels(
    labels: Sequence[str], width: Width, height: float, across: str, beside: float = 20.0
) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each run, above each other; a single one has no title.

    Args:
        labels: of the runs, at least one.
        width: of the figure.
        height: of a panel, in inches.
        across: names the horizontal axis, which all panels share.
        beside: points that stand to the left of each panel, where its title does not reach.

    Raises:
        ConfigError: there are too many runs.
    """
    check_count(labels, MOST)
    columns = min(COLUMNS[width], len(labels))
    rows = ceil(len(labels) / columns)
    figure = new_figure(width, rows * (height + 0.2 * (len(labels) > 1)) + 0.4)
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    panels = list(grid.flat)
    for spare in panels[len(labels) :]:
        spare.remove()
    for lowest in panels[max(len(labels) - columns, 0) : len(labels)]:
        lowest.set_xlabel(across)
        lowest.tick_params(axis="x", labelbottom=True)
    if len(labels) > 1:
        room = INCHES[width] * 72 / columns - beside - 8
        for axes, label in zip(panels, labels, strict=False):
            axes.set_title(shortened(label, room), loc="left")
    return figure, panels[: len(labels)]


def check_count(labels: Sequence[str], most: int, things: str = "runs") -> None:
    """Refuse more runs, or other things, than a figure has room for.

    Raises:
        ConfigError: there are too many.
    """
    if len(labels) > most:
        raise ConfigError(
            "figure",
            expected=f"at most {most} {things}",
            got=f"{len(labels)}",
            remedy="Name fewer ledgers or folders, or draw one ε at a time.",
        )
