"""Small texts beside points, placed so that they hide neither points nor each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot
from typing import TYPE_CHECKING

from verify_pipeline.figures.style import FONT, SMALL, SOFT, plain, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rectangle = tuple[float, float, float, float]
"""Left, bottom, right, top, in points."""

Point = tuple[float, float]
"""Across and upwards, in points."""

MARKER = 3.0
"""Half the side of the square that a point takes, in points."""

AWAY = (0.5, 6.0, 12.0, 18.0)
"""Gaps between a point and its text, in points; the first unless a line leads to the point."""

APART = 5.0
"""Gap between needed texts, in points."""

AMBIGUOUS = 5.0
"""What it costs if a text seems to belong to another point, in square points that it hides."""


@dataclass(frozen=True)
class Beside:
    """A text that belongs to a point.

    Attributes:
        x: of the point.
        y: of the point.
        text: may be empty.
        needed: whether it has to stand there even if it hides something. A line leads from it to
            its point, so that it may stand farther away, and nearer to no other point.
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
    others = [(float(x), float(y)) for x, y in points * scale]
    for each, point in zip(texts, others, strict=True):
        if not each.text:
            continue
        width = text_width(plain(each.text)) * SMALL / FONT
        gaps = AWAY if each.needed else AWAY[:1]
        places = [place for gap in gaps for place in _places(*point, width, float(SMALL), gap)]
        hidden = [
            sum(_overlap(place, other) for other in taken)
            + _outside(place, inside)
            + (AMBIGUOUS if each.needed and _misleads(place, point, others) else 0.0)
            for place in places
        ]
        best = hidden.index(min(hidden))
        if hidden[best] > 0.01 and not each.needed:
            continue
        # numbers side by side would read as one, or as those of each other's points
        taken.append(_padded(places[best], APART if each.needed else 0.0))
        _write(axes, each, (places[best][0] - point[0], places[best][1] - point[1]))


def _write(axes: Axes, each: Beside, offset: tuple[float, float]) -> None:
    line = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
    axes.annotate(
        plain(each.text),
        (each.x, each.y),
        xytext=offset,
        textcoords="offset points",
        fontsize=SMALL,
        annotation_clip=False,
        arrowprops=line if each.needed else None,
    )


def _misleads(place: Rectangle, point: Point, others: Sequence[Point]) -> bool:
    """Whether a text would stand nearly as close to another point as to its own."""
    near = 2 * _distance(place, point)
    return any(_distance(place, other) < near for other in others if other != point)


def _distance(place: Rectangle, point: Point) -> float:
    left, bottom, right, top = place
    across = max(left - point[0], 0.0, point[0] - right)
    return hypot(across, max(bottom - point[1], 0.0, point[1] - top))


def _places(x: float, y: float, width: float, height: float, away: float) -> list[Rectangle]:
    """Where a text may stand, so far away: above right first, then round the point."""
    gap = MARKER + away
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


def _padded(place: Rectangle, gap: float) -> Rectangle:
    return place[0] - gap, place[1] - gap, place[2] + gap, place[3] + gap


def _outside(place: Rectangle, inside: Rectangle) -> float:
    return (place[2] - place[0]) * (place[3] - place[1]) - _overlap(place, inside)


def _overlap(one: Rectangle, other: Rectangle) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    upwards = min(one[3], other[3]) - max(one[1], other[1])
    return across * upwards if across > 0 and upwards > 0 else 0.0
