"""Errors of affine operations, as the file writes them and as runtimes merge them.

An operation ``y = W x + b`` of n terms, evaluated by itself, has an error of at most

    |W| D + γ_n |W| (m + D) + γ_n |b|

If x itself is an affine function of earlier values, a runtime may multiply the constants first and
add up the merged sum. Its roundings are relative to the terms A of x, which may be far greater than
x. A merged weight is a sum of n products; a merged constant takes part in a sum of n terms, and
then in the sum that x was. So A stands for m, and γ for the roundings of both ways.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import Interval
from verify_pipeline.bounds.forward_error.computed import UPWARD, Computed, like
from verify_pipeline.network.affine_error import EXACT, Norms
from verify_pipeline.network.arithmetic import Arithmetic
from verify_pipeline.network.norms import fans, norms
from verify_pipeline.network.ops import (
    AvgPool2d,
    Conv2d,
    Linear,
    LinearOp,
    Mean,
    Normalisation,
    Scale,
    Sum,
)

OF_COMPUTED_CONSTANTS = 10
"""Roundings of constants that a runtime computes first: a sum, a root, a quotient, products."""


def handed_on(x: Computed) -> Tensor:
    """The own errors of a sum, which the next affine operation may be merged with; else 0."""
    return x.own if x.count else torch.zeros_like(x.own)


@dataclass(frozen=True, eq=False)
class Terms:
    """The sum that an affine operation is.

    Attributes:
        count: roundings that a product with a weight may undergo; 0: elements are only moved.
        constants: sizes of the constant terms, broadcastable to ``N x *V``; None: there are none.
    """

    count: int
    constants: Tensor | None = None


def terms_of(op: LinearOp, shape: tuple[int, ...]) -> Terms:
    """The sum that an operation on an input ``*V_in`` is."""
    many = fans(op, shape, ()).inward
    if isinstance(op, Normalisation):
        constants = (op.mean * op.scale).abs() + op.bias.abs()
        return Terms(OF_COMPUTED_CONSTANTS, constants)
    if isinstance(op, Scale):
        return Terms(_of_scale(op), op.shift.abs() if bool(op.shift.any()) else None)
    if isinstance(op, Linear):
        return Terms(many + 2, None if op.bias is None else op.bias.abs())
    if isinstance(op, Conv2d):
        return Terms(many + 2, None if op.bias is None else op.bias.abs().view(-1, 1, 1))
    # pooling, means and sums add up and may divide by the number of terms
    return Terms(many + 4 if isinstance(op, (AvgPool2d, Mean, Sum)) else 0)


def _of_scale(op: Scale) -> int:
    if op.error:
        return OF_COMPUTED_CONSTANTS
    if bool((op.scale.abs() <= 1).all() and (op.scale.frac() == 0).all()):
        return 1 if bool(op.shift.any()) else 0
    return 3


def affine(op: LinearOp, arithmetic: Arithmetic, interval: Interval, x: Computed) -> Computed:
    """What is known of an affine operation's computed value.

    Args:
        op: the operation.
        arithmetic: in which it is evaluated.
        interval: of its exact value.
        x: its input.
    """
    shape = tuple(x.error.shape[1:])
    sum_ = terms_of(op, shape)
    if not sum_.count:
        error, own, terms = (op.linear_abs(part) for part in (x.error, handed_on(x), x.terms))
        return Computed(interval, error, own, terms, x.count, x.start, x.gain)
    count = sum_.count if not x.count else 2 * sum_.count
    share = arithmetic.gamma(count)
    own = op.linear_abs(handed_on(x) + share * (x.terms + x.error))
    terms = op.linear_abs(x.terms)
    if sum_.constants is not None:
        own = own + arithmetic.gamma(sum_.count + x.count) * sum_.constants
        terms = terms + sum_.constants
    sizes = norms(op, shape)
    own = (own + like(_flushed(op, arithmetic, x, sum_.count, sizes), own)) * UPWARD
    error = own + op.linear_abs(x.error - handed_on(x))
    gain = sizes.gain * x.gain * UPWARD
    overflow = ~(torch.clamp(_between(op, x), min=gain) <= arithmetic.most)
    error = error.masked_fill(like(overflow, error), torch.inf)
    everything = x.count + 2 * sum_.count
    return Computed(interval, error * UPWARD, own, terms * UPWARD, everything, x.start, gain)


def _flushed(op: LinearOp, arithmetic: Arithmetic, x: Computed, count: int, sizes: Norms) -> Tensor:
    """What numbers below the normal range change if they become zero, ``N``.

    An input, a weight, a product, a partial sum; and of a merged sum, which begins with values of
    at most ``x.start``, every weight and every product that it is made of.
    """
    lost = 2 + sizes.gain + count * (x.largest + 3)
    if x.count:
        lost = lost + count * x.count * (x.start + 2)
    error = op.error if isinstance(op, (Linear, Conv2d, Scale)) else EXACT
    of_constants = error.gain * x.largest + error.constant
    return (arithmetic.tiny * lost + of_constants) * UPWARD


def _between(op: LinearOp, x: Computed) -> Tensor:
    """At least the greatest number that is computed before an operation's own sum, ``N``."""
    if isinstance(op, Normalisation):
        return x.largest + op.mean.abs().amax()
    return x.largest


def summed(arithmetic: Arithmetic, interval: Interval, a: Computed, b: Computed) -> Computed:
    """A sum or difference of two values, each of which may be a sum that the other joins."""
    of_each = arithmetic.gamma(b.count + 2), arithmetic.gamma(a.count + 2)
    own = handed_on(a) + handed_on(b) + 4 * arithmetic.tiny
    own = own + of_each[0] * (a.terms + a.error) + of_each[1] * (b.terms + b.error)
    own = own * UPWARD
    error = own + (a.error - handed_on(a)) + (b.error - handed_on(b))
    return Computed(
        interval,
        error * UPWARD,
        own,
        (a.terms + b.terms) * UPWARD,
        a.count + b.count + 2,
        torch.maximum(a.start, b.start),
        max(a.gain, b.gain),
    )
