"""The warm-up regulariser: Shi et al. 2021 (arXiv:2103.17268), section 3.3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Bounds = tuple[Tensor, Tensor]
"""Lower and upper bounds of a ReLU's input, each ``N x *V``."""

Total = Callable[[Tensor], Tensor]
"""The sum of a tensor of all processes that train together, differentiable; see
:meth:`~verify_pipeline.process_group.ProcessGroup.total`."""


def _own(x: Tensor) -> Tensor:
    """The total of a process that trains alone."""
    return x


def tightness(
    bounds: list[Bounds], input_radius: Tensor, tolerance: float, total: Total = _own
) -> Tensor:
    """``mean_i max(0, τ - δ_0 / δ_i) / τ``: intervals should not widen from layer to layer.

    Args:
        bounds: of each ReLU's input.
        input_radius: δ_0, the mean half-width of the input box, a scalar.
        tolerance: τ in (0, 1].
        total: over the processes that share the batch.
    """
    terms = [
        F.relu(tolerance - input_radius / (_mean(upper - lower, total) / 2).clamp_min(1e-12))
        for lower, upper in bounds
    ]
    return torch.stack(terms).mean() / tolerance


def _mean(x: Tensor, total: Total) -> Tensor:
    both: Tensor = total(torch.stack([x.sum(), x.new_full((), x.numel())]))
    return both[0] / both[1]


def relu_balance(bounds: list[Bounds], tolerance: float, total: Total = _own) -> Tensor:
    """Stably active and stably inactive neurons should balance, in mean and in variance.

    Per ReLU layer, with centres c of the intervals and the sums over active (lower > 0) and
    inactive (upper < 0) neurons: ``r = Σ_active c / -Σ_inactive c`` and ``s = Σ_active (c - c̄)² /
    Σ_inactive (c - c̄)²``; the term is ``(max(0, τ - min(r, 1/r)) + max(0, τ - min(s, 1/s))) / τ``.
    A layer in which one of the two kinds is missing has no balance and does not count.
    """
    terms = [_balance(lower, upper, tolerance, total) for lower, upper in bounds]
    return torch.stack(terms).mean() / tolerance


def _balance(lower: Tensor, upper: Tensor, tolerance: float, total: Total) -> Tensor:
    center = (lower + upper) / 2
    mean = _mean(center, total)
    kinds = (lower > 0).to(center.dtype), (upper < 0).to(center.dtype)
    sums: Tensor = total(_Sums.apply(center, mean, *kinds))  # type: ignore[no-untyped-call]
    above, below, spread_above, spread_below = sums.unbind()
    below = -below
    of_variances = _evenness(spread_above, spread_below)
    term = F.relu(tolerance - _evenness(above, below)) + F.relu(tolerance - of_variances)
    both = (above > 0) & (below > 0)  # an active neuron's centre is > 0, an inactive one's < 0
    return torch.where(both, term, torch.zeros_like(term))


class _Sums(torch.autograd.Function):
    """Sums over active and inactive neurons of c, then of ``(c - c̄)²``: four numbers.

    Of centres, c̄, and what is 1 for an active and for an inactive neuron, else 0. The gradient is
    written out, since autograd's own passes over the memory twice as often.
    """

    @staticmethod
    def forward(ctx: Any, center: Tensor, mean: Tensor, active: Tensor, idle: Tensor) -> Tensor:
        apart = center - mean
        ctx.save_for_backward(apart, active, idle)
        squares = apart.square()
        return torch.stack([(x * kind).sum() for x in (center, squares) for kind in (active, idle)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        apart, active, idle = ctx.saved_tensors
        above, below, spread_above, spread_below = gradient.unbind()
        by_apart = 2 * (active * spread_above + idle * spread_below) * apart
        return active * above + idle * below + by_apart, -by_apart.sum(), None, None


def _evenness(a: Tensor, b: Tensor) -> Tensor:
    """``min(a/b, b/a)`` of two numbers >= 0, with a finite gradient where one is 0."""
    return torch.minimum(a, b) / torch.maximum(a, b).clamp_min(1e-12)


def shi_regulariser(
    bounds: list[Bounds], input_radius: Tensor, tolerance: float, total: Total = _own
) -> Tensor:
    """The unweighted sum of both terms, a scalar >= 0; 0 for a network without a ReLU."""
    if not bounds:
        return torch.zeros_like(input_radius)
    return tightness(bounds, input_radius, tolerance, total) + relu_balance(
        bounds, tolerance, total
    )
