"""Pareto fronts, the hypervolume that they dominate, and attainment over repetitions.

Points are tuples of objectives that are maximised, such as standard and verified accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, ...]


def dominates(first: Point, second: Point) -> bool:
    """Whether the first point is at least as good in each objective, and better in one."""
    pairs = list(zip(first, second, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def front_indices(points: Sequence[Point]) -> tuple[int, ...]:
    """The places of the points that no other point dominates, in order.

    Of equal points, the first one counts.
    """
    return tuple(
        place
        for place, point in enumerate(points)
        if point not in points[:place] and not any(dominates(other, point) for other in points)
    )


def pareto_front(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that no other point dominates, each once, by falling first objective."""
    return tuple(sorted((points[place] for place in front_indices(points)), reverse=True))


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The volume of what lies between the reference point and at least one of the points.

    Zitzler & Thiele 1998: the union of the boxes [reference, point]. With two objectives it is the
    dominated area. It is computed by slices along the last objective, which is exact, and fast
    enough for some hundred points of two or three objectives.

    Args:
        points: of D objectives each; those that do not exceed the reference in each objective
            contribute nothing.
        reference: D numbers.

    Returns:
        At least 0, in the product of the objectives' units.
    """
    inside = [p for p in points if all(a > b for a, b in zip(p, reference, strict=True))]
    if not inside:
        return 0.0
    if len(reference) == 1:
        return max(point[0] for point in inside) - reference[0]
    total, floor = 0.0, reference[-1]
    for height in sorted({point[-1] for point in inside}):
        slice_ = [point[:-1] for point in inside if point[-1] >= height]
        total += (height - floor) * hypervolume(slice_, reference[:-1])
        floor = height
    return total


def attainment(fronts: Sequence[Sequence[Point]], share: float) -> tuple[Point, ...]:
    """The empirical attainment surface: the front of what a share of the repetitions attains.

    Fonseca & Fleming 1996. A repetition attains a point if one of its own points is at least as
    good in both objectives. The surface of a share s is the front of the points that at least
    ``ceil(s n)`` of n repetitions attain (and at least one); ``s = 0.5`` is the median surface.

    Args:
        fronts: the points of each repetition, two objectives; at least one repetition.
        share: in [0, 1].

    Returns:
        The corners of the surface, by falling first objective; none if too few repetitions attain
        anything together.
    """
    needed = max(1, math.ceil(share * len(fronts) - 1e-9))  # 0.28 * 25 is a little above 7
    corners = []
    for first in sorted({point[0] for points in fronts for point in points}, reverse=True):
        # the best second objective of each repetition, if the first is to be this good
        best = sorted(
            (
                max(p[1] for p in points if p[0] >= first)
                for points in fronts
                if _any(points, first)
            ),
            reverse=True,
        )
        if len(best) >= needed:
            corners.append((first, best[needed - 1]))
    return pareto_front(corners)


def _any(points: Sequence[Point], first: float) -> bool:
    return any(point[0] >= first for point in points)


def hypervolume_growth(points: Sequence[Point], reference: Point) -> list[float]:
    """The hypervolume of the first point, the first two, and so on."""
    found: list[Point] = []
    growth = []
    for point in points:
        found = list(pareto_front([*found, point]))
        growth.append(hypervolume(found, reference))
    return growth
