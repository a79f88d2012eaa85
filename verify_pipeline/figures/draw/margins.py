"""The figure of the margins' histograms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from verify_pipeline.figures.draw.panels import run_panels
from verify_pipeline.figures.series.margins import Bins, RunMargins, common_bins
from verify_pipeline.figures.style import (
    FALSIFIED,
    HATCHES,
    INK,
    OPEN,
    VERIFIED,
    Width,
    legend_below,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = {"counterexamples": FALSIFIED, "open": OPEN, "verified": VERIFIED}
NAMES = {
    "counterexamples": "falsified: margin at the counterexample",
    "open": "open: lower bound",
    "verified": "verified: lower bound",
}


def draw_margins(runs: Sequence[RunMargins], width: Width = "column") -> Figure:
    """A stacked histogram for each run, in bins of equal width that all runs share.

    Values beyond the bins are counted at the panel's edges.

    Args:
        runs: at least one, with a margin in at least one.
        width: of the figure.

    Raises:
        ConfigError: there are too many runs.
    """
    bins = common_bins([value for run in runs for value in run.all])
    height = 1.7 if len(runs) == 1 else 1.1
    figure, panels = run_panels([run.label for run in runs], width, height, "least margin")
    drawn = [_histogram(axes, run, bins) for axes, run in zip(panels, runs, strict=True)]
    kinds = [kind for kind in COLORS if any(getattr(run, kind) for run in runs)]
    legend_below(figure, [drawn[0][kind] for kind in kinds], [NAMES[kind] for kind in kinds])
    return figure


def _histogram(axes: Axes, run: RunMargins, bins: Bins) -> dict[str, object]:
    edges = bins.edges
    bottom = [0] * bins.count
    handles: dict[str, object] = {}
    for kind, color in COLORS.items():
        counts = bins.counts(getattr(run, kind))
        handles[kind] = axes.bar(
            edges[:-1],
            counts,
            width=bins.width,
            bottom=bottom,
            align="edge",
            color=color,
            hatch=HATCHES[color],
            edgecolor=INK,
            linewidth=0.4,
        )
        bottom = [below + more for below, more in zip(bottom, counts, strict=True)]
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, max(*bottom, 1) * 1.15)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_ylabel("images")
    whole_numbers(axes.yaxis)
    below, above = bins.outside(run.all)
    for count, x, side, text in (
        (below, 0.01, "left", f"← {below}"),
        (above, 0.99, "right", f"{above} →"),
    ):
        if count:
            axes.text(x, 0.98, text, transform=axes.transAxes, ha=side, va="top")
    return handles
