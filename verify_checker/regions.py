"""Section 4: bounds of every value over a region, by intervals.

A *region* is a box of inputs, and limits of some neurons: the inputs of the box at which the
neurons keep them. All statements are about these inputs; where there are none, they say nothing.
``D`` regions are treated together; arrays are ``D x *V``.

An affine operation's range is that of its centre and its radius. With ``m >= |z|`` over the
region, everything that is rounded on the way errs by at most ``3 γ (|W| m + |b|)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from verify_checker import operations as ops
from verify_checker.lines import (
    Lines,
    interval_of_kink,
    interval_of_maximum,
    interval_of_smooth,
    lines_of_kink,
    lines_of_smooth,
)
from verify_checker.operations import Network
from verify_checker.planes import (
    Interval,
    Plane,
    ball,
    interval_of_product,
    interval_of_softmax,
    plane_of_product,
    plane_of_softmax,
)
from verify_checker.rounding import FLOOR, Array, above, down, gamma, up

Limits = Mapping[int, tuple[Array, Array]]
"""Place of a value -> limits below and above, ``D x *V``, that hold in the region."""


@dataclass(frozen=True, eq=False)
class Regions:
    """D regions, and what is known of the values in them.

    Attributes:
        network: whose values.
        lower, upper: bounds of every value, by place.
        error: for each affine operation, what one unit of a coefficient at its output costs:
            ``γ_n |W| m + γ_N |b|``, and the spread of its bias.
        lost: for each place, what coefficients may lose there by underflow, ``D``.
        empty: regions that provably hold no input, ``D``.
    """

    network: Network
    lower: dict[int, Array]
    upper: dict[int, Array]
    error: dict[int, Array]
    lost: dict[int, Array]
    empty: NDArray[np.bool_]
    _lines: dict[int, Lines] = field(default_factory=dict)
    _planes: dict[int, Plane] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.empty)

    def magnitude(self, place: int) -> Array:
        """``m >= |z|``."""
        return np.maximum(np.abs(self.lower[place]), np.abs(self.upper[place]))

    def lines(self, place: int) -> Lines:
        """The lines of an elementwise operation."""
        if place not in self._lines:
            node = self.network.nodes[place]
            source = node.inputs[0]
            below, beyond = self.lower[source], self.upper[source]
            if isinstance(node.operation, ops.Kink):
                self._lines[place] = lines_of_kink(node.operation, below, beyond)
            else:
                assert isinstance(node.operation, ops.Smooth)
                self._lines[place] = lines_of_smooth(node.operation, below, beyond)
        return self._lines[place]

    def interval(self, place: int) -> Interval:
        """Both limits of a value."""
        return self.lower[place], self.upper[place]

    def plane(self, place: int) -> Plane:
        """The plane of a product or a softmax."""
        if place not in self._planes:
            inputs = [self.interval(source) for source in self.network.nodes[place].inputs]
            if len(inputs) == 2:
                self._planes[place] = plane_of_product(inputs[0], inputs[1])
            else:
                self._planes[place] = plane_of_softmax(inputs[0], self.interval(place))
        return self._planes[place]

    def taken(self, which: NDArray[np.int64]) -> Regions:
        """Some of the regions, in any order, with repetitions."""

        def each(values: dict[int, Array]) -> dict[int, Array]:
            return {p: v if len(v) == 1 else v[which] for p, v in values.items()}

        lower, upper, error = each(self.lower), each(self.upper), each(self.error)
        return Regions(self.network, lower, upper, error, each(self.lost), self.empty[which])

    def limited(self, limits: Limits, count: int) -> Regions:
        """``count`` parts with limits of their own: of a single region, or one of each region."""
        known = self.network, dict(self.lower), dict(self.upper), self.error, self.lost
        found = Regions(*known, np.repeat(self.empty, count if len(self) == 1 else 1))
        for place, each in limits.items():
            _cut(found, place, each)
        return found


Refine = Callable[[Regions, int], tuple[Array, Array] | None]
"""Better bounds of a value that feeds a nonlinear operation, from regions that are known up to it;
None: nothing is known."""


def enclose(
    network: Network, box: tuple[Array, Array], limits: Limits, refine: Refine | None = None
) -> Regions:
    """Bounds of every value over D regions, from the first to the last.

    Args:
        network: whose values.
        box: limits of the input, ``D x *X``.
        limits: what else holds in the regions.
        refine: asked for better bounds of each value that feeds a nonlinear operation.
    """
    found = Regions(network, {0: box[0]}, {0: box[1]}, {}, {}, np.zeros(len(box[0]), dtype=bool))
    lower, upper = found.lower, found.upper
    _cut(found, 0, box)
    found.lost[0] = _lost(found.magnitude(0))
    decisive = set(network.bounded_inputs)
    for place in range(1, len(network.nodes)):
        lower[place], upper[place] = _range(found, place)
        if place in limits:
            _cut(found, place, limits[place])
        better = refine(found, place) if refine is not None and place in decisive else None
        if better is not None:
            _cut(found, place, better)
        found.lost[place] = _lost(found.magnitude(place))
    return found


def _cut(found: Regions, place: int, limits: Interval) -> None:
    """Bound a value by further limits. Where none is left, a region is empty; bounds are equal."""
    lower = np.maximum(found.lower[place], limits[0])
    upper = np.minimum(found.upper[place], limits[1])
    found.empty[:] |= (lower > upper).reshape(len(lower), -1).any(1)
    found.lower[place], found.upper[place] = lower, np.maximum(lower, upper)


def _lost(magnitude: Array) -> Array:
    return above(magnitude.reshape(len(magnitude), -1).sum(1)) * FLOOR


def _range(found: Regions, place: int) -> tuple[Array, Array]:
    node = found.network.nodes[place]
    lower = [found.lower[i] for i in node.inputs]
    upper = [found.upper[i] for i in node.inputs]
    operation = node.operation
    if isinstance(operation, ops.Affine):
        return _affine_range(found, place, operation, lower[0], upper[0])
    if isinstance(operation, ops.Reshape):
        return operation.forward(lower[0]), operation.forward(upper[0])
    if isinstance(operation, ops.Join):
        if operation.sign > 0:
            return down(lower[0] + lower[1]), up(upper[0] + upper[1])
        return down(lower[0] - upper[1]), up(upper[0] - lower[1])
    if isinstance(operation, ops.Concat):
        axis = operation.axis + 1
        return np.concatenate(lower, axis), np.concatenate(upper, axis)
    if isinstance(operation, ops.Kink):
        return interval_of_kink(operation, lower[0], upper[0])
    if isinstance(operation, ops.Maximum):
        return interval_of_maximum(operation, lower[0], upper[0])
    if isinstance(operation, ops.Smooth):
        return interval_of_smooth(operation, lower[0], upper[0])
    if isinstance(operation, ops.Product):
        return interval_of_product((lower[0], upper[0]), (lower[1], upper[1]))
    assert isinstance(operation, ops.Softmax)
    return interval_of_softmax((lower[0], upper[0]))


def _affine_range(
    found: Regions, place: int, operation: ops.Affine, lower: Array, upper: Array
) -> tuple[Array, Array]:
    node = found.network.nodes[place]
    centre, radius, magnitude = ball((lower, upper))
    both = operation.forward(np.concatenate([magnitude, radius]), absolute=True)
    product, spread = above(both[: len(lower)]), both[len(lower) :]
    bias, extra = np.abs(operation.bias), operation.weight_roundings + 4
    slack = 3 * gamma(operation.terms[0] + extra) * (product + bias)
    error = above(slack + operation.bias_spread)
    value = operation.forward(centre) + operation.bias
    width = up(spread + error)
    back = gamma(operation.terms[1] + extra) * product + gamma(node.size + 4) * bias
    found.error[place] = above(back + operation.bias_spread)
    return down(value - width), up(value + width)
