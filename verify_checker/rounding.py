"""Section 1: floating-point arithmetic with proved errors.

All numbers are IEEE float64. ``u = 2^-53`` is the unit roundoff: one operation errs by at most
``u`` times its result. A result whose exact value is below ``2^-1022`` may be flushed to zero, so a
product may lose up to ``2^-1022`` more. A sum of n products, in any order and with or without
fused multiply-add, errs by at most

    γ_n · Σ|a_i b_i|  +  n · 2^-1022,        γ_n = n u / (1 − n u)

(Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1; Jeannerod & Rump 2013 for
sums in any order). Two kinds of quantities occur. *Values* are rounded as numpy rounds them, and
their error is stated. *Error bounds* and *magnitudes* are sums of non-negative terms; :func:`above`
makes them upper bounds of their exact value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

U = 2.0**-53
"""Unit roundoff."""

MOST_TERMS = 2**30
"""The longest sum for which the constants of this file are proved."""

FLOOR = 2.0**-990
"""At least ``MOST_TERMS · 2^-1022``: what all products of one sum may lose by underflow."""

_GENEROUS = 1 + 2.0**-20
"""A computed sum of at most ``MOST_TERMS`` non-negative terms times this is at least the exact sum,
since ``γ_n < 2^-22``; the rest is for the products around it."""


def gamma(terms: int) -> float:
    """``γ_n``, rounded up.

    Args:
        terms: n, the number of roundings that one term of a sum takes part in.

    Raises:
        ValueError: the sum is longer than ``MOST_TERMS``.
    """
    if not 0 <= terms <= MOST_TERMS:
        raise ValueError(f"sums of {terms} terms are not covered")
    return terms * U * _GENEROUS


def finite(*arrays: NDArray[np.floating[Any]]) -> bool:
    """Whether all numbers of some arrays are finite."""
    return all(np.isfinite(array).all() for array in arrays)


def above(computed: Array) -> Array:
    """Upper bounds of sums of products of non-negative numbers, from their computed values."""
    return computed * _GENEROUS + FLOOR


def down(values: Array) -> Array:
    """Smaller numbers: below the exact results of the single operation behind ``values``.

    ``|x| 2^-52`` is at least the distance of x from its neighbours, and exact, or below
    ``2^-1022``, which is then at least that distance.
    """
    return values - (np.abs(values) * 2.0**-52 + 2.0**-1022)


def up(values: Array) -> Array:
    """Greater numbers: above the exact results of the single operation behind ``values``."""
    return values + (np.abs(values) * 2.0**-52 + 2.0**-1022)
