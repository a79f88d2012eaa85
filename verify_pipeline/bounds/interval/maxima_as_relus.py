"""Where maxima may be written with ReLUs, which branch and bound splits, without losing anything.

``b + relu(a - b)`` is ``max(a, b)`` up to a rounding of float64 that is relative to the greater of
``|a|`` and ``|b|``. Where the maximum itself may be far smaller, the rounding would be a part of a
bound. Interval bounds over all inputs that are asked about tell: only what reaches far below zero
can be greater than the maximum.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from verify_pipeline.bounds.interval.ibp import Interval, node_interval
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast, Maximum
from verify_pipeline.network.maxima import with_relus
from verify_pipeline.network.ops import AvgPool2d, Elementwise, MaxPool2d, Op, Relu, Reshape
from verify_pipeline.problem import Box

ORDINARY = 2.0**12
"""Size up to which a value is an ordinary one: it is rounded by less than 5e-13."""

RATIO = 2.0**20
"""Sizes that differ by less go together: what is lost is below 1.2e-10 of the smaller."""

NOT_NEGATIVE = frozenset({"sigmoid", "exp", "square", "sqrt", "softplus"})


def with_splittable_maxima(graph: Graph, reach: Callable[[], Box | None]) -> Graph:
    """The same function with ReLUs in place of maxima and limits, where that loses nothing.

    Limits that no input reaches are left out. What stays is bounded as it is and cannot be split.

    Args:
        graph: the network.
        reach: one box of all inputs that bounds are asked of; None: any input. It is called only
            where the graph has maxima of which more has to be known.

    Returns:
        A graph that is right over ``reach``; the same graph if there is nothing to write anew.
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
    """Intervals of a graph's values over all inputs, worked out when they are first asked for.

    Args:
        graph: the network.
        reach: one box of all inputs; None: any input.
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
        """Bounds ``1 x *V`` of a value; infinite where nothing is known."""
        return self._intervals[place]

    def size(self, place: int) -> Tensor:
        """The greatest absolute value, ``1 x *V``."""
        lower, upper = self._intervals[place]
        return torch.maximum(lower.abs(), upper.abs())

    def below_zero(self, place: int) -> Tensor:
        """How far the value reaches below zero, ``1 x *V``."""
        return (-self._intervals[place][0]).clamp(min=0)

    def lower(self, place: int) -> Tensor:
        """The least value, ``1 x *V``."""
        return self._intervals[place][0]

    def never_negative(self, place: int) -> bool:
        """Whether the operation alone says that the value is not below zero."""
        node = self.graph.nodes[place]
        if isinstance(node.op, Reshape | MaxPool2d | AvgPool2d):
            return self.never_negative(node.inputs[0])
        return _not_negative(node.op)


def _not_negative(op: Op) -> bool:
    if isinstance(op, AtLeast):
        return bool((op.limit >= 0).all())
    return isinstance(op, Relu) or (isinstance(op, Elementwise) and op.function in NOT_NEGATIVE)


def _may_be_added(ranges: Ranges, place: int) -> bool:
    """Whether a node is a maximum, and no value is lost beside one that is far below zero."""
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
    """Where ``b + relu(a - b)`` is as precise as the greater of a and b is.

    Args:
        below_zero: how far the deeper of the two reaches below zero.
        size: the lesser of their greatest absolute values.
    """
    relative = torch.isfinite(below_zero) & (below_zero <= RATIO * size)
    return (below_zero <= ORDINARY) | relative


def _limits(ranges: Ranges) -> dict[int, Tensor | None]:
    """The limit of each :class:`AtLeast` as it may be written; None for one that is not reached."""
    return {
        place: _raised(ranges, node.inputs[0], node.op.limit)
        for place, node in enumerate(ranges.graph.nodes)
        if isinstance(node.op, AtLeast)
    }


def _raised(ranges: Ranges, source: int, limit: Tensor) -> Tensor | None:
    """A limit, raised to where the range of a value begins if it is large beside the value.

    One of zero or more is no greater than the maximum.
    """
    if bool((limit >= 0).all()):
        return limit
    lower, size = ranges.lower(source), ranges.size(source)
    if bool((lower >= limit).all()):
        return None
    beside = (limit >= 0) | (limit.abs() <= RATIO * size) | (size == 0)
    return limit if bool(beside.all()) else torch.maximum(limit, lower)[0]
