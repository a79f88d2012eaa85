"""Rounding to a narrower dtype in a known direction.

A cast rounds to nearest, so a float64 lower limit may become a float32 number above it. Here every
number that the cast moved the wrong way is moved back by one step of the narrower dtype. Infinite
values and NaN stay what they are; a finite value beyond the dtype's range becomes its largest
number or infinity, whichever is on the wanted side.
"""

from __future__ import annotations

import torch
from torch import Tensor

Target = torch.dtype | torch.device | str
"""What ``Tensor.to`` takes; on another device alone, nothing is rounded."""


def next_down(values: Tensor) -> Tensor:
    """The next smaller number of the same dtype."""
    return torch.nextafter(values, torch.full_like(values, -torch.inf))


def next_up(values: Tensor) -> Tensor:
    """The next greater number of the same dtype."""
    return torch.nextafter(values, torch.full_like(values, torch.inf))


def round_down(exact: Tensor, target: Target) -> Tensor:
    """The greatest numbers of the target's dtype that are <= ``exact``."""
    cast = exact.to(target)
    if cast.dtype == exact.dtype:
        return cast
    above = (cast.to(exact) > exact).to(cast.device)
    return torch.where(above, next_down(cast), cast)


def round_up(exact: Tensor, target: Target) -> Tensor:
    """The least numbers of the target's dtype that are >= ``exact``."""
    return -round_down(-exact, target)


def outward(lower: Tensor, upper: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """The narrowest intervals in the target's dtype that contain ``[lower, upper]``."""
    return round_down(lower, target), round_up(upper, target)


def inward(lower: Tensor, upper: Tensor, target: Target) -> tuple[Tensor, Tensor]:
    """The widest intervals in the target's dtype inside ``[lower, upper]``.

    An interval that contains no number of that dtype comes back empty: lower > upper.
    """
    return round_up(lower, target), round_down(upper, target)
