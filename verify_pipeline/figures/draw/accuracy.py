"""The figure of standard against verified accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from verify_pipeline.figures.draw.beside import Beside, write_beside
from verify_pipeline.figures.draw.panels import check_count
from verify_pipeline.figures.series.accuracy import AccuracyPanel, AccuracyPoint, pareto_front
from verify_pipeline.figures.style import (
    INCHES,
    INK,
    SeriesStyle,
    Width,
    legend_below,
    new_figure,
    series_style,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS: dict[Width, int] = {"column": 1, "page": 2}
"""Panels beside each other."""

MOST = 6
"""Panels of a figure."""

LABELLED = 20
"""More points than these have no text beside them."""


def draw_accuracy(panels: Sequence[AccuracyPanel], width: Width = "column") -> Figure:
    """A point for each setting; a front for each method; numbered stars for published results.

    Points on their method's front are filled. With several seeds a point is their mean, with lines
    of one standard deviation and a dot for each seed. A vertical line above a point ends at what no
    stage falsified.

    Args:
        panels: one for each question, at least one.
        width: of the figure.

    Raises:
        ConfigError: there are too many questions for one figure.
    """
    check_count([panel.title for panel in panels], MOST, "data sets and ε")
    columns = min(PANELS[width], len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(width, 2.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    methods = list(dict.fromkeys(point.method for panel in panels for point in panel.points))
    styles = {method: series_style(place) for place, method in enumerate(methods)}
    handles: dict[str, object] = {}
    for axes, panel in zip(grid.flat, panels, strict=False):
        handles = _points(axes, panel, styles) | handles
        axes.set_xlabel("standard accuracy [%]")
        axes.set_ylabel("verified accuracy [%]")
        if len(panels) > 1:
            axes.set_title(shortened(panel.title, INCHES[width] * 72 / columns - 24), loc="left")
    stars: dict[str, object] = {}
    beside: list[list[Beside]] = []
    for axes, panel in zip(grid.flat, panels, strict=False):
        numbered = _stars(axes, panel, len(stars))
        beside.append(_texts(panel, len(stars)))
        stars |= numbered
        _limit(axes)
    for spare in list(grid.flat)[len(panels) :]:
        spare.remove()
    ordered = {method: handles[method] for method in methods} | stars
    legend_below(figure, list(ordered.values()), list(ordered))
    figure.draw_without_rendering()  # decides where the points are
    for axes, texts in zip(grid.flat, beside, strict=False):
        write_beside(axes, texts)
    return figure


def _texts(panel: AccuracyPanel, stars: int) -> list[Beside]:
    """Numbers of stars first, then α of the points on fronts, then of the others."""
    numbers = [
        Beside(row.standard, row.verified, str(number), needed=True)
        for number, row in enumerate(panel.published, stars + 1)
    ]
    fronts = [point for method in _methods(panel) for point in pareto_front(_of(panel, method))]
    others = [point for point in panel.points if point not in fronts]
    named = len(panel.points) <= LABELLED
    return numbers + [
        Beside(point.standard, point.verified, _short(point) if named else "")
        for point in [*fronts, *others]
    ]


def _short(point: AccuracyPoint) -> str:
    """α or λ; of a method that has neither, the method."""
    return point.label.replace(" ", "") or point.method


def _methods(panel: AccuracyPanel) -> list[str]:
    return list(dict.fromkeys(point.method for point in panel.points))


def _of(panel: AccuracyPanel, method: str) -> list[AccuracyPoint]:
    return [point for point in panel.points if point.method == method]


def _points(axes: Axes, panel: AccuracyPanel, styles: dict[str, SeriesStyle]) -> dict[str, object]:
    handles: dict[str, object] = {}
    for method in _methods(panel):
        points, style = _of(panel, method), styles[method]
        front = pareto_front(points)
        for point in points:
            _spread(axes, point, style)
        axes.step(
            [point.standard for point in front],
            [point.verified for point in front],
            where="pre",
            color=style.color,
            linestyle=style.dash,
            linewidth=0.9,
        )
        for point in sorted(set(points), key=lambda point: point.standard):
            axes.plot(
                point.standard,
                point.verified,
                linestyle="none",
                marker=style.marker,
                markerfacecolor=style.color if point in front else "none",
                markeredgecolor=style.color,
                clip_on=False,
            )
        (handles[method],) = axes.plot(
            [], [], color=style.color, linestyle=style.dash, marker=style.marker, linewidth=0.9
        )
    return handles


def _limit(axes: Axes) -> None:
    """No accuracy is below 0 % or above 100 %, and no axis shows such a one."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.set_xlim(max(left, 0), min(right, 100))
    axes.set_ylim(max(bottom, 0), min(top, 100))


def _spread(axes: Axes, point: AccuracyPoint, style: SeriesStyle) -> None:
    """What a point's numbers may be off by: over seeds, and by undecided images."""
    if point.at_most > point.verified:
        axes.plot(
            [point.standard] * 2,
            [point.verified, point.at_most],
            color=style.color,
            linewidth=0.6,
            marker="_",
            markevery=[1],
        )
    if point.deviations is not None:
        x, y = point.deviations
        axes.errorbar(
            point.standard, point.verified, y, x, fmt="none", ecolor=style.color, elinewidth=0.6
        )
        dots = zip(*point.runs, strict=True)
        axes.plot(*dots, ".", color=style.color, markersize=2.5, alpha=0.7, clip_on=False)


def _stars(axes: Axes, panel: AccuracyPanel, before: int) -> dict[str, object]:
    """Published results, numbered on from ``before``; hollow ones were not checked."""
    stars: dict[str, object] = {}
    for number, row in enumerate(panel.published, before + 1):
        (star,) = axes.plot(
            row.standard,
            row.verified,
            linestyle="none",
            marker="*",
            markersize=7,
            markeredgewidth=0.7,
            color=INK,
            markerfacecolor=INK if row.checked else "none",
            clip_on=False,
        )
        stars[f"{number} {row.method}, {row.source}"] = star
    return stars
