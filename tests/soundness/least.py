"""Exact least values over boxes, of networks that are piecewise linear.

A box of one or two free inputs is cut into cells on which the network is affine. A network of many
inputs that is affine everywhere is least at a corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from tests.exact_arrays import rational
from tests.soundness.contract import Array
from tests.soundness.exact import ExactNetwork


@dataclass(frozen=True, eq=False)
class Least:
    """An exact least value, and where it is.

    Attributes:
        value: of the least row.
        point: ``I`` fractions.
    """

    value: Fraction
    point: Array


class _Crossing(Exception):  # noqa: N818  # no error: it says where a cell is cut
    def __init__(self, values: Array) -> None:
        super().__init__()
        self.values = values


def _refuse_crossing(values: Array) -> None:
    """Raise for the first element that has both signs over a cell's vertices."""
    for column in values.reshape(len(values), -1).T:
        if min(column) < 0 < max(column):
            raise _Crossing(column)


def least_of_cells(
    network: ExactNetwork, lower: Array, upper: Array, rows: Array, offsets: Array
) -> Least:
    """The exact least of all rows over a box of one or two free inputs, by cutting it into cells.

    On a cell no ReLU changes its sign. The network is affine there, and least at a vertex.

    Args:
        network: piecewise linear.
        lower: ``*X`` floats.
        upper: ``*X`` floats.
        rows: ``S x K`` floats.
        offsets: ``S`` floats.
    """
    matrix, shift = rational(rows), rational(offsets)
    best: Least | None = None
    open_cells = [_corners(rational(lower), rational(upper))]
    while open_cells:
        cell = open_cells.pop()
        points = np.stack(cell)
        try:
            outputs = network(points.reshape(-1, *lower.shape), _refuse_crossing)
        except _Crossing as crossing:
            open_cells += _cut(cell, crossing.values)
            continue
        margins = (outputs @ matrix.T + shift).min(axis=1)
        at = int(margins.argmin())
        if best is None or margins[at] < best.value:
            best = Least(margins[at], points[at])
    assert best is not None
    return best


_ENDS: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((),),
    ((0,), (1,)),
    ((0, 0), (1, 0), (1, 1), (0, 1)),
)
"""The corners of boxes of no, one and two free inputs, each next to the one before."""


def _corners(lower: Array, upper: Array) -> list[Array]:
    """The box as a convex polygon, its corners in order; of one free input a pair."""
    low, high = lower.reshape(-1), upper.reshape(-1)
    free = [int(i) for i in np.flatnonzero(low < high)]
    if len(free) > 2:
        raise ValueError(f"{len(free)} free inputs, not up to 2")
    corners = []
    for ends in _ENDS[len(free)]:
        corner = low.copy()
        for i, end in zip(free, ends, strict=True):
            corner[i] = high[i] if end else low[i]
        corners.append(corner)
    return corners


def _cut(cell: Sequence[Array], values: Iterable[Fraction]) -> list[list[Array]]:
    """The parts of a convex cell where a function that is affine on it is >= 0, and <= 0."""
    ring = list(zip(cell, values, strict=True))
    parts: list[list[Array]] = [[], []]
    for (a, at_a), (b, at_b) in pairwise([*ring, ring[0]]):
        for part, sign in zip(parts, (1, -1), strict=True):
            if sign * at_a >= 0:
                part.append(a)
        if at_a * at_b < 0:
            crossing = a + (b - a) * (at_a / (at_a - at_b))
            for part in parts:
                if not (len(cell) == 2 and any((crossing == one).all() for one in part)):
                    part.append(crossing)
    return parts


class AffineFunction:
    """The rows of a network that is affine everywhere: a constant and slopes, exactly.

    Args:
        network: affine, whatever it is made of; what is found is compared with it at a point.
        shape: ``*X``.
    """

    def __init__(self, network: ExactNetwork, shape: tuple[int, ...]) -> None:
        size = math.prod(shape)
        probes = np.concatenate([np.zeros((1, size)), np.eye(size), np.full((1, size), -3.0)])
        outputs = network(rational(probes).reshape(-1, *shape))
        self.constant, self.slopes = outputs[0], outputs[1:-1] - outputs[0]
        if not (outputs[-1] == self.constant + rational(probes[-1]) @ self.slopes).all():
            raise ValueError("the network is not affine")

    def least(self, lower: Array, upper: Array, rows: Array, offsets: Array) -> Least:
        """The exact least of all rows over a box; arguments as of :func:`least_of_cells`."""
        matrix = rational(rows)
        slopes = matrix @ self.slopes.T
        constants = matrix @ self.constant + rational(offsets)
        low, high = rational(lower).reshape(-1), rational(upper).reshape(-1)
        found = []
        for row, constant in zip(slopes, constants, strict=True):
            point = np.where(row >= 0, low, high)
            found.append(Least(constant + row @ point, point))
        return min(found, key=lambda one: one.value)


def expansion(number: Fraction, terms: int) -> list[float]:
    """Float64 numbers whose exact sum is the number, if so many terms are enough.

    Raises:
        ValueError: they are not.
    """
    parts, rest = [], number
    for _ in range(terms):
        parts.append(float(rest))
        rest -= Fraction(parts[-1])
    if rest:
        raise ValueError(f"{terms} float64 numbers do not add up to it")
    return parts
