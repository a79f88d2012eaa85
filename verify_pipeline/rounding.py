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


def searched(dtype: torch.dtype) -> torch.dtype:
    """What is computed in where inputs are numbers of a dtype: float32 for narrower ones."""
    return torch.promote_types(dtype, torch.float32)


def nearest(values: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest numbers of another dtype, of two the even one; the tensor's dtype stays.

    A cast from float64 to a half precision may round twice, to float32 first. So the number between
    has an odd last digit where it is not exact (Boldo and Melquiond 2008, IEEE Trans. Computers 57,
    theorem 3).
    """
    between = values
    if values.dtype == torch.float64 and searched(dtype) != dtype:
        size = values.abs()
        cast = size.float()
        below = torch.where(cast.double() > size, next_down(cast), cast)
        odd = (below.view(torch.int32) | (below.double() < size)).view(torch.float32)
        between = torch.where(size.isfinite(), odd, cast).copysign(values)
    return between.to(dtype).to(values.dtype)


def nearest_within(values: Tensor, lower: Tensor, upper: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest numbers of a dtype, one step further inside where these are outside the limits.

    Returns:
        Of :func:`searched`'s dtype.
    """
    cast = values.to(dtype)
    cast = torch.where(cast.double() > upper, next_down(cast), cast)
    return torch.where(cast.double() < lower, next_up(cast), cast).to(searched(dtype))


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
