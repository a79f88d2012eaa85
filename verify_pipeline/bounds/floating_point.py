"""How far float64 results are from exact ones, and intervals that allow for it.

The model is that of IEEE 754 with rounding to nearest: one operation has a relative error of at
most ``u = 2^-53``, and a sum of n products, in any order, with or without fused operations, has an
error of at most ``γ_n Σ |a_i b_i|`` with ``γ_n = n u / (1 - n u)`` (Higham 2002, Accuracy and
Stability of Numerical Algorithms, section 3.1). A product below the normal range adds an absolute
error of at most 2^-1075.

Only float64 bounds prove something, so bounds in float32 are not widened: their γ is 0.
docs/soundness.md derives all terms.
"""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.network.affine_error import UNIT_ROUNDOFF

Interval = tuple[Tensor, Tensor]
"""Lower and upper bounds of a value, ``N x *V`` each."""

LEAST_SIZE = 2.0**-700
"""Numbers other than 0 count as at least this large, so that γ times their products with weights
also covers what is lost below the normal range."""

LEAST_FACTOR = 2.0**-450
"""Likewise for factors of matrix products, so that γ times the product of two of them is more than
what is lost below the normal range."""

LEAST_WIDTH = 2.0**-1000
"""More than the absolute error of any operation on float64 numbers below the normal range."""

FUNCTION_ROUNDINGS = 16
"""The greatest error of a float64 function of torch (exp, tanh, erf, …), in roundings.

SLEEF, MKL's vector functions in high accuracy, CUDA and the GNU C library state errors of at most 2
units in the last place, which are 4 roundings (Shibata and Petrogalli 2020, arXiv:2001.09258; the
manuals of the others). Compositions such as ``1 / (1 + exp(-x))`` add up to 8. The tests compare
all functions with mpmath.
"""


def gamma(count: int, dtype: torch.dtype) -> float:
    """``γ`` of ``count`` roundings in float64, at least; 0 in another dtype, which proves nothing.

    Raises:
        OverflowError: there are more than 2^40 roundings.
    """
    if dtype != torch.float64 or count == 0:
        return 0.0
    if count > 1 << 40:
        raise OverflowError(f"a sum of {count} terms")
    # one rounding more than asked for covers the rounding of this quotient
    share = (count + 1) * UNIT_ROUNDOFF
    return share / (1 - share)


def greatest(interval: Interval) -> Tensor:
    """The greatest absolute value in an interval, elementwise, ``N x *V``."""
    lower, upper = interval
    return torch.maximum(lower.abs(), upper.abs())


def size(interval: Interval, least: float = LEAST_SIZE) -> Tensor:
    """As :func:`greatest`, but at least ``least`` where it is not 0."""
    values = greatest(interval)
    return torch.maximum(values, least * values.sign())


def widened(interval: Interval, error: Tensor) -> Interval:
    """An interval whose ends move outward by ``error`` ``N x *V`` and by their own rounding."""
    lower, upper = interval
    if lower.dtype != torch.float64:
        return interval
    own = 4 * UNIT_ROUNDOFF
    return lower - (error + own * lower.abs()), upper + (error + own * upper.abs())


def rounded(interval: Interval, count: int) -> Interval:
    """An interval whose ends were computed with up to ``count`` relative roundings each."""
    lower, upper = interval
    share = gamma(count + 2, lower.dtype)
    return (lower - share * lower.abs(), upper + share * upper.abs()) if share else interval


def rounded_function(interval: Interval, scale: Tensor | float = 0.0) -> Interval:
    """An interval whose ends are values of a function of torch.

    Args:
        interval: as computed.
        scale: what the function's error is relative to, besides its value.
    """
    lower, upper = interval
    share = gamma(FUNCTION_ROUNDINGS, lower.dtype)
    if not share:
        return interval
    return (
        lower - (share * (lower.abs() + scale) + LEAST_WIDTH),
        upper + (share * (upper.abs() + scale) + LEAST_WIDTH),
    )


def meet(first: Interval, second: Interval) -> Interval:
    """The intersection of two valid intervals; a point if rounding has separated them."""
    lower, upper = torch.maximum(first[0], second[0]), torch.minimum(first[1], second[1])
    lower = torch.minimum(lower, first[1])
    return lower, torch.maximum(lower, upper)
