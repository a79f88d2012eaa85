"""The error of each operation. In all formulas, D is an input's error, m its size, A its terms.

What storing a result in a narrower type changes is charged where the result is computed
(``storing``). Moves, maxima, limits and ReLUs commute with it and are not charged again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import Interval, greatest
from verify_pipeline.bounds.forward_error.affine import affine, handed_on, summed
from verify_pipeline.bounds.forward_error.computed import UPWARD, Computed, storing
from verify_pipeline.bounds.forward_error.functions import LIBRARY, nearest_zero, slope
from verify_pipeline.network.arithmetic import Arithmetic
from verify_pipeline.network.limits import AtLeast, Maximum, Rounded
from verify_pipeline.network.ops import (
    Add,
    Concat,
    Constant,
    Div,
    Elementwise,
    LeakyRelu,
    LinearOp,
    MatMul,
    MaxPool2d,
    Mul,
    Relu,
    Softmax,
    Sub,
)
from verify_pipeline.rounding import nearest


@singledispatch
def evaluate(op: object, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """What is known of an operation's computed value.

    Args:
        op: the operation.
        arithmetic: in which it is evaluated.
        interval: of its exact value.
        inputs: computed values of its inputs.

    Raises:
        NotImplementedError: there is no rule for the operation.
    """
    raise NotImplementedError(f"no rounding errors of {type(op).__name__}")


@evaluate.register
def _(op: LinearOp, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    return affine(op, arithmetic, interval, inputs[0])


@evaluate.register(Add)
@evaluate.register(Sub)
def _(op: Add | Sub, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    return summed(arithmetic, interval, *inputs)


@evaluate.register
def _(op: Constant, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """A constant of the file, which may be flushed to zero."""
    size = op.value.abs()
    converted = arithmetic.conversions * arithmetic.unit * size
    error = torch.where(size < arithmetic.tiny, size, converted).expand_as(interval[0])
    return replace(Computed.closed(interval, error), constants=size.expand_as(error))


@evaluate.register
def _(op: Concat, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    return Computed(
        interval,
        op(*(x.error for x in inputs)),
        op(*(handed_on(x) for x in inputs)),
        op(*(x.terms for x in inputs)),
        op(*(x.constants for x in inputs)),
        max(x.count for x in inputs),
        torch.stack([x.reach for x in inputs]).amax(0),
        max(x.gain for x in inputs),
    )


@evaluate.register
def _(op: Relu, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """D, or 0 where the computed input is never above zero either."""
    (x,) = inputs
    active = x.interval[1] + x.error * UPWARD > 0
    error = _unless_zero(active, x.error + arithmetic.inner.tiny)
    return Computed.closed(interval, error, arithmetic.inner.tiny)


@evaluate.register
def _(op: AtLeast, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """D, or 0 where the computed input is never above the limit either."""
    (x,) = inputs
    above = x.interval[1] + x.error * UPWARD > op.limit
    # the limit itself may be flushed, or be no number of the type
    flushed = arithmetic.inner.tiny * (greatest(interval) > 0)
    limit = nearest(op.limit, arithmetic.dtype)
    moved = torch.where(op.limit.abs() < arithmetic.tiny, op.limit, limit - op.limit).abs()
    own = flushed + torch.where(op.limit.isinf(), 0.0, moved)
    return Computed.closed(interval, _unless_zero(above, x.error) + own, own)


@evaluate.register
def _(op: LeakyRelu, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """``D + γ_4 slope (m + D)`` where the computed input may be negative.

    The slope and the product may be stored. A slope below the normal range may become zero.
    """
    (x,) = inputs
    below = (x.error - x.interval[0]).clamp(min=0)
    share = 1.0 if op.slope < arithmetic.tiny else arithmetic.gamma(4, stored=2)
    own = share * op.slope * below * UPWARD + 2 * arithmetic.tiny
    return Computed.closed(interval, (x.error + own) * UPWARD, own)


@evaluate.register
def _(op: MaxPool2d, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """Greatest values differ by at most the greatest difference."""
    error = op(inputs[0].error)
    return Computed.closed(interval, error + arithmetic.inner.tiny, arithmetic.inner.tiny)


@evaluate.register
def _(op: Maximum, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    error = op(*(x.error for x in inputs))
    return Computed.closed(interval, error + arithmetic.inner.tiny, arithmetic.inner.tiny)


@evaluate.register
def _(op: Rounded, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """Both numbers are rounded to the type."""
    (x,) = inputs
    limits = torch.finfo(op.type)
    tiny = max(arithmetic.inner.tiny, limits.tiny)
    error = (x.error + limits.eps * x.size) * UPWARD + tiny
    return Computed.closed(interval, torch.where(x.size <= limits.max, error, torch.inf))


@evaluate.register
def _(op: Elementwise, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """The slope times the error of the argument, and the library's error."""
    (x,) = inputs
    argument = (x.error + arithmetic.inner.tiny) * UPWARD
    reach = x.interval[0] - argument, x.interval[1] + argument
    moved = slope(op.function, reach) * argument
    library = LIBRARY[op.function]
    value = greatest(interval) + moved
    own = library.of_value * value + library.absolute + library.of_argument * greatest(reach)
    # an argument that is flushed is an error of the function's own
    flushed = slope(op.function, reach) * arithmetic.inner.tiny + arithmetic.inner.tiny
    own = (arithmetic.inner.unit * own + flushed) * UPWARD
    own = own + storing(arithmetic, interval, moved + own)
    error = (moved + own) * UPWARD
    # factors of the argument, such as 6 in hard swish's, must not overflow
    fits = library.of_argument * greatest(reach) <= arithmetic.most
    known = torch.where(fits & error.isfinite(), error, torch.inf)
    return Computed.closed(interval, known, own)


