"""The figure of certified accuracy against ε."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from verify_pipeline.figures.series.epsilon import EpsilonCurve
from verify_pipeline.figures.style import Width, legend_below, new_figure, series_style
from verify_pipeline.reporting.certification_state import images_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKED = 25
"""Curves of more points have only so many markers."""


def draw_epsilon(curves: Sequence[EpsilonCurve], width: Width = "column") -> Figure:
    """One line a network; a band reaches from the verified to what is not falsified.

    Args:
        curves: at least one.
        width: of the figure.
    """
    figure = new_figure(width, 2.2)
    axes = figure.subplots()
    handles = []
    for place, curve in enumerate(curves):
        style = series_style(place)
        verified = [100 * share for share in curve.verified]
        at_most = [100 * share for share in curve.at_most]
        handles += axes.plot(
            curve.epsilons,
            verified,
            color=style.color,
            linestyle=style.dash,
            marker=style.marker,
            markevery=max(1, len(verified) // MARKED),
            clip_on=False,
        )
        if at_most != verified:
            axes.fill_between(
                curve.epsilons, verified, at_most, color=style.color, alpha=0.2, linewidth=0
            )
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)
    axes.set_xlabel("ε")
    counts = {curve.images for curve in curves}
    share = f"% of {images_text(counts.pop())}" if len(counts) == 1 else "%"
    axes.set_ylabel(f"certified [{share}]")
    labels = [f"{c.label}, {images_text(c.images)}" if counts else c.label for c in curves]
    legend_below(figure, handles, labels)
    return figure
