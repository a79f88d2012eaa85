"""Sections 5 and 6: lower bounds of linear functionals, by walking back to the input.

A row is ``⟨λ, z⟩ + c`` at some value z of the network. The walk replaces z by its operation's
inputs, from the last value to the first, and keeps for each row a number ``c``, coefficients, and
an ``error``. Invariant: over the row's region, the exact row is at least

    Σ over values that are waiting of ⟨λ, z⟩  +  c  −  error.

* Affine, ``z = W y + b``: ``λ ← Wᵀ λ`` and ``c ← c + ⟨λ, b⟩``. Rounding changes the result by at
  most ``γ |λ| (|W| m + |b|)``, ``m >= |y|``: one inner product with ``Regions.error``.
* Elementwise: λ >= 0 takes the lower line, λ < 0 the upper one.
* Product, softmax: as an affine operation whose error has the plane's. A softmax sums to 1, so that
  first any number may be taken off all its coefficients and added to c.
* A neuron that is split has ``side · z >= 0``, so that ``⟨λ, z⟩ >= ⟨λ, z⟩ − β side z`` for every
  ``β >= 0`` (β-CROWN, Wang et al. 2021).
* At the input, the row takes the worse limit of each number of the box.

Slopes α and multipliers β are hints: the invariant holds whatever they are, within their ranges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from verify_checker import operations as ops
from verify_checker.lines import leader
from verify_checker.operations import Network, Places, Window
from verify_checker.regions import Regions
from verify_checker.rounding import Array, U, above, down, gamma

TILE = 2
"""Neurons that are bounded together lie in squares of this side."""

Number = TypeVar("Number", bound=np.generic)

BYTES = 1 << 26
"""Memory for the coefficients of one chunk of rows."""


@dataclass(frozen=True, eq=False)
class Hints:
    """Choices for R rows, all of which are valid.

    Attributes:
        alpha: place of a kinked operation -> columns ``k`` of its flattened input, and numbers in
            [0, 1], ``R x k``: where in the free range the lower line's slope is.
        beta: place of a split value -> rows, columns, sides (1 or -1), and multipliers >= 0, one
            each for every split of a row; a row splits a neuron once.
    """

    alpha: dict[int, tuple[Places, Array]] = field(default_factory=dict)
    beta: dict[int, tuple[Places, Places, Array, Array]] = field(default_factory=dict)

    def part(self, chosen: Places, count: int) -> Hints:
        """The hints of some of ``count`` rows."""
        alpha = {p: (columns, values[chosen]) for p, (columns, values) in self.alpha.items()}
        new = np.full(count, -1)
        new[chosen] = np.arange(len(chosen))
        beta = {}
        for place, (rows, columns, sides, values) in self.beta.items():
            own = new[rows] >= 0
            beta[place] = new[rows[own]], columns[own], sides[own], values[own]
        return Hints(alpha, beta)


NO_HINTS = Hints()


@dataclass(frozen=True, eq=False)
class Rows:
    """R rows at one value: coefficients ``R x *V``, numbers c, and each row's region.

    ``picked``: the rows are single numbers of the value, times a sign, and given by
    ``places`` and ``signs`` instead of coefficients.
    """

    place: int
    region: Places
    coefficients: Array | None = None
    constants: Array | None = None
    places: Places | None = None
    signs: Array | None = None

    def __len__(self) -> int:
        return len(self.region)

    def part(self, chosen: Places) -> Rows:
        """Some of the rows."""
        parts = (self.coefficients, self.constants, self.places, self.signs)
        cut = (None if p is None else p[chosen] for p in parts)
        return Rows(self.place, self.region[chosen], *cut)  # type: ignore[arg-type]


def lower_bounds(
    regions: Regions, rows: Rows, hints: Hints = NO_HINTS, intervals: bool = False
) -> Array:
    """Lower bounds of R rows over their regions, NaN or -inf where something overflows.

    Args:
        regions: with bounds of all values before the rows' value.
        rows: what is bounded.
        hints: multipliers.
        intervals: stop at nonlinear operations, and take the intervals of their values.
    """
    found = np.zeros(len(rows))
    for chosen in _chunks(regions.network, rows):
        part = hints.part(chosen, len(rows))
        found[chosen] = _Walk(regions, rows.part(chosen), part, intervals).result()
    return found


def _chunks(network: Network, rows: Rows) -> list[Places]:
    """Rows that are walked together: single neurons of an image-like value by tiles of it.

    A neuron depends on few others there; all coefficients outside their window are zero.
    """
    size, shape = _rows_at_once(network), network.nodes[rows.place].shape
    numbers = np.arange(len(rows))
    tiles = [numbers]
    attends = any(isinstance(n.operation, ops.Product | ops.Softmax) for n in network.nodes)
    if rows.places is not None and len(shape) == 3 and not attends:
        _, y, x = np.unravel_index(rows.places, shape)
        tile = (y // TILE) * shape[2] + x // TILE
        order = np.argsort(tile, kind="stable")
        tiles = np.split(order, np.flatnonzero(np.diff(tile[order])) + 1)
    return [tile[n : n + size] for tile in tiles for n in range(0, len(tile), size)]


def _rows_at_once(network: Network) -> int:
    most = 1
    for node in network.nodes:
        columns = 0
        if isinstance(node.operation, ops.Conv):
            groups, _, each = node.operation.weight.shape
            columns = groups * each * math.prod(node.shape[1:])
        most = max(most, 4 * node.size + columns)
    return max(1, BYTES // (8 * most))


class _Walk:
    def __init__(self, regions: Regions, rows: Rows, hints: Hints, intervals: bool) -> None:
        self.regions, self.rows, self.hints, self.intervals = regions, rows, hints, intervals
        count = len(rows)
        self.number = np.zeros(count) if rows.constants is None else rows.constants.copy()
        self.error = np.zeros(count)
        self.waiting: dict[int, tuple[Array, Window | None]] = {}
        self.window: Window | None = None  # of the value that is walked through now

    def result(self) -> Array:
        """Walk, and return the bounds."""
        with np.errstate(all="ignore"):  # what overflows becomes NaN, which proves nothing
            self._begin()
            for place in range(self.rows.place, 0, -1):
                self._subtract_splits(place)
                if place in self.waiting:
                    rows, self.window = self.waiting.pop(place)
                    self._step(place, rows)
            if 0 in self.waiting:
                rows, self.window = self.waiting.pop(0)
                self._concretise(0, rows)
            return down(self.number - above(self.error))

    def _of(self, values: NDArray[Number]) -> NDArray[Number]:
        """Each row's entry of something that regions have."""
        if values.ndim == 4 and self.window is not None:
            top, bottom, left, right = self.window
            values = values[:, :, top:bottom, left:right]
        return values if len(values) == 1 else values[self.rows.region]

    def _whole(self, place: int, rows: Array) -> Array:
        """Coefficients of all of a value, from those in the window."""
        if self.window is None:
            return rows
        top, bottom, left, right = self.window
        self.window = None
        whole = np.zeros((len(rows), *self.regions.network.nodes[place].shape))
        whole[:, :, top:bottom, left:right] = rows
        return whole

    def _begin(self) -> None:
        rows = self.rows
        if rows.places is None or rows.signs is None:
            assert rows.coefficients is not None
            self.waiting[rows.place] = rows.coefficients, None
            return
        node, number = self.regions.network.nodes[rows.place], np.arange(len(rows))
        if isinstance(node.operation, ops.Dense) and len(node.shape) == 1:
            # exact coefficients at the operation's input; its error covers those of its weights
            bias = np.broadcast_to(node.operation.bias, node.shape)[rows.places]
            error = self._of(self.regions.error[rows.place])
            at = (number if len(error) > 1 else 0, rows.places)
            self._add(rows.signs * bias, error[at])
            weights = node.operation.weight.T[rows.places] * rows.signs[:, None]
            self.waiting[node.inputs[0]] = weights, None
        elif len(node.shape) == 3:
            channel, y, x = np.unravel_index(rows.places, node.shape)
            top, left = int(y.min()), int(x.min())
            window = (top, int(y.max()) + 1, left, int(x.max()) + 1)
            one = np.zeros((len(rows), node.shape[0], window[1] - top, window[3] - left))
            one[number, channel, y - top, x - left] = rows.signs
            self.waiting[rows.place] = one, window
        else:
            one = np.zeros((len(rows), node.size))
            one[number, rows.places] = rows.signs
            self.waiting[rows.place] = one.reshape(len(rows), *node.shape), None

    def _add(self, numbers: Array, error: Array) -> None:
        self.number = self.number + numbers
        self.error = self.error + above(error) + U * np.abs(self.number)

    def _push(self, place: int, rows: Array) -> None:
        window = self.window
        if place in self.waiting:
            others, self.window = self.waiting[place]
            if self.window != window:
                others, self.window = self._whole(place, others), window
                rows = self._whole(place, rows)
            rows = others + rows
            self._charge(place, U * np.abs(rows))
        self.waiting[place] = rows, self.window
        self.window = window

    def _charge(self, place: int, changes: Array) -> None:
        """Coefficients at a value that may differ from the exact ones by ``changes``."""
        magnitude = self._of(self.regions.magnitude(place))
        lost = self._of(self.regions.lost[place])
        self.error = self.error + above(_dot(changes, magnitude)) + lost

    def _subtract_splits(self, place: int) -> None:
        if place not in self.hints.beta or not len(self.hints.beta[place][0]):
            return
        rows, columns, sides, beta = self.hints.beta[place]
        self.window = None
        found = np.zeros((len(self.rows), *self.regions.network.nodes[place].shape))
        if place in self.waiting:
            given, self.window = self.waiting[place]
            found = self._whole(place, given).copy()
        flat = found.reshape(len(found), -1)
        flat[rows, columns] -= sides * beta
        changes = np.zeros_like(flat)
        changes[rows, columns] = U * np.abs(flat[rows, columns])
        self.waiting[place] = found, None
        self._charge(place, changes.reshape(found.shape))

    def _step(self, place: int, rows: Array) -> None:
        node = self.regions.network.nodes[place]
        operation, inputs = node.operation, node.inputs
        if self.intervals and isinstance(operation, ops.NONLINEAR):
            self._concretise(place, rows)
        elif isinstance(operation, ops.Affine):
            self._affine(place, operation, inputs[0], rows)
        elif isinstance(operation, ops.Reshape):
            shape = self.regions.network.nodes[inputs[0]].shape
            self._push(inputs[0], operation.backward(self._whole(place, rows), shape))
        elif isinstance(operation, ops.Join):
            self._push(inputs[0], rows)
            self._push(inputs[1], operation.sign * rows)
        elif isinstance(operation, ops.Concat):
            lengths = [self.regions.network.nodes[i].shape[operation.axis] for i in inputs]
            whole = self._whole(place, rows)
            parts = np.split(whole, np.cumsum(lengths)[:-1], operation.axis + 1)
            for i, part in zip(inputs, parts, strict=True):
                self._push(i, part)
        elif isinstance(operation, ops.Product | ops.Softmax):
            self._plane(place, inputs, self._whole(place, rows))
        elif isinstance(operation, ops.Maximum):
            self._maximum(operation, inputs[0], self._whole(place, rows))
        else:
            self._elementwise(place, inputs[0], rows)

    def _affine(self, place: int, operation: ops.Affine, source: int, rows: Array) -> None:
        if not isinstance(operation, ops.Conv | ops.Scale):
            rows = self._whole(place, rows)
        error = _dot(np.abs(rows), self._of(self.regions.error[place]))
        lost = self._of(self.regions.lost[source])
        bias = np.broadcast_to(operation.bias, self.regions.network.nodes[place].shape)[None]
        self._add(_dot(rows, self._of(bias)), error + lost)
        if isinstance(operation, ops.Conv) and self.window is not None:
            rows, self.window = operation.backward_window(rows, self.window)
        elif isinstance(operation, ops.Scale) and self.window is not None:
            rows = rows * self._of(operation.factor[None])
        else:
            rows = operation.backward(rows)
        self._push(source, rows)

    def _elementwise(self, place: int, source: int, rows: Array) -> None:
        lines = self.regions.lines(place)
        if place in self.hints.alpha:
            rows = self._whole(place, rows)
        low = self._of(lines.low)
        if place in self.hints.alpha:
            columns, alpha = self.hints.alpha[place]
            low = np.broadcast_to(low, rows.shape).copy()
            free = self._of(lines.free.reshape(len(lines.free), -1)[:, columns])
            chosen = np.clip(lines.least + (1 - lines.least) * alpha, lines.least, 1.0)
            flat = low.reshape(len(low), -1)
            flat[:, columns] = np.where(free, chosen, flat[:, columns])
        numbers, intercepts = np.minimum(rows, 0.0), self._of(lines.high_at)
        terms = gamma(self.regions.network.nodes[place].size + 2)
        self._add(_dot(numbers, intercepts), terms * _dot(-numbers, np.abs(intercepts)))
        if not lines.through_origin:
            numbers, intercepts = np.maximum(rows, 0.0), self._of(lines.low_at)
            self._add(_dot(numbers, intercepts), terms * _dot(numbers, np.abs(intercepts)))
        pulled = rows * np.where(rows >= 0, low, self._of(lines.high))
        self._charge(source, U * np.abs(pulled))
        self._push(source, pulled)

    def _plane(self, place: int, inputs: tuple[int, ...], rows: Array) -> None:
        plane = self.regions.plane(place)
        first, second = (self._of(factor) for factor in plane.factors)
        if len(inputs) == 1:  # a softmax sums to 1: any number can be taken off the coefficients
            shift = np.median(rows, -1, keepdims=True)
            rows, ones = rows - shift, np.ones((1, *rows.shape[1:]))
            error = gamma(shift[0].size) * _dot(np.abs(shift), ones[..., :1])
            self._add(_dot(shift, ones[..., :1]), error + U * _dot(np.abs(rows), ones))
        error = _dot(np.abs(rows), self._of(plane.error))
        for source in inputs:
            error += self._of(self.regions.lost[source])
        self._add(_dot(rows, self._of(plane.offset)), error)
        if len(inputs) == 1:
            rows = rows * second
            self._push(inputs[0], first * (rows - (first * rows).sum(-1, keepdims=True)))
        else:
            self._push(inputs[0], rows @ first.swapaxes(-1, -2))
            self._push(inputs[1], second.swapaxes(-1, -2) @ rows)

    def _maximum(self, operation: ops.Maximum, source: int, rows: Array) -> None:
        place, leads, most = leader(
            operation, self.regions.lower[source], self.regions.upper[source]
        )
        flat = rows.reshape(len(rows), -1)
        follows = (flat >= 0) | self._of(leads)
        numbers = np.where(follows, 0.0, flat)
        most = self._of(np.where(leads, 0.0, most))
        error = gamma(flat.shape[1] + 2) * _dot(-numbers, np.abs(most))
        self._add(_dot(numbers, most), error)
        # windows may share a number: at most as many terms as there are windows
        pulled = np.zeros((len(rows), self.regions.network.nodes[source].size))
        changes, taken = np.zeros_like(pulled), np.where(follows, flat, 0.0)
        where = np.arange(len(rows))[:, None], np.broadcast_to(self._of(place), taken.shape)
        np.add.at(pulled, where, taken)
        np.add.at(changes, where, np.abs(taken))
        shape = (len(rows), *operation.input_shape)
        self._charge(source, (gamma(flat.shape[1]) * changes).reshape(shape))
        self._push(source, pulled.reshape(shape))

    def _concretise(self, place: int, rows: Array) -> None:
        """Replace a value by the worse of its limits, number by number."""
        lower, upper = self._of(self.regions.lower[place]), self._of(self.regions.upper[place])
        least = _dot(np.maximum(rows, 0.0), lower)
        greatest = _dot(np.minimum(rows, 0.0), upper)
        magnitude = self._of(self.regions.magnitude(place))
        terms = self.regions.network.nodes[place].size + 4
        error = gamma(terms) * _dot(np.abs(rows), magnitude)
        self._add(least, error + self._of(self.regions.lost[place]))
        self._add(greatest, np.zeros(len(rows)))


def _dot(rows: Array, values: Array) -> Array:
    """``⟨row, value⟩`` for each of R rows; one value for all, or one for each."""
    flat, other = rows.reshape(len(rows), -1), values.reshape(len(values), -1)
    if len(other) == 1:
        return np.asarray(flat @ other[0])
    return np.asarray(np.einsum("rv,rv->r", flat, other))


def sides_of(place: int, columns: Places, signs: Sequence[float], region: Places) -> Rows:
    """Rows for single numbers of a value, first all with the first sign, then the next."""
    repeated = np.repeat(np.asarray(signs, dtype=np.float64), len(columns))
    regions, places = np.tile(region, len(signs)), np.tile(columns, len(signs))
    return Rows(place, regions, places=places, signs=repeated)
