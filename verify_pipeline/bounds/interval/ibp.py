"""Interval bound propagation (IBP): Gowal et al. 2018 (arXiv:1810.12715).

:func:`enclose` bounds the value of one operation, and :func:`interval_bounds` walks the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.bounds.interval.elementwise import elementwise_range
from verify_pipeline.bounds.types import LARGEST, NodeBounds, sound_lower, sound_upper
from verify_pipeline.network.differences import SoftmaxOfDifferences
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast, Maximum, Single
from verify_pipeline.network.maxima import greater_of
from verify_pipeline.network.means import mean_of
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Constant,
    Conv2d,
    Div,
    Elementwise,
    Gather,
    LeakyRelu,
    Linear,
    LinearOp,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Op,
    Pad,
    Relu,
    Reshape,
    Scale,
    Slice,
    Softmax,
    Sub,
    Sum,
    Transpose,
)
from verify_pipeline.problem import Box, Specification
from verify_pipeline.weighted_means import mean_interval

Interval = tuple[Tensor, Tensor]
"""Lower and upper bounds of a value, ``N x *V`` each."""


def interval_bounds(graph: Graph, box: Box) -> NodeBounds:
    """Bounds of every node's value over each instance's box.

    Args:
        graph: the network.
        box: ``N`` boxes.

    Returns:
        Bounds of all nodes. If any value of an instance cannot be bounded, all its bounds are
        infinite.
    """
    intervals: list[Interval] = [(box.lower, box.upper)]
    for place in range(1, len(graph.nodes)):
        intervals.append(node_interval(graph, place, intervals.__getitem__))
    return NodeBounds(
        {place: lower for place, (lower, _) in enumerate(intervals)},
        {place: upper for place, (_, upper) in enumerate(intervals)},
    ).where_defined()


def node_interval(graph: Graph, place: int, known: Callable[[int], Interval]) -> Interval:
    """Bounds of one node's value, which are sound even if bounds of earlier nodes are infinite.

    Args:
        graph: the network.
        place: index of the node.
        known: returns the bounds of an earlier node, given its index.
    """
    node = graph.nodes[place]
    pair = greater_of(graph, place)
    if pair is not None:
        (lower, upper), (other_lower, other_upper) = (known(i) for i in pair)
        bounds = torch.maximum(lower, other_lower), torch.maximum(upper, other_upper)
    else:
        bounds = enclose(node.op, *(known(i) for i in node.inputs))
        bounds = _as_mean(graph, place, known, bounds)
    return sound_lower(bounds[0]), sound_upper(bounds[1])


def _as_mean(
    graph: Graph, place: int, known: Callable[[int], Interval], bounds: Interval
) -> Interval:
    """The bounds of a product, and those that hold because its weights sum to one."""
    pair = mean_of(graph, place)
    if pair is None:
        return bounds
    weights, values = (known(i) for i in pair)
    if not _largest(*values) <= MODERATE:  # differences from the price would round too much
        return bounds
    lower, upper = mean_interval(weights, values)
    return torch.maximum(bounds[0], lower), torch.minimum(bounds[1], upper)


def interval_margins(graph: Graph, box: Box, spec: Specification) -> Tensor:
    """Lower bounds of the margins ``C f(x) + d`` over each instance's box, ``N x S``.

    A final linear layer is merged with C before it is bounded. This is tighter than a combination
    of the outputs' bounds. A bound is ``-inf`` where nothing is known.
    """
    bounds = interval_bounds(graph, box)
    rows, offsets, place = spec.rows, spec.offsets, len(graph.nodes) - 1
    last = graph.nodes[place].op
    if isinstance(last, Linear) and len(graph.nodes[place].shape) == 1:
        if last.bias is not None:
            offsets = offsets + rows @ last.bias
        rows, place = rows @ last.weight, graph.nodes[place].inputs[0]
    lower, upper = bounds.lower[place].unsqueeze(2), bounds.upper[place].unsqueeze(2)
    # computed from the ends, because centre and radius lose the small end of a wide interval
    margins = rows.clamp(min=0) @ lower + rows.clamp(max=0) @ upper
    return sound_lower(margins.squeeze(2) + offsets)


@singledispatch
def enclose(op: Op, *inputs: Interval) -> Interval:
    """Bounds of ``op``'s value from bounds of its inputs; NaN is possible if these are infinite.

    Raises:
        NotImplementedError: there is no rule for the operation.
    """
    raise NotImplementedError(f"no interval bounds for {type(op).__name__}")


MODERATE = 2.0**20
"""Intervals are handled by centre and radius if values and weights are at most this large.