@evaluate.register
def _(op: Mul, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """``|a| D_b + D_a |b| + D_a D_b``, and the product's rounding."""
    a, b = inputs
    sizes = greatest(a.interval), greatest(b.interval)
    moved = sizes[0] * b.error + a.error * (sizes[1] + b.error)
    terms = a.size * b.size
    flushed = arithmetic.inner.tiny * (1 + a.size + b.size)
    own = (arithmetic.gamma(3) * terms + flushed) * UPWARD
    own = own + storing(arithmetic, interval, moved + own)
    return _product(interval, (moved + own) * UPWARD, own, terms, 1, inputs)


@evaluate.register
def _(op: MatMul, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """``|A| D_B + D_A (|B| + D_B)``, and the roundings of a sum of J products."""
    a, b = inputs
    sizes = greatest(a.interval), greatest(b.interval)
    count = a.error.shape[-1]
    moved = sizes[0] @ b.error + a.error @ (sizes[1] + b.error)
    terms = a.size @ b.size
    read = a.size.sum(-1, keepdim=True) + b.size.sum(-2, keepdim=True)
    flushed = arithmetic.inner.tiny * (1 + 3 * count + read)
    own = (arithmetic.gamma(count + 3) * terms + flushed) * UPWARD
    own = own + storing(arithmetic, interval, moved + own)
    return _product(interval, (moved + own) * UPWARD, own, terms * UPWARD, count, inputs)


def _product(
    interval: Interval,
    error: Tensor,
    own: Tensor,
    terms: Tensor,
    count: int,
    inputs: tuple[Computed, ...],
) -> Computed:
    """A product's value, a sum of ``count`` terms that a constant factor after it may join."""
    a, b = (x.largest for x in inputs)
    # the factor may be multiplied with either of them first
    reach = 2 * count * (a + b + a * b)
    return Computed(interval, error, own, terms, torch.zeros_like(terms), count, reach)


@evaluate.register
def _(op: Div, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """``(D_a + |a / b| D_b) / r``, r the least size of the computed divisor."""
    a, b = inputs
    tiny = arithmetic.inner.tiny
    divisor = (b.error + tiny) * UPWARD
    least = (nearest_zero(*b.interval) - divisor) * (2 - UPWARD)
    quotient = greatest(interval)
    moved = (a.error + tiny + quotient * divisor) / least
    # a flushed dividend or divisor is an error of the quotient's own, of the computed quotient
    flushed = (tiny + (quotient + moved) * tiny) / least + tiny * (1 + a.size)
    own = (arithmetic.gamma(4) * (quotient + moved) + flushed) * UPWARD
    # a runtime may store the reciprocal first, which must not overflow
    reciprocal = 0.0 if arithmetic.wider is None else a.size * arithmetic.tiny
    own = own + storing(arithmetic, interval, moved + own, often=2) + reciprocal
    fits = (least > 0) & (least * arithmetic.most >= 1)
    error = torch.where(fits, (moved + own) * UPWARD, torch.inf)
    return Computed.closed(interval, error, own)


@evaluate.register
def _(op: Softmax, arithmetic: Arithmetic, interval: Interval, *inputs: Computed) -> Computed:
    """Half of the greatest D (a softmax has slopes of at most 1/2), and its own roundings.

    Exponents are rounded relative to the distance from the greatest score, or to the score itself.
    Exponentials may be stored, of the share and of the sum, and shares.
    """
    (x,) = inputs
    axis = op.axis + 1
    moved = x.error.amax(axis, keepdim=True) / 2
    count = x.error.shape[axis] + LIBRARY["exp"].of_value + 8
    exponents = 4 * arithmetic.inner.unit * x.size.amax(axis, keepdim=True)
    value = (greatest(interval) + moved).clamp(max=2)
    # each exponential of the sum may be flushed where it is stored
    flushed = arithmetic.tiny * count * value + 5 * arithmetic.inner.tiny
    own = (arithmetic.gamma(2 * count, stored=2) + 4 * exponents) * value + flushed
    own = own + storing(arithmetic, interval, moved + own)
    error = (moved + own) * UPWARD
    # first-order terms in the exponents hold where they are small
    small = (exponents < 1 / 16).expand_as(error)
    return Computed.closed(interval, torch.where(small, error, torch.inf), own * UPWARD)


def _unless_zero(counts: Tensor, error: Tensor) -> Tensor:
    """The error where it counts; NaN and infinity stay what they are."""
    return torch.where(counts | ~error.isfinite(), error, 0.0)
