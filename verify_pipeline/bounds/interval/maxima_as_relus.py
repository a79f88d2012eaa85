"""Which maxima can be written with ReLUs without loss of precision.

Branch and bound can split ReLUs, but not maxima. In float64, ``b + relu(a - b)`` equals
``max(a, b)`` up to a rounding error that is relative to the greater of ``|a|`` and ``|b|``. This
error matters if the maximum is much smaller in size than a or b, which requires that a or b is far
below zero. Interval bounds over all inputs in question show whether this is possible.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import Interval
from verify_pipeline.bounds.interval.ibp import node_interval
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast, Maximum
from verify_pipeline.network.maxima import with_relus
from verify_pipeline.network.ops import AvgPool2d, Elementwise, MaxPool2d, Op, Relu, Reshape
from verify_pipeline.problem import Box

ORDINARY = 2.0**12
"""Values up to this size are unproblematic: rounding changes them by less than 5e-13."""

RATIO = 2.0**20
"""Values whose sizes have at most this ratio can be added: the error is below 1.2e-10 of the
smaller value."""

NOT_NEGATIVE = frozenset({"sigmoid", "exp", "square", "sqrt", "softplus"})


def with_splittable_maxima(graph: Graph, reach: Callable[[], Box | None]) -> Graph:
    """The same function with ReLUs instead of maxima and limits, where no precision is lost.

    Limits that no input reaches are removed. Other maxima and limits are kept: they can be bounded,
    but not split.

    Args:
        graph: the network.
        reach: returns one box that contains all inputs in question; None: any input. It is called
            only if the graph has maxima whose decision needs intervals.

    Returns:
        A graph that is equivalent over ``reach``; ``graph`` itself if nothing is rewritten.
    """
    places = Ranges(graph, reach)
    maxima = [place for place in range(len(graph.nodes)) if _may_be_added(places, place)]
    limits = {
        place: limit
        for place, limit in _limits(places).items()
        if limit is None or bool((limit >= -ORDINARY).all())
    }
    return with_relus(graph, maxima, limits) if maxima or limits else graph


class Ranges:
    """Intervals of a graph's values over all inputs, computed on first use.

    Args:
        graph: the network.
        reach: returns one box that contains all inputs; None: any input.
    """

    def __init__(self, graph: Graph, reach: Callable[[], Box | None]) -> None:
        self.graph = graph
        self._reach = reach

    @cached_property
    def _intervals(self) -> list[Interval]:
        graph, box = self.graph, self._reach()
        if box is None:
            anything = torch.full((1, *graph.input_shape), torch.inf, dtype=torch.float64)
            found: list[Interval] = [(-anything, anything)]
        else:
            found = [(box.lower.double(), box.upper.double())]
        exact = graph.to(torch.float64).to("cpu")
        for place in range(1, len(graph.nodes)):
            found.append(node_interval(exact, place, found.__getitem__))
        return found

    def __getitem__(self, place: int) -> Interval:
        """Bounds of a node's value, ``1 x *V`` each; infinite where nothing is known."""
        return self._intervals[place]

    def size(self, place: int) -> Tensor:
        """The greatest absolute value, ``1 x *V``."""
        lower, upper = self._intervals[place]
        return torch.maximum(lower.abs(), upper.abs())

    def below_zero(self, place: int) -> Tensor:
        """How far the value extends below zero, ``1 x *V``, >= 0."""
        return (-self._intervals[place][0]).clamp(min=0)

    def lower(self, place: int) -> Tensor:
        """The lower bound of the value, ``1 x *V``."""
        return self._intervals[place][0]

    def never_negative(self, place: int) -> bool:
        """Whether the operation alone guarantees that the value is not negative."""
        node = self.graph.nodes[place]
        if isinstance(node.op, Reshape | MaxPool2d | AvgPool2d):
            return self.never_negative(node.inputs[0])
        return _not_negative(node.op)


def _not_negative(op: Op) -> bool:
    if isinstance(op, AtLeast):
        return bool((op.limit >= 0).all())
    return isinstance(op, Relu) or (isinstance(op, Elementwise) and op.function in NOT_NEGATIVE)


def _may_be_added(ranges: Ranges, place: int) -> bool:
    """Whether a node is a maximum that ReLUs can compute without loss of precision."""
    node = ranges.graph.nodes[place]
    if not isinstance(node.op, MaxPool2d | Maximum):
        return False
    if all(ranges.never_negative(i) for i in node.inputs):
        return True
    if isinstance(node.op, MaxPool2d):
        (source,) = node.inputs
        deepest = node.op(ranges.below_zero(source))
        least = -node.op(-ranges.size(source))
    else:
        a, b = node.inputs
        deepest = torch.maximum(ranges.below_zero(a), ranges.below_zero(b))
        least = torch.minimum(ranges.size(a), ranges.size(b))
    return bool(sum_is_precise(deepest, least).all())


def sum_is_precise(below_zero: Tensor, size: Tensor) -> Tensor:
    """Where ``b + relu(a - b)`` is as precise as the greater of a and b.

    Args:
        below_zero: how far a or b extends below zero, whichever is farther.
        size: the lesser of the greatest absolute values of a and b.
    """
    relative = torch.isfinite(below_zero) & (below_zero <= RATIO * size)
    return (below_zero <= ORDINARY) | relative


def _limits(ranges: Ranges) -> dict[int, Tensor | None]:
    """For each :class:`AtLeast` the limit to write; None if no value reaches it."""
    return {
        place: _raised(ranges, node.inputs[0], node.op.limit)
        for place, node in enumerate(ranges.graph.nodes)
        if isinstance(node.op, AtLeast)
    }


def _raised(ranges: Ranges, source: int, limit: Tensor) -> Tensor | None:
    """The limit, raised to the value's lower bound if it is much larger in size than the value.

    A limit of zero or more is never greater than the maximum and stays as it is.
    """
    if bool((limit >= 0).all()):
        return limit
    lower, size = ranges.lower(source), ranges.size(source)
    if bool((lower >= limit).all()):
        return None
    beside = (limit >= 0) | (limit.abs() <= RATIO * size) | (size == 0)
    return limit if bool(beside.all()) else torch.maximum(limit, lower)[0]
