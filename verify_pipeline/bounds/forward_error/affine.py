"""Errors of affine operations, as the file writes them and as runtimes merge them.

An operation ``y = W x + b`` of n terms, evaluated by itself, has an error of at most

    |W| D + γ_n |W| (m + D) + γ_n |b|

If x itself is an affine function of earlier values, a runtime may multiply the constants first and
add up the merged sum. Its roundings are relative to the terms A of x, which may be far greater than
x. A merged weight is a sum of n products; a merged constant takes part in a sum of n terms, and
then in the sum that x was. So A stands for m, and γ for the roundings of both ways.

In mixed precision, sums are computed in float32, and constants and results are stored in a half
precision. A result is stored relative to its value, a merged weight relative to the terms A.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import Interval
from verify_pipeline.bounds.forward_error.computed import UPWARD, Computed, like, storing
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

OF_INVERSES = 2
"""How often the inverse of a constant may be stored, and its product with another one."""


def handed_on(x: Computed) -> Tensor:
    """The own errors of a sum, which the next affine operation may be merged with; else 0."""
    return x.own if x.count else torch.zeros_like(x.own)


@dataclass(frozen=True, eq=False)
class Terms:
    """The sum that an affine operation is.

    Attributes:
        count: roundings that a product with a weight may undergo; 0: elements are only moved.
        constants: sizes of the constant terms, broadcastable to ``N x *V``; None: there are none.
        computed: how often weights and constants that a runtime computes first may be stored.
        merging: how often a weight may be stored once more where it is merged with another.
        given: how many constants of the file a weight is computed of.
    """

    count: int
    constants: Tensor | None = None
    computed: int = 0
    merging: int = 1
    given: int = 0

    @property
    def results(self) -> int:
        """How many results may be stored: a product before a constant is added, the sum."""
        if self.constants is None or not self.merging:
            return 1
        return 3 if self.computed else 2  # a difference from a mean, too


def terms_of(op: LinearOp, shape: tuple[int, ...]) -> Terms:
    """The sum that an operation on an input ``*V_in`` is."""
    many = fans(op, shape, ()).inward
    if isinstance(op, Normalisation):
        constants = (op.mean * op.scale).abs() + op.bias.abs()
        return Terms(OF_COMPUTED_CONSTANTS, constants, OF_COMPUTED_CONSTANTS, given=2)
    if isinstance(op, Scale):
        return _of_scale(op)
    if isinstance(op, Linear):
        return Terms(many + 2, None if op.bias is None else op.bias.abs(), given=1)
    if isinstance(op, Conv2d):
        return Terms(many + 2, None if op.bias is None else op.bias.abs().view(-1, 1, 1), given=1)
    # pooling, means and sums add up and may divide by the number of terms
    return Terms(many + 4 if isinstance(op, (AvgPool2d, Mean, Sum)) else 0)


def _of_scale(op: Scale) -> Terms:
    constants = op.shift.abs() if bool(op.shift.any()) else None
    if op.error:
        return Terms(OF_COMPUTED_CONSTANTS, constants, OF_INVERSES, given=1)
    if bool((op.scale.abs() <= 1).all() and (op.scale.frac() == 0).all()):
        return Terms(0 if constants is None else 1, constants, merging=0)
    return Terms(3, constants, given=1)


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
        parts = (x.error, handed_on(x), x.terms, x.constants)
        error, own, terms, constants = (op.linear_abs(part) for part in parts)
        return Computed(interval, error, own, terms, constants, x.count, x.reach, x.gain)
    merged = x.count > 0
    stored = sum_.computed + arithmetic.conversions * sum_.given
    share = arithmetic.gamma((1 + merged) * sum_.count, stored + merged * sum_.merging)
    own = op.linear_abs(handed_on(x) + share * (x.terms + x.error))
    terms, constants = op.linear_abs(x.terms), _constants(op, sum_, x)
    if sum_.constants is not None:
        own = own + arithmetic.gamma(sum_.count + x.count) * sum_.constants
        terms = terms + sum_.constants
    # a merged constant is a product, and then a sum if there are two
    two = sum_.constants is not None and bool(x.constants.any())
    stored = stored + merged * (sum_.merging + two) + arithmetic.conversions
    own = own + arithmetic.gamma(0, stored) * constants
    sizes = norms(op, shape)
    own = own + _of_small_weights(op, arithmetic, sum_.count, x)
    own = (own + like(_flushed(op, arithmetic, x, sum_, sizes), own)) * UPWARD
    handed = op.linear_abs(x.error - handed_on(x))
    own = own + storing(arithmetic, interval, own + handed, sum_.results, constants)
    error = own + handed
    gain = sizes.gain * max(x.gain, 1.0) * UPWARD  # not all operations need be merged
    fits = _fits_before(op, arithmetic, x) & (gain <= arithmetic.most)
    error = error.masked_fill(like(~fits, error), torch.inf)
    everything = x.count + 2 * sum_.count
    terms, constants = terms * UPWARD, (constants * UPWARD).expand_as(error)
    # each weight is multiplied with a value, and with each weight that reaches further
    reach = 2 * sum_.count * (x.largest + x.reach) if sum_.merging else x.reach
    return Computed(interval, error * UPWARD, own, terms, constants, everything, reach, gain)


def _constants(op: LinearOp, sum_: Terms, x: Computed) -> Tensor:
    """Sizes of the constant terms, those of a sum that the operation may be merged with among them.

    They broadcast to ``N x *V``.
    """
    before = op.linear_abs(x.constants) if x.count else x.error.new_zeros(())
    return before if sum_.constants is None else before + sum_.constants


def _flushed(
    op: LinearOp, arithmetic: Arithmetic, x: Computed, sum_: Terms, sizes: Norms
) -> Tensor:
    """What numbers below the normal range, other than its weights, change if they become zero.

    ``N`` numbers.

    An input, a product, a partial sum; and of a merged sum, every weight, constant
    and product that it is made of (``x.reach``). In mixed precision,
    weights and constants have the normal range of the stored type, all others the wider one.
    """
    count = sum_.count
    stored = torch.zeros_like(x.reach)
    within = 1 + sizes.gain + 3 * count
    if sum_.constants is not None:
        # a constant, and a difference that is magnified
        stored = stored + (1 if sum_.results < 3 else 1 + sizes.gain)
    if x.count:
        stored = stored + 2 + sum_.merging * count * x.reach
        within = within + 2 * count * x.count
    error = op.error if isinstance(op, (Linear, Conv2d, Scale)) else EXACT
    of_constants = error.gain * x.largest + error.constant
    return (arithmetic.tiny * stored + arithmetic.inner.tiny * within + of_constants) * UPWARD


def _of_small_weights(op: LinearOp, arithmetic: Arithmetic, count: int, x: Computed) -> Tensor:
    """What weights that may become zero change, broadcastable to ``N x *V``."""
    changed: LinearOp
    if isinstance(op, (Linear, Conv2d)):
        small = _below(op.weight, arithmetic.tiny)
        changed = replace(op, weight=small)
    elif isinstance(op, Scale):
        small = _below(op.scale, arithmetic.tiny)
        changed = replace(op, scale=small)
    elif isinstance(op, Normalisation) or count * arithmetic.tiny >= 1:
        return like(arithmetic.tiny * count * x.largest, x.error)
    else:  # shares of at least one in so many
        return x.error.new_zeros(())
    return changed.linear_abs(x.terms + x.error) if bool(small.any()) else small.new_zeros(())


def _below(weights: Tensor, limit: float) -> Tensor:
    """Sizes of the weights below a limit, 0 for the others."""
    size = weights.abs()
    return size.masked_fill(size >= limit, 0.0)


def _fits_before(op: LinearOp, arithmetic: Arithmetic, x: Computed) -> Tensor:
    """Whether no number overflows that is computed before an operation's own sum, ``N``."""
    mean = float(op.mean.abs().amax()) if isinstance(op, Normalisation) else 0.0
    stored = x.size.flatten(1).amax(1) + mean <= arithmetic.most
    fits = stored & (x.largest + mean <= arithmetic.inner.most)
    if isinstance(op, (AvgPool2d, Mean)):  # the sum, before it is divided
        many = fans(op, tuple(x.error.shape[1:]), ()).inward
        total = many * op.linear_abs(x.terms + x.error).flatten(1).amax(1)
        fits = fits & (total * UPWARD <= arithmetic.inner.most)
    if isinstance(op, Scale) and op.error:  # a divisor may become zero, or its inverse infinite
        fits = fits & bool(arithmetic.tiny * op.scale.abs().amax() <= 1)
    return fits


def summed(arithmetic: Arithmetic, interval: Interval, a: Computed, b: Computed) -> Computed:
    """A sum or difference of two values, each of which may be a sum that the other joins."""
    of_each = arithmetic.gamma(b.count + 2), arithmetic.gamma(a.count + 2)
    own = handed_on(a) + handed_on(b) + 4 * arithmetic.inner.tiny
    own = own + of_each[0] * (a.terms + a.error) + of_each[1] * (b.terms + b.error)
    constants = a.constants + b.constants
    own = (own + arithmetic.gamma(0, 1) * constants) * UPWARD  # two may be merged into one
    handed = (a.error - handed_on(a)) + (b.error - handed_on(b))
    often = 2 if bool(constants.any()) else 1
    own = own + storing(arithmetic, interval, own + handed, often, constants)
    return Computed(
        interval,
        (own + handed) * UPWARD,
        own,
        (a.terms + b.terms) * UPWARD,
        constants * UPWARD,
        a.count + b.count + 2,
        a.reach + b.reach,
        max(a.gain, b.gain),
    )
