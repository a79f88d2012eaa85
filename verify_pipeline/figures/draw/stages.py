"""The figure of the funnel of stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from verify_pipeline.figures.draw.panels import run_panels
from verify_pipeline.figures.series.flow import StageFlow
from verify_pipeline.figures.style import (
    FALSIFIED,
    HATCHES,
    INK,
    OPEN,
    VERIFIED,
    Width,
    legend_below,
    text_width,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PARTS = {
    "verified": VERIFIED,
    "falsified": FALSIFIED,
    "left": OPEN,
}
NAMES = {"verified": "verified", "falsified": "falsified (clean: wrong)", "left": "still open"}


def draw_stages(
    funnels: Sequence[tuple[str, Sequence[StageFlow]]], width: Width = "column"
) -> Figure:
    """A bar for each stage, as long as the images that it gets, in parts by what it does with them.

    Beside it stand the counts and the seconds of all of its images together.

    Args:
        funnels: label and stages of each run, at least one stage in each.
        width: of the figure.

    Raises:
        ConfigError: there are too many runs.
    """
    labels = [label for label, _ in funnels]
    most = max(len(flows) for _, flows in funnels)
    names = max(text_width(flow.stage) for _, flows in funnels for flow in flows)
    figure, panels = run_panels(labels, width, 0.4 + 0.24 * most, "images", names + 12)
    handles = [_bars(axes, flows) for axes, (_, flows) in zip(panels, funnels, strict=True)]
    legend_below(figure, handles[0], list(NAMES.values()))
    return figure


def cost_text(flow: StageFlow) -> str:
    """Seconds of a stage for a reader, with two digits; "–": unknown."""
    if flow.seconds is None:
        return "–"
    if flow.seconds >= 9950:
        return f"{flow.seconds / 3600:.2g} h"
    if flow.seconds >= 9.95:
        return f"{flow.seconds:.0f} s"
    return f"{flow.seconds:.1f} s" if flow.seconds >= 0.95 else f"{1000 * flow.seconds:.0f} ms"


def _bars(axes: Axes, flows: Sequence[StageFlow]) -> list[object]:
    places = range(len(flows))
    start = [0] * len(flows)
    handles: list[object] = []
    for part, color in PARTS.items():
        lengths = [getattr(flow, part) for flow in flows]
        handles.append(
            axes.barh(
                places,
                lengths,
                left=start,
                height=0.72,
                color=color,
                hatch=HATCHES[color],
                edgecolor=INK,
                linewidth=0.4,
            )
        )
        start = [begun + length for begun, length in zip(start, lengths, strict=True)]
    axes.set_yticks(places, [flow.stage for flow in flows])
    axes.set_ylim(len(flows) - 0.5, -1.2)  # the numbers' headings are above the first bar
    axes.set_xlim(0, max(flow.entered for flow in flows) * 1.01)
    axes.grid(visible=False, axis="y")
    whole_numbers(axes.xaxis)
    axes.tick_params(axis="y", length=0)
    _numbers(axes, flows)
    return handles


def _numbers(axes: Axes, flows: Sequence[StageFlow]) -> None:
    """Two columns to the right of the bars: how many images a stage gets, and its seconds."""
    right = 0.0
    for heading, texts in (
        ("images", [f"{flow.entered:,}" for flow in flows]),
        ("time", [cost_text(flow) for flow in flows]),
    ):
        right += max(map(text_width, [heading, *texts])) + 8
        for place, text in zip((-0.9, *range(len(flows))), (heading, *texts), strict=True):
            axes.annotate(
                text,
                (1, place),
                xycoords=axes.get_yaxis_transform(),
                xytext=(right, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                annotation_clip=False,
            )
