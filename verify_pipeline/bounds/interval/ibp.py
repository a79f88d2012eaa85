"""Interval bound propagation (IBP): Gowal et al. 2018 (arXiv:1810.12715).

:func:`enclose` bounds the value of one operation, and :func:`interval_bounds` walks the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import (
    FUNCTION_ROUNDINGS,
    LEAST_FACTOR,
    LEAST_WIDTH,
    Interval,
    gamma,
    greatest,
    rounded,
    rounded_function,
    size,
    widened,
)
from verify_pipeline.bounds.interval.affine import (
    MODERATE,
    by_centre,
    largest,
    scaled,
    summed,
    unless_it_overflows,
    weighted,
)
from verify_pipeline.bounds.interval.elementwise import elementwise_range
from verify_pipeline.bounds.types import NodeBounds, sound_lower, sound_upper
from verify_pipeline.network.affine_error import EXACT
from verify_pipeline.network.differences import SoftmaxOfDifferences
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast, Maximum, Rounded
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
    if not largest(*values) <= MODERATE:  # differences from the price would round too much
        return bounds
    lower, upper = widened(mean_interval(weights, values), _rounding_of_mean(weights, values))
    return torch.maximum(bounds[0], lower), torch.minimum(bounds[1], upper)


def _rounding_of_mean(weights: Interval, values: Interval) -> Tensor:
    """What rounding changes in ``mean_interval`` at most, ``N x … x T x D`` or broadcastable.

    It sums J products of weights with differences of at most twice the greatest value.
    """
    share = gamma(weights[0].shape[-1] + 16, values[0].dtype)
    most = size(values).amax((-2, -1), keepdim=True)
    return 4 * share * most * (1 + weights[1].sum(-1, keepdim=True))


def interval_margins(graph: Graph, box: Box, spec: Specification) -> Tensor:
    """Lower bounds of the margins ``C f(x) + d`` over each instance's box, ``N x S``.

    A final linear layer is merged with C before it is bounded. This is tighter than a combination
    of the outputs' bounds. A bound is ``-inf`` where nothing is known.
    """
    bounds = interval_bounds(graph, box)
    rows, offsets, place = spec.rows, spec.offsets, len(graph.nodes) - 1
    last = graph.nodes[place].op
    merged = isinstance(last, Linear) and len(graph.nodes[place].shape) == 1
    source = graph.nodes[place].inputs[0] if merged else place
    sizes = size((bounds.lower[source], bounds.upper[source]))
    lost = _rounding_of_margins(last if isinstance(last, Linear) and merged else None, spec, sizes)
    if isinstance(last, Linear) and merged:
        if last.bias is not None:
            offsets = offsets + rows @ last.bias
        rows = rows @ last.weight
    lower, upper = bounds.lower[source].unsqueeze(2), bounds.upper[source].unsqueeze(2)
    # computed from the ends, because centre and radius lose the small end of a wide interval
    margins = rows.clamp(min=0) @ lower + rows.clamp(max=0) @ upper
    return sound_lower(margins.squeeze(2) + offsets - lost)


def _rounding_of_margins(last: Linear | None, spec: Specification, sizes: Tensor) -> Tensor:
    """What rounding changes in ``interval_margins`` at most, ``N x S``.

    Args:
        last: the layer that is merged with the rows; None: there is none.
        spec: ``N`` specifications.
        sizes: greatest absolute values of what the merged rows are applied to, ``N x I``.
    """
    rows = spec.rows.abs()
    terms, error, reach = sizes.shape[1] + rows.shape[2], EXACT, sizes.amax(1, keepdim=True)
    if last is not None:
        error = last.error
        sizes = replace(last, weight=last.weight.abs(), bias=_absolute(last.bias))(sizes)
    most = error.gain * reach + error.constant
    share = gamma(terms + 16, sizes.dtype)
    lost = (rows @ sizes.unsqueeze(2)).squeeze(2) + spec.offsets.abs()
    # products below the normal range, also those of rows and weights, which meet an input then
    tiny = LEAST_WIDTH * (1 + reach)
    return (share * lost + most * rows.sum(2)) * (1 + 2.0**-20) + tiny


def _absolute(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias.abs()


@singledispatch
def enclose(op: Op, *inputs: Interval) -> Interval:
    """Bounds of ``op``'s value from bounds of its inputs; NaN is possible if these are infinite.

    Raises:
        NotImplementedError: there is no rule for the operation.
    """
    raise NotImplementedError(f"no interval bounds for {type(op).__name__}")


@enclose.register
def _(op: LinearOp, *inputs: Interval) -> Interval:
    return by_centre(op, inputs[0])


@enclose.register(Linear)
@enclose.register(Conv2d)
def _weighted(op: Linear | Conv2d, *inputs: Interval) -> Interval:
    return weighted(op, inputs[0])


@enclose.register
def _(op: Scale, *inputs: Interval) -> Interval:
    return scaled(op, inputs[0])


@enclose.register(AvgPool2d)
@enclose.register(Mean)
@enclose.register(Sum)
def _summing(op: AvgPool2d | Mean | Sum, *inputs: Interval) -> Interval:
    return summed(op, inputs[0])


@enclose.register
def _(op: Rounded, *inputs: Interval) -> Interval:
    """Of the input and of the rounded one: onnxruntime leaves casts out beside those it adds."""
    ((lower, upper),) = inputs
    return torch.minimum(lower, op(lower)), torch.maximum(upper, op(upper))


@enclose.register(Relu)
@enclose.register(MaxPool2d)
@enclose.register(AtLeast)
@enclose.register(Maximum)
@enclose.register(Concat)
@enclose.register(Constant)
@enclose.register(Reshape)
@enclose.register(Transpose)
@enclose.register(Pad)
@enclose.register(Slice)
@enclose.register(Gather)
def _increasing(op: Op, *inputs: Interval) -> Interval:
    """Bounds of an operation that is non-decreasing in each of its inputs, and not rounded."""
    return op(*(lower for lower, _ in inputs)), op(*(upper for _, upper in inputs))


@enclose.register
def _(op: Add, *inputs: Interval) -> Interval:
    return rounded(_increasing(op, *inputs), 1)


@enclose.register
def _(op: LeakyRelu, *inputs: Interval) -> Interval:
    return widened(_increasing(op, *inputs), LEAST_WIDTH * greatest(inputs[0]).sign())


@enclose.register
def _(op: Sub, *inputs: Interval) -> Interval:
    (lower, upper), (less_lower, less_upper) = inputs
    return rounded((lower - less_upper, upper - less_lower), 1)


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
    # rounding is monotone: each end is that of the exact end; 0 times anything is not rounded
    return widened((lower, upper), LEAST_WIDTH * (greatest(left).sign() * greatest(right).sign()))


@enclose.register
def _(op: Div, *inputs: Interval) -> Interval:
    return _product(inputs[0], elementwise_range("reciprocal", *inputs[1]))


@enclose.register
def _(op: MatMul, *inputs: Interval) -> Interval:
    """By centre and radius: Rump 1999, Fast and parallel interval arithmetic, BIT 39."""
    (left_lower, left_upper), (right_lower, right_upper) = inputs
    left, left_radius = (left_lower + left_upper) / 2, (left_upper - left_lower) / 2
    right, right_radius = (right_lower + right_upper) / 2, (right_upper - right_lower) / 2
    share = gamma(2 * left.shape[-1] + 12, left.dtype)
    if share:  # as in affine.by_centre
        left_radius = left_radius.add(size(inputs[0], LEAST_FACTOR), alpha=share)
        right_radius = right_radius.add(size(inputs[1], LEAST_FACTOR), alpha=share)
    center = left @ right
    radius = left.abs() @ right_radius + left_radius @ (right.abs() + right_radius)
    if largest(left, left_radius, right, right_radius) <= MODERATE:
        return center - radius, center + radius
    terms = (left.abs() + left_radius) @ (right.abs() + right_radius)
    return unless_it_overflows((center - radius, center + radius), terms)


@enclose.register
def _(op: Softmax, *inputs: Interval) -> Interval:
    """Exact bounds: output i is ``sigmoid(x_i - log Σ_j≠i exp(x_j))``.

    It increases in its own input and decreases in every other input.
    """
    lower, upper = inputs[0]
    axis = op.axis + 1
    least = (lower - _log_of_others(upper, axis)).sigmoid()
    shares = least, (upper - _log_of_others(lower, axis)).sigmoid()
    # a score far below another one does not change the sum, whatever its rounding
    counts = upper >= lower.amax(axis, keepdim=True) - FAR
    exponent = greatest(inputs[0]).where(counts, 0.0).amax(axis, keepdim=True)
    return _of_exponents(shares, lower.shape[axis], exponent)


@enclose.register
def _(op: SoftmaxOfDifferences, *inputs: Interval) -> Interval:
    """Exact if the differences are independent: output i decreases in every ``x_j - x_i``."""
    lower, upper = inputs[0]
    most = op.one_against_all(lower, -upper).logsumexp(-1).neg().exp()
    shares = op.one_against_all(upper, -lower).logsumexp(-1).neg().exp(), most
    # beyond it, a term or the whole share is 0
    exponent = greatest(inputs[0]).clamp(max=FAR).amax(-1, keepdim=True)
    return _of_exponents(shares, op.scores, exponent)


FAR = 2.0**12
"""exp(-FAR) is far below the least number of float64."""


def _of_exponents(shares: Interval, count: int, exponent: Tensor) -> Interval:
    """Shares ``exp(x_i) / Σ exp(x_j)`` with what rounding changes in their exponents.

    Args:
        shares: as computed; an error of δ in an exponent changes them by a factor of exp(±δ).
        count: K, how many terms a sum has.
        exponent: the greatest absolute score or difference, broadcastable to the shares.
    """
    share = gamma(FUNCTION_ROUNDINGS * (count + 4), exponent.dtype)
    if not share:
        return shares
    lower, upper = rounded_function(shares)
    change = 4 * share * (1 + exponent)
    return (lower - change * lower.abs()).clamp(min=0), (upper + change * upper).clamp(max=1)


def _log_of_others(x: Tensor, axis: int) -> Tensor:
    """For each element, the log-sum-exp of all other elements along the axis."""
    before = x.logcumsumexp(axis).roll(1, axis)
    after = x.flip(axis).logcumsumexp(axis).flip(axis).roll(-1, axis)
    before.narrow(axis, 0, 1).fill_(-torch.inf)
    after.narrow(axis, -1, 1).fill_(-torch.inf)
    return torch.logaddexp(before, after)
