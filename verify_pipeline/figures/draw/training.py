"""The figure of training curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from verify_pipeline.figures.draw.panels import check_count
from verify_pipeline.figures.series.training import (
    ACCURACY,
    ALPHA,
    COLUMNS,
    EPSILON,
    LOSS,
    MetricCurve,
    TrainingCurves,
)
from verify_pipeline.figures.style import (
    INCHES,
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

MOST: dict[Width, int] = {"column": 2, "page": 4}
"""Trainings of a figure, side by side."""

MARKS = 6
LOGARITHMIC = 30
"""Losses that differ by more than this factor get a logarithmic axis."""

FEW_DECADES = 1e3
"""Up to this factor, a logarithmic axis has labels at 1, 2 and 5 of each decade."""

INCHES_OF = {ACCURACY: 1.35, LOSS: 1.35, EPSILON: 0.75, ALPHA: 0.75}
"""Heights of the panels."""

ORDER = [*dict.fromkeys(name for _, name in COLUMNS.values())]
"""The names of all curves: the same name has the same style in every panel."""


def draw_training(trainings: Sequence[TrainingCurves], width: Width = "column") -> Figure:
    """A column of panels for each training, over the epochs: accuracies, losses, ε, moving α.

    Args:
        trainings: at least one.
        width: of the figure.

    Raises:
        ConfigError: there are too many trainings.
    """
    check_count([each.label for each in trainings], MOST[width])
    names = [name for name in INCHES_OF if any(name in each.panels for each in trainings)]
    heights = [INCHES_OF[name] for name in names]
    figure = new_figure(width, 0.5 + sum(heights))
    grid = figure.subplots(
        len(names),
        len(trainings),
        sharex="col",
        sharey="row",
        squeeze=False,
        height_ratios=heights,
    )
    handles: dict[str, object] = {}
    for line, name in zip(grid, names, strict=True):
        line[0].set_ylabel(name)
        drawn = [each.panels.get(name, ()) for each in trainings]
        for axes, curves in zip(line, drawn, strict=True):
            handles |= _draw(axes, curves)
        _scale(line[0], name, [v for curves in drawn for curve in curves for v in curve.values])
    _label_columns(grid, [each.label for each in trainings], width)
    figure.align_ylabels()
    shown = [name for name in ORDER if name in handles]
    legend_below(figure, [handles[name] for name in shown], shown)
    return figure


def _scale(axes: Axes, name: str, values: Sequence[float]) -> None:
    """The vertical axis of a row of panels: accuracies from 0 to 100 %, wide losses by decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if name == ACCURACY:
        axes.set_ylim(0, 100)
    elif name == LOSS and _wide(values):
        axes.set_yscale("log")
        few = max(values) < FEW_DECADES * min(values)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,)))
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−"))
        )
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)


def _label_columns(grid: Any, labels: Sequence[str], width: Width) -> None:
    room = INCHES[width] * 72 / len(labels) - 24
    for column, label in zip(grid.T, labels, strict=True):
        column[-1].set_xlabel("epoch")
        column[-1].xaxis.get_major_locator().set_params(integer=True)
        if len(labels) > 1:
            column[0].set_title(shortened(label, room), loc="left")


def _draw(axes: Axes, curves: Sequence[MetricCurve]) -> dict[str, object]:
    handles: dict[str, object] = {}
    for curve in curves:
        style = _style(curve.name)
        every = max(1, len(curve.epochs) // MARKS)
        offset = ORDER.index(curve.name) * every // len(ORDER)
        (handles[curve.name],) = axes.plot(
            curve.epochs,
            curve.values,
            color=style.color,
            linestyle=style.dash,
            marker=style.marker,
            markevery=(min(offset, len(curve.epochs) - 1), every),
            markersize=3.5,
            clip_on=False,
        )
    return handles


def _style(name: str) -> SeriesStyle:
    return series_style(ORDER.index(name))


def _wide(values: Sequence[float]) -> bool:
    """Whether positive values span so much that only a logarithmic axis shows them all."""
    return bool(values) and min(values) > 0 and max(values) > LOGARITHMIC * min(values)
