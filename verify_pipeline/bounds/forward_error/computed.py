"""What is known of a node's value as an arithmetic computes it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import Interval, greatest
from verify_pipeline.network.arithmetic import Arithmetic

UPWARD = 1 + 2.0**-20
"""Makes up for the float64 rounding of errors, which are sums of non-negative numbers."""


@dataclass(frozen=True, eq=False)
class Computed:
    """A node's value over each instance's box, exact and computed.

    Runtimes merge neighbouring affine operations: a batch normalisation's factors are multiplied
    into the weights of the convolution before it. Roundings are then relative to the terms of the
    merged sum, not to the value between them. So sizes of the terms are handed on from one affine
    operation to the next.

    If sums are computed in a wider arithmetic than results are stored in, a value is stored or not
    wherever it is read, independently. Both are within the error.

    Attributes:
        interval: of the exact value, ``N x *V`` each.
        error: at least ``|computed - exact|``, ``N x *V``; infinite: nothing is known.
        own: at least what the operation itself adds to the error, ``N x *V``; of a sum, together
            with the affine operations before it that it may be merged with.
        terms: at least the sum of the absolute terms whose sum the value is, ``N x *V``, terms of
            affine operations before it multiplied out.
        constants: at least those of these terms that are constants, likewise.
        count: how many roundings a term of these operations may undergo; 0: the value is no sum.
        reach: at least the sum of all values, ``N``, whose weight in one element may be a product
            of constants of these operations and of the next, each counted twice.
        gain: at least the sum of absolute weights of one value, weights of the last few of these
            operations multiplied out, however many.
    """

    interval: Interval
    error: Tensor
    own: Tensor
    terms: Tensor
    constants: Tensor
    count: int
    reach: Tensor
    gain: float = 1.0

    @staticmethod
    def closed(interval: Interval, error: Tensor, own: Tensor | float | None = None) -> Computed:
        """A value that is no sum: what comes next begins with it; None: all errors are its own."""
        added = error if own is None else torch.as_tensor(own).to(error).expand_as(error)
        size = greatest(interval)
        none = torch.zeros((), dtype=size.dtype)
        none, reach = none.expand_as(size), none.expand(len(size))
        return Computed(interval, error, added, size, none, 0, reach)

    @property
    def size(self) -> Tensor:
        """At least the size of the computed value, ``N x *V``."""
        return (greatest(self.interval) + self.error) * UPWARD

    @property
    def largest(self) -> Tensor:
        """At least the greatest of the terms and computed values, ``N``."""
        return ((self.terms + self.error) * UPWARD).flatten(1).amax(1)

    def if_finite(self, arithmetic: Arithmetic) -> Computed:
        """The same with an infinite error where a computed number may overflow.

        Every partial sum of the terms is at most their sum and the error. In mixed precision, the
        value is stored, with its constants or without.
        """
        fits = (self.terms + self.error) * UPWARD <= arithmetic.inner.most  # NaN does not fit
        if arithmetic.wider is not None:
            without = self.constants if self.count else 0.0
            fits = fits & ((self.size + without) * UPWARD <= arithmetic.most)
        everywhere = fits.flatten(1).all(1).view(-1, *(1,) * (fits.dim() - 1))
        return replace(self, error=torch.where(everywhere, self.error, torch.inf))


def storing(
    arithmetic: Arithmetic,
    interval: Interval,
    error: Tensor,
    often: int = 1,
    constants: Tensor | float = 0.0,
) -> Tensor:
    """What a value is wrong by for being stored in a narrower type, or flushed there, ``N x *V``.

    It commutes with reading: a number that is flushed when it is read has this error already. A sum
    may be stored before its constants are added, and again with them. Of the sums s and t,
    ``|s| <= |t| + |c|``, that changes t by at most ``u' |s| + u' |t| + u'^2 |s|``.

    Args:
        arithmetic: in which it is evaluated.
        interval: of the exact value.
        error: of the value before it is stored.
        often: how many results are stored on the way, the last one included.
        constants: sizes of the constant terms, broadcastable to ``N x *V``.
    """
    if arithmetic.wider is None:  # also where the error is infinite
        return torch.zeros_like(error)
    size = greatest(interval) + constants + error
    return (arithmetic.gamma(0, often) * size + often * arithmetic.tiny) * UPWARD


def like(numbers: Tensor, value: Tensor) -> Tensor:
    """``N`` numbers as they broadcast to a value ``N x *V``."""
    return numbers.view(-1, *(1,) * (value.dim() - 1))
