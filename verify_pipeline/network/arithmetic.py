"""Floating-point arithmetics in which a network's file may be evaluated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

MOST_ROUNDINGS = 1 << 40
"""Roundings of one sum, at most."""


@dataclass(frozen=True)
class Arithmetic:
    """A binary arithmetic with rounding to nearest, as IEEE 754 has it.

    Attributes:
        name: as in settings.
        dtype: torch's name.
        digits: of a significand, the hidden one included.
        least_exponent: of the least normal number, a power of 2.
    """

    name: str
    dtype: torch.dtype
    digits: int
    least_exponent: int

    @property
    def unit(self) -> float:
        """The unit roundoff u: the greatest relative error of one operation."""
        return 2.0**-self.digits

    @property
    def tiny(self) -> float:
        """The least normal number; less may be flushed to zero."""
        return 2.0**self.least_exponent

    @property
    def most(self) -> float:
        """The greatest finite number."""
        return torch.finfo(self.dtype).max

    def gamma(self, count: float) -> float:
        """``γ = n u / (1 - n u)`` of n roundings, at least; infinite where ``n u`` is not below 1.

        Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1.
        """
        share = count * self.unit
        if not count <= MOST_ROUNDINGS or share >= 1:
            return math.inf
        return share / (1 - share) * (1 + 2.0**-40)

    def refines(self, other: Arithmetic) -> bool:
        """Whether it has all numbers of another one: its evaluations are among the other's."""
        finer = self.digits >= other.digits and self.least_exponent <= other.least_exponent
        return finer and self.most >= other.most

    def holds(self, numbers: NDArray[Any]) -> bool:
        """Whether each of these numbers is one of the arithmetic."""
        if numbers.dtype == np.float16 and self is FLOAT16:
            return True
        wide = torch.tensor(np.asarray(numbers, dtype=np.float64))
        return bool((wide.to(self.dtype).double() == wide).all())


FLOAT32 = Arithmetic("float32", torch.float32, 24, -126)
FLOAT16 = Arithmetic("float16", torch.float16, 11, -14)
BFLOAT16 = Arithmetic("bfloat16", torch.bfloat16, 8, -126)

ARITHMETICS = {one.name: one for one in (FLOAT32, FLOAT16, BFLOAT16)}
"""By name."""
