"""Interval bounds of affine operations, which hold in floating point (``floating_point``)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import (
    LEAST_WIDTH,
    Interval,
    gamma,
    greatest,
    size,
    widened,
)
from verify_pipeline.bounds.types import LARGEST
from verify_pipeline.network.affine_error import EXACT, AffineError
from verify_pipeline.network.norms import fans
from verify_pipeline.network.ops import AvgPool2d, Conv2d, Linear, LinearOp, Mean, Scale, Sum

LEAST_WEIGHT = 2.0**-320
"""Times γ and ``floating_point.LEAST_SIZE``, still in the range of float64."""

MODERATE = 2.0**20
"""Intervals are handled by centre and radius if values and weights are at most this large.

Rounding errors of centre and radius are relative to the larger end of an interval. They would
destroy the smaller end of a very wide interval.
"""


def largest(*values: Tensor) -> float:
    """The greatest absolute value; NaN if any value is NaN."""
    return max((float(v.detach().abs().amax()) for v in values if v.numel()), default=0.0)


def weighted(op: Linear | Conv2d, interval: Interval) -> Interval:
    """Bounds of a linear layer or a convolution: by centre and radius if no number is large."""
    if largest(*interval) <= MODERATE and largest(op.weight) <= MODERATE:
        return by_centre(op, interval)
    return _by_ends(op, interval)


def by_centre(op: LinearOp, interval: Interval) -> Interval:
    """Bounds of an affine operation by centre and radius.

    The radius of the input grows by γ times its greatest value m before it is propagated. The
    radius of the value then contains ``γ |W| m``, which is more than all roundings of both products
    (Rump 1999, Fast and parallel interval arithmetic, BIT 39).
    """
    lower, upper = interval
    center, radius = (lower + upper) / 2, (upper - lower) / 2
    terms = fans(op, tuple(lower.shape[1:]), ()).inward
    share = gamma(2 * terms + 12, lower.dtype)
    if share:
        radius = radius.add(size(interval), alpha=share)
    value, spread = op(center), op.linear_abs(radius)
    if share:
        spread = spread + (
            _of_constant(op, terms, lower) + _of_weights(_error(op), interval, spread)
        )
        spread = spread + _of_tiny_weights(op, interval)
    return value - spread, value + spread


def _by_ends(op: Linear | Conv2d, interval: Interval) -> Interval:
    lower, upper = interval
    positive = replace(op, weight=op.weight.clamp(min=0))
    negative = replace(op, weight=op.weight.clamp(max=0), bias=None)
    bounds = positive(lower) + negative(upper), positive(upper) + negative(lower)
    bias = None if op.bias is None else op.bias.abs()
    terms = fans(op, tuple(lower.shape[1:]), ()).inward
    share = gamma(terms + 8, lower.dtype)
    if share:
        # each end is a sum of its own: its rounding is relative to the terms of this sum
        least, most = size((lower, lower)), size((upper, upper))
        heavy = replace(positive, bias=bias)
        sums = heavy(least) - negative(most), heavy(most) - negative(least)
        change = _of_weights(op.error, interval, bounds[0]) + _of_tiny_weights(op, interval)
        bounds = _widened_each(bounds, (share * sums[0] + change, share * sums[1] + change))
    sizes = replace(op, weight=op.weight.abs(), bias=bias)(greatest(interval))
    return unless_it_overflows(bounds, sizes)


def _error(op: LinearOp) -> AffineError:
    return op.error if isinstance(op, (Linear, Conv2d, Scale)) else EXACT


def _of_weights(error: AffineError, interval: Interval, like: Tensor) -> Tensor | float:
    """What errors of weights and constants change at most, ``N x 1 …`` as ``like``."""
    if not error or not interval[0].numel():
        return error.constant
    most = greatest(interval).flatten(1).amax(1)
    change = (error.gain * most + error.constant) * (1 + 2.0**-20)
    return change.view(-1, *(1,) * (like.dim() - 1))


def _of_tiny_weights(op: LinearOp, interval: Interval) -> Tensor | float:
    """What products with tiny weights lose below the normal range, broadcastable to ``N x *V``.

    γ of a size is more than that for other weights. No weight of a float32 file is so small.
    """
    if not isinstance(op, (Linear, Conv2d)):
        return 0.0
    tiny = (op.weight.abs() < LEAST_WEIGHT) & (op.weight != 0)
    if not tiny.any():
        return 0.0
    counted = replace(op, weight=tiny.to(op.weight), bias=None)
    return LEAST_WIDTH * counted(greatest(interval).sign())


def _of_constant(op: LinearOp, terms: int, like: Tensor) -> Tensor | float:
    """What roundings relative to the constant change at most, broadcastable to ``N x *V``."""
    share = gamma(terms + 8, like.dtype)
    if isinstance(op, (Linear, Conv2d)):
        if op.bias is None:
            return 0.0
        bias = share * op.bias.abs()
        return bias.view(-1, 1, 1) if isinstance(op, Conv2d) else bias
    return share * op(torch.zeros_like(like[:1])).abs()


def scaled(op: Scale, interval: Interval) -> Interval:
    """Bounds of ``x * scale + shift``, computed from the ends.

    If bounds are large, centre and radius would lose the small ε of a normalisation. So would
    roundings relative to the other end.
    """
    lower, upper = interval
    positive, negative = op.scale.clamp(min=0), op.scale.clamp(max=0)
    bounds = (
        lower * positive + upper * negative + op.shift,
        upper * positive + lower * negative + op.shift,
    )
    share = gamma(8, lower.dtype)
    if not share:
        return bounds
    least, most = size((lower, lower)), size((upper, upper))
    sizes = (
        least * positive - most * negative + op.shift.abs(),
        most * positive - least * negative + op.shift.abs(),
    )
    change = _of_weights(op.error, interval, bounds[0])
    # an end that is exactly 0 stays 0
    products = (
        least.sign() * positive.sign() - most.sign() * negative.sign(),
        most.sign() * positive.sign() - least.sign() * negative.sign(),
    )
    lost = (share * s + LEAST_WIDTH * p for s, p in zip(sizes, products, strict=True))
    low, high = (change + error for error in lost)
    return _widened_each(bounds, (low, high))


def summed(op: AvgPool2d | Mean | Sum, interval: Interval) -> Interval:
    """Bounds of an operation that sums elements of its input and may divide the sum."""
    lower, upper = interval
    bounds = op(lower), op(upper)
    share = gamma(fans(op, tuple(lower.shape[1:]), ()).inward + 8, lower.dtype)
    if share:
        sizes = op(size((lower, lower))), op(size((upper, upper)))
        bounds = _widened_each(bounds, (share * sizes[0], share * sizes[1]))
    if largest(lower, upper) <= MODERATE:
        return bounds
    terms = op(greatest(interval))
    return unless_it_overflows(bounds, terms * (lower[0].numel() if len(lower) else 1))


def _widened_each(bounds: Interval, errors: tuple[Tensor, Tensor]) -> Interval:
    """As :func:`widened`, with an error of each end."""
    return widened(bounds, errors[0])[0], widened(bounds, errors[1])[1]


def unless_it_overflows(bounds: Interval, terms: Tensor) -> Interval:
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