Rounding errors of centre and radius are relative to the larger end of an interval. They would
destroy the smaller end of a very wide interval.
"""


def _largest(*values: Tensor) -> float:
    """The greatest absolute value; NaN if any value is NaN."""
    return max((float(v.detach().abs().amax()) for v in values if v.numel()), default=0.0)


@enclose.register
def _(op: LinearOp, *inputs: Interval) -> Interval:
    lower, upper = inputs[0]
    center, radius = op((lower + upper) / 2), op.linear_abs((upper - lower) / 2)
    return center - radius, center + radius


@enclose.register(Linear)
@enclose.register(Conv2d)
def _weighted(op: Linear | Conv2d, *inputs: Interval) -> Interval:
    lower, upper = inputs[0]
    if _largest(lower, upper) <= MODERATE and _largest(op.weight) <= MODERATE:
        center, radius = op((lower + upper) / 2), op.linear_abs((upper - lower) / 2)
        return center - radius, center + radius
    positive = replace(op, weight=op.weight.clamp(min=0))
    negative = replace(op, weight=op.weight.clamp(max=0), bias=None)
    bounds = positive(lower) + negative(upper), positive(upper) + negative(lower)
    bias = None if op.bias is None else op.bias.abs()
    absolute = replace(op, weight=op.weight.abs(), bias=bias)
    return _unless_it_overflows(bounds, absolute(torch.maximum(lower.abs(), upper.abs())))


def _unless_it_overflows(bounds: Interval, terms: Tensor) -> Interval:
    """Make bounds of sums infinite where a partial sum may overflow float32, in any order.

    Args:
        bounds: bounds of the sums, ``N x *V``.
        terms: sums of the absolute values of the terms, ``N x *V``.
    """
    # written without ">", so that NaN counts as an overflow
    overflows = ~(terms <= LARGEST)
    return (
        bounds[0].masked_fill(overflows, -torch.inf),
        bounds[1].masked_fill(overflows, torch.inf),
    )


@enclose.register
def _(op: Scale, *inputs: Interval) -> Interval:
    """Computed from the ends.

    If bounds are large, centre and radius would lose the small ε of a normalisation.
    """
    lower, upper = inputs[0]
    positive, negative = op.scale.clamp(min=0), op.scale.clamp(max=0)
    return (
        lower * positive + upper * negative + op.shift,
        upper * positive + lower * negative + op.shift,
    )


@enclose.register(Relu)
@enclose.register(LeakyRelu)
@enclose.register(MaxPool2d)
@enclose.register(AtLeast)
@enclose.register(Maximum)
@enclose.register(Single)
@enclose.register(Concat)
@enclose.register(Add)
@enclose.register(Constant)
@enclose.register(Reshape)
@enclose.register(Transpose)
@enclose.register(Pad)
@enclose.register(Slice)
@enclose.register(Gather)
def _increasing(op: Op, *inputs: Interval) -> Interval:
    """Bounds of an operation that is non-decreasing in each of its inputs."""
    return op(*(lower for lower, _ in inputs)), op(*(upper for _, upper in inputs))


@enclose.register(AvgPool2d)
@enclose.register(Mean)
@enclose.register(Sum)
def _summing(op: AvgPool2d | Mean | Sum, *inputs: Interval) -> Interval:
    """Bounds of an operation that sums elements of its input and may divide the sum."""
    lower, upper = inputs[0]
    bounds = op(lower), op(upper)
    if _largest(lower, upper) <= MODERATE:
        return bounds
    terms = op(torch.maximum(lower.abs(), upper.abs()))
    return _unless_it_overflows(bounds, terms * (lower[0].numel() if len(lower) else 1))


@enclose.register
def _(op: Sub, *inputs: Interval) -> Interval:
    (lower, upper), (less_lower, less_upper) = inputs
    return lower - less_upper, upper - less_lower


@enclose.register
def _(op: Elementwise, *inputs: Interval) -> Interval:
    return elementwise_range(op.function, *inputs[0])


@enclose.register
def _(op: Mul, *inputs: Interval) -> Interval:
    return _product(*inputs)


def _product(left: Interval, right: Interval) -> Interval:
    first, second = left[0] * right[0], left[0] * right[1]
    third, fourth = left[1] * right[0], left[1] * right[1]
    # minimum and maximum propagate NaN (0 times infinity), which later counts as unbounded
    lower = torch.minimum(torch.minimum(first, second), torch.minimum(third, fourth))
    upper = torch.maximum(torch.maximum(first, second), torch.maximum(third, fourth))
    return lower, upper


@enclose.register
def _(op: Div, *inputs: Interval) -> Interval:
    return _product(inputs[0], elementwise_range("reciprocal", *inputs[1]))


@enclose.register
def _(op: MatMul, *inputs: Interval) -> Interval:
    """By centre and radius: Rump 1999, Fast and parallel interval arithmetic, BIT 39."""
    (left_lower, left_upper), (right_lower, right_upper) = inputs
    left, left_radius = (left_lower + left_upper) / 2, (left_upper - left_lower) / 2
    right, right_radius = (right_lower + right_upper) / 2, (right_upper - right_lower) / 2
    center = left @ right
    radius = left.abs() @ right_radius + left_radius @ (right.abs() + right_radius)
    if _largest(left, left_radius, right, right_radius) <= MODERATE:
        return center - radius, center + radius
    terms = (left.abs() + left_radius) @ (right.abs() + right_radius)
    # adds back what rounding may have removed from the radius, for sums of up to 2^10 products
    radius = radius + terms * 2.0**-40
    return _unless_it_overflows((center - radius, center + radius), terms)


@enclose.register
def _(op: Softmax, *inputs: Interval) -> Interval:
    """Exact bounds: output i is ``sigmoid(x_i - log Σ_j≠i exp(x_j))``.

    It increases in its own input and decreases in every other input.
    """
    lower, upper = inputs[0]
    axis = op.axis + 1
    least = (lower - _log_of_others(upper, axis)).sigmoid()
    return least, (upper - _log_of_others(lower, axis)).sigmoid()


@enclose.register
def _(op: SoftmaxOfDifferences, *inputs: Interval) -> Interval:
    """Exact if the differences are independent: output i decreases in every ``x_j - x_i``."""
    lower, upper = inputs[0]
    most = op.one_against_all(lower, -upper).logsumexp(-1).neg().exp()
    return op.one_against_all(upper, -lower).logsumexp(-1).neg().exp(), most


def _log_of_others(x: Tensor, axis: int) -> Tensor:
    """For each element, the log-sum-exp of all other elements along the axis."""
    before = x.logcumsumexp(axis).roll(1, axis)
    after = x.flip(axis).logcumsumexp(axis).flip(axis).roll(-1, axis)
    before.narrow(axis, 0, 1).fill_(-torch.inf)
    after.narrow(axis, -1, 1).fill_(-torch.inf)
    return torch.logaddexp(before, after)
