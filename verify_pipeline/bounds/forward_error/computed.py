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

    Attributes:
        interval: of the exact value, ``N x *V`` each.
        error: at least ``|computed - exact|``, ``N x *V``; infinite: nothing is known.
        own: at least what the operation itself adds to the error, ``N x *V``; of a sum, together
            with the affine operations before it that it may be merged with.
        terms: at least the sum of the absolute terms whose sum the value is, ``N x *V``, terms of
            affine operations before it multiplied out.
        count: how many roundings a term of these operations may undergo; 0: the value is no sum.
        start: at least the values that these operations begin with, ``N``.
        gain: at least the sum of absolute weights of one value, weights of these operations
            multiplied out.
    """

    interval: Interval
    error: Tensor
    own: Tensor
    terms: Tensor
    count: int
    start: Tensor
    gain: float = 1.0

    @staticmethod
    def closed(interval: Interval, error: Tensor, own: Tensor | float | None = None) -> Computed:
        """A value that is no sum: what comes next begins with it; None: all errors are its own."""
        added = error if own is None else torch.as_tensor(own).to(error).expand_as(error)
        size = greatest(interval)
        most = torch.nan_to_num((size + error).flatten(1).amax(1), nan=torch.inf)
        return Computed(interval, error, added, size, 0, most)

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

        Every partial sum of the terms is at most their sum and the error.
        """
        fits = (self.terms + self.error) * UPWARD <= arithmetic.most  # NaN does not fit
        everywhere = fits.flatten(1).all(1).view(-1, *(1,) * (fits.dim() - 1))
        return replace(self, error=torch.where(everywhere, self.error, torch.inf))


def like(numbers: Tensor, value: Tensor) -> Tensor:
    """``N`` numbers as they broadcast to a value ``N x *V``."""
    return numbers.view(-1, *(1,) * (value.dim() - 1))
