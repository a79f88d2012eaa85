"""The figure of instances decided against seconds."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log
from typing import TYPE_CHECKING

from verify_pipeline.figures.series.cactus import CactusCurve
from verify_pipeline.figures.style import (
    Width,
    legend_below,
    new_figure,
    series_style,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_SECONDS = 1e-4
"""Shorter times are drawn here; a share of a batch may be 0."""

STEPS = 600
"""Places across the figure where a curve may rise."""

MARKS = 8
"""Markers of a curve, about."""


def draw_cactus(curves: Sequence[CactusCurve], width: Width = "column") -> Figure:
    """One staircase a run: how many images it decides within so many seconds each.

    Args:
        curves: at least one with an image.
        width: of the figure.
    """
    figure = new_figure(width, 2.2)
    axes = figure.subplots()
    drawn = [max(s, LEAST_SECONDS) for curve in curves for s in curve.seconds] or [LEAST_SECONDS]
    left, right = min(drawn) / 1.5, max(*drawn, LEAST_SECONDS * 10) * 1.5
    handles = []
    for place, curve in enumerate(curves):
        style = series_style(place)
        seconds, counts = _staircase(curve, left, right)
        every = max(1, len(seconds) // MARKS)
        handles += axes.step(
            seconds,
            counts,
            where="post",
            color=style.color,
            linestyle=style.dash,
            marker=style.marker,
            markevery=(place * every // max(len(curves), 1) + 1, every),
            markersize=4,
        )
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(0, max(curve.images for curve in curves) * 1.03)
    axes.set_xlabel("seconds per image")
    axes.set_ylabel("images decided")
    whole_numbers(axes.yaxis)
    labels = [f"{c.label}: {len(c.seconds)} of {c.images}" for c in curves]
    legend_below(figure, handles, labels)
    return figure


def _staircase(curve: CactusCurve, left: float, right: float) -> tuple[list[float], list[int]]:
    """The curve's corners; those closer than a line is wide are one."""
    corners: dict[int, int] = {}
    for count, seconds in enumerate(curve.seconds, 1):
        share = log(max(seconds, LEAST_SECONDS) / left) / log(right / left)
        corners[ceil(share * STEPS)] = count
    times = [left * (right / left) ** (place / STEPS) for place in corners]
    return [left, *times, right], [0, *corners.values(), len(curve.seconds)]
