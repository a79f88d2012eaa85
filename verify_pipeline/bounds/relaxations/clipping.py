"""Linear bounds of maxima, limits and rounding to a type, which hold for values of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import LEAST_WIDTH
from verify_pipeline.bounds.relaxations.base import Choice, Relaxation, inner, of_sums
from verify_pipeline.bounds.relaxations.smooth import Curve

_OUTWARD = 2.0**-50
"""A chord is raised by this, relative to the terms it is computed from: a few float64 roundings.

It has no effect in float32, in which no verdict is decided.
"""


def at_least(limit: Tensor, lower: Tensor, upper: Tensor) -> Curve:
    """Lines of ``max(x, limit)`` over ``[lower, upper]``, ``N x *V``.

    If the limit applies nowhere or everywhere, both lines equal the function. Otherwise, the upper
    line is the chord. The lower line is the input or the limit, whichever encloses the smaller
    area.
    """
    limit = limit.expand_as(lower)
    free, held = lower >= limit, upper <= limit
    rises = free | (~held & (upper - limit > limit - lower))
    low, low_offset = rises.to(lower), limit.masked_fill(rises, 0.0)
    slope = ((upper - limit) / (upper - lower)).clamp(0, 1)
    at_ends = torch.maximum(limit - slope * lower, upper - slope * upper)
    terms = limit.abs() + (slope * lower).abs() + upper.abs()
    offset = at_ends + (_OUTWARD * terms + LEAST_WIDTH)
    crossed = ~(free | held)
    chord = crossed & torch.isfinite(offset)
    return Curve(
        low=low,
        low_offset=low_offset,
        up=torch.where(chord, slope, torch.where(crossed, torch.zeros_like(low), low)),
        up_offset=torch.where(chord, offset, torch.where(crossed, upper, low_offset)),
    )


def rounded(lower: Tensor, upper: Tensor, dtype: torch.dtype) -> Curve:
    """Lines of rounding to a dtype over ``[lower, upper]``: the input plus or minus half a step.

    Half a step is at most u relative to a normal number, and u times the least normal number
    otherwise.
    """
    limits = torch.finfo(dtype)
    unit, size = limits.eps / 2, torch.maximum(lower.abs(), upper.abs())
    step = (unit * size + unit * limits.tiny) * (1 + _OUTWARD)
    too_large = ~(size <= limits.max)
    step = step.masked_fill(too_large, torch.inf)
    one = torch.ones_like(lower)
    return Curve(low=one, low_offset=-step, up=one, up_offset=step)


@dataclass(frozen=True, eq=False)
class Greater(Relaxation):
    """The relaxation of the maximum of two inputs.

    The maximum is at least the input with the greater lower bound. It is at most this input if the
    other one cannot exceed it, and otherwise at most a constant. The inputs are never added, so the
    bounds also hold for inputs of very different size.

    Attributes:
        first: 1 where the first input has the greater lower bound, otherwise 0, ``N x *V``.
        decided: 1 where the other input cannot exceed this one, otherwise 0, ``N x *V``.
        upper: the greater upper bound where undecided, otherwise 0, ``N x *V``.
    """

    first: Tensor
    decided: Tensor
    upper: Tensor

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Coefficients apply to the selected input; negative ones to the constant if undecided."""
        negative = coefficients.clamp(max=0)
        kept = coefficients.clamp(min=0) + negative * self.decided.unsqueeze(1)
        first = self.first.unsqueeze(1)
        return (kept * first, kept * (1 - first)), inner(negative, self.upper)

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor:
        """Of the sum of constants, ``N``."""
        return of_sums(self.upper)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The selected input, or ``upper`` where undecided and the coefficient is < 0."""
        one, other = inputs
        assert one is not None
        assert other is not None
        chosen = torch.where(self.first.unsqueeze(1) > 0, one, other)
        bounded = (coefficients < 0) & (self.decided.unsqueeze(1) == 0)
        return torch.where(bounded, self.upper.unsqueeze(1), chosen)


def greater(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Greater:
    """The relaxation of the maximum of two inputs, given their bounds, ``N x *V`` each."""
    first = one[0] >= other[0]
    least = torch.where(first, one[0], other[0])
    decided = torch.where(first, other[1], one[1]) <= least
    upper = torch.maximum(one[1], other[1]).masked_fill(decided, 0.0)
    return Greater(first.to(least), decided.to(least), upper)
