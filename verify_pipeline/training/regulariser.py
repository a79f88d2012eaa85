"""The warm-up regulariser: Shi et al. 2021 (arXiv:2103.17268), section 3.3."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Bounds = tuple[Tensor, Tensor]
"""Lower and upper bounds of a ReLU's input, each ``N x *V``."""

Mean = Callable[[Tensor], Tensor]
"""The mean of a tensor's elements, a scalar; of all processes' where several train together."""


def tightness(
    bounds: list[Bounds], input_radius: Tensor, tolerance: float, mean: Mean = torch.mean
) -> Tensor:
    """``mean_i max(0, τ - δ_0 / δ_i) / τ``: intervals should not widen from layer to layer.

    Args:
        bounds: of each ReLU's input.
        input_radius: δ_0, the mean half-width of the input box, a scalar.
        tolerance: τ in (0, 1].
        mean: over the batch.
    """
    terms = [
        F.relu(tolerance - input_radius / (mean(upper - lower) / 2).clamp_min(1e-12))
        for lower, upper in bounds
    ]
    return torch.stack(terms).mean() / tolerance


def relu_balance(bounds: list[Bounds], tolerance: float, mean: Mean = torch.mean) -> Tensor:
    """Stably active and stably inactive neurons should balance, in mean and in variance.

    Per ReLU layer, with centres c of the intervals and the sums over active (lower > 0) and
    inactive (upper < 0) neurons: ``r = Σ_active c / -Σ_inactive c`` and ``s = Σ_active (c - c̄)² /
    Σ_inactive (c - c̄)²``; the term is ``(max(0, τ - min(r, 1/r)) + max(0, τ - min(s, 1/s))) / τ``.
    A layer in which one of the two kinds is missing has no balance and does not count.
    """
    terms = [_balance(lower, upper, tolerance, mean) for lower, upper in bounds]
    return torch.stack(terms).mean() / tolerance


def _balance(lower: Tensor, upper: Tensor, tolerance: float, mean: Mean) -> Tensor:
    center = (lower + upper) / 2
    active, inactive = lower > 0, upper < 0
    spread = (center - mean(center)).square()
    above, below = mean(center * active), -mean(center * inactive)
    of_variances = _evenness(mean(spread * active), mean(spread * inactive))
    term = F.relu(tolerance - _evenness(above, below)) + F.relu(tolerance - of_variances)
    both = (above > 0) & (below > 0)  # an active neuron's centre is > 0, an inactive one's < 0
    return torch.where(both, term, torch.zeros_like(term))


def _evenness(a: Tensor, b: Tensor) -> Tensor:
    """``min(a/b, b/a)`` of two numbers >= 0, with a finite gradient where one is 0."""
    return torch.minimum(a, b) / torch.maximum(a, b).clamp_min(1e-12)


def shi_regulariser(
    bounds: list[Bounds], input_radius: Tensor, tolerance: float, mean: Mean = torch.mean
) -> Tensor:
    """The unweighted sum of both terms, a scalar >= 0; 0 for a network without a ReLU."""
    if not bounds:
        return torch.zeros_like(input_radius)
    return tightness(bounds, input_radius, tolerance, mean) + relu_balance(bounds, tolerance, mean)
