"""Bounds of weighted means whose weights are uncertain but sum to one, as in attention.

Interval arithmetic bounds ``Σ_j w_j v_j`` as if every weight could have its greatest value at once:
with 16 tokens, IBP then takes the mean of values in [-1, 1] for a number in [-16, 16]. Because the
weights sum to one, ``Σ_j w_j v_j = λ + Σ_j w_j (v_j - λ)`` for every λ, so each λ gives a bound.
The best λ is one of the values: it is the price of the constraint in the linear program over the
weights, a continuous knapsack (Dantzig 1957, Discrete-Variable Extremum Problems, Oper. Res. 5).
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST_PRICES = 8
"""How many values are tried as λ; all, if there are no more. Any choice gives sound bounds."""


def mean_interval(
    weights: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Bounds of ``w @ v``, ``… x T x D``, for weights that sum to one along their last axis.

    Args:
        weights: lower and upper bounds, ``… x T x J``, not negative.
        values: lower and upper bounds, ``… x J x D``.

    Returns:
        Lower and upper bounds: exact for independent values if ``J <= MOST_PRICES``, and never
        outside the values' least lower and greatest upper bound.
    """
    lower, upper = values
    return _least(*weights, lower), -_least(*weights, -upper)


def _least(least: Tensor, most: Tensor, values: Tensor) -> Tensor:
    """The least weighted mean of values, by the best of several λ."""
    count = values.shape[-2]
    ordered = values.sort(dim=-2).values
    places = torch.linspace(0, count - 1, min(count, MOST_PRICES)).round().long().tolist()
    bounds = [_at_price(least, most, values, ordered[..., k : k + 1, :]) for k in places]
    return torch.stack(bounds).amax(0) if len(bounds) > 1 else bounds[0]


def _at_price(least: Tensor, most: Tensor, values: Tensor, price: Tensor) -> Tensor:
    surplus = values - price
    return price + least @ surplus.clamp(min=0) + most @ surplus.clamp(max=0)
