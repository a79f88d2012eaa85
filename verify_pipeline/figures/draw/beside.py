"""Small texts beside points, placed so that they hide neither points nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verify_pipeline.figures.style import FONT, SMALL, plain, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rectangle = tuple[float, float, float, float]
"""Left, bottom, right, top, in points."""

MARKER = 3.0
"""Half the side of the square that a point takes, in points."""


@dataclass(frozen=True)
class Beside:
    """A text that belongs to a point.

    Attributes:
        x: of the point.
        y: of the point.
        text: may be empty.
        needed: whether it has to stand there even if it hides something.
    """

    x: float
    y: float
    text: str
    needed: bool = False


def write_beside(axes: Axes, texts: Sequence[Beside]) -> None:
    """Write the texts, the first ones first; a text without a free place is left out.

    Args:
        axes: laid out already, as all limits and the legend decide where points are.
        texts: one for each point.
    """
    points = axes.transData.transform([(each.x, each.y) for each in texts])
    scale = 72 / axes.figure.dpi
    box = axes.bbox
    inside = (box.x0 * scale, box.y0 * scale, box.x1 * scale, box.y1 * scale)
    taken: list[Rectangle] = [
        (x - MARKER, y - MARKER, x + MARKER, y + MARKER) for x, y in points * scale
    ]
    for each, (x, y) in zip(texts, points * scale, strict=True):
        if not each.text:
            continue
        width = text_width(each.text) * SMALL / FONT
        places = _places(x, y, width, float(SMALL))
        hidden = [
            sum(_overlap(place, other) for other in taken) + _outside(place, inside)
            for place in places
        ]
        best = hidden.index(min(hidden))
        if hidden[best] > 0.01 and not each.needed:
            continue
        taken.append(places[best])
        axes.annotate(
            plain(each.text),
            (each.x, each.y),
            xytext=(places[best][0] - x, places[best][1] - y),
            textcoords="offset points",
            fontsize=SMALL,
            annotation_clip=False,
        )


def _places(x: float, y: float, width: float, height: float) -> list[Rectangle]:
    """Where a text may stand: above right first, then round the point."""
    gap = MARKER + 0.5
    right, left, above, below = x + gap, x - gap - width, y + gap - 1, y - gap - height + 1
    middle, centre = y - height / 2, x - width / 2
    corners = [
        (right, above),
        (left, below),
        (right, below),
        (left, above),
        (right, middle),
        (left, middle),
        (centre, y + gap),
        (centre, y - gap - height),
    ]
    return [(a, b, a + width, b + height) for a, b in corners]


def _outside(place: Rectangle, inside: Rectangle) -> float:
    return (place[2] - place[0]) * (place[3] - place[1]) - _overlap(place, inside)


def _overlap(one: Rectangle, other: Rectangle) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    upwards = min(one[3], other[3]) - max(one[1], other[1])
    return across * upwards if across > 0 and upwards > 0 else 0.0
