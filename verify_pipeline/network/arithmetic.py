"""Floating-point arithmetics in which a network's file may be evaluated.

In mixed precision (Micikevicius et al. 2018, arXiv:1710.03740), products and sums of one operation
are computed in float32, and its result is stored in a half precision. Their errors have two unit
roundoffs, as those of block fused multiply-add (Blanchard, Higham, Lopez, Mary and Pranesh 2020,
SIAM J. Sci. Comput. 42).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
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
        dtype: torch's name of the type that results and weights are stored in.
        digits: of a significand of that type, the hidden one included.
        least_exponent: of its least normal number, a power of 2.
        wider: in which one operation computes its products and sums, before its result is stored,
            or not where the next operation is fused with it; None: in the type itself.
        conversions: how often the file's constants may be rounded to the type before they are used:
            1 where a converter does it.
    """

    name: str
    dtype: torch.dtype
    digits: int
    least_exponent: int
    wider: Arithmetic | None = None
    conversions: int = 0

    @property
    def inner(self) -> Arithmetic:
        """In which an operation computes its products and sums."""
        return self.wider or self

    @property
    def unit(self) -> float:
        """The unit roundoff u of stored numbers: the greatest relative error of one rounding."""
        return 2.0**-self.digits

    @property
    def tiny(self) -> float:
        """The least normal number of the stored type; less may be flushed to zero."""
        return 2.0**self.least_exponent

    @property
    def most(self) -> float:
        """The greatest finite number of the stored type."""
        return torch.finfo(self.dtype).max

    @property
    def gradual(self) -> Arithmetic:
        """The same where no number is flushed: with an absolute error below the least denormal."""
        return replace(self, least_exponent=self.least_exponent + 1 - self.digits)

    @property
    def converting(self) -> Arithmetic:
        """The same of a file with constants that are rounded to the type first, or not."""
        return replace(self, conversions=1)

    def gamma(self, count: float, stored: float = 0) -> float:
        """At least the relative error of a term after ``n`` roundings of sums and s of storing.

        ``γ = t / (1 - t)`` with ``t = n u + s u'``; infinite where t is not below 1. A number that
        is of the stored type already is not rounded when it is stored, so ``u'`` is 0 unless sums
        are computed in a wider arithmetic.

        Higham 2002, Accuracy and Stability of Numerical Algorithms, lemmas 3.1 and 3.3.
        """
        share = count * self.inner.unit + (stored * self.unit if self.wider else 0.0)
        if not count + stored <= MOST_ROUNDINGS or share >= 1:
            return math.inf
        return share / (1 - share) * (1 + 2.0**-40)

    def refines(self, other: Arithmetic) -> bool:
        """Whether it has all numbers of another one: its evaluations are among the other's."""
        finer = self.digits >= other.digits and self.least_exponent <= other.least_exponent
        return finer and self.most >= other.most

    def holds(self, numbers: NDArray[Any]) -> bool:
        """Whether each of these numbers is one of the arithmetic."""
        if numbers.dtype == np.float16 and self.dtype == torch.float16:
            return True
        wide = torch.tensor(np.asarray(numbers, dtype=np.float64))
        return bool((wide.to(self.dtype).double() == wide).all())


FLOAT32 = Arithmetic("float32", torch.float32, 24, -126)
FLOAT16 = Arithmetic("float16", torch.float16, 11, -14)
BFLOAT16 = Arithmetic("bfloat16", torch.bfloat16, 8, -126)

MIXED_FLOAT16 = replace(FLOAT16, name="mixed-float16", wider=FLOAT32)
MIXED_BFLOAT16 = replace(BFLOAT16, name="mixed-bfloat16", wider=FLOAT32)

ARITHMETICS = {one.name: one for one in (FLOAT32, FLOAT16, BFLOAT16, MIXED_FLOAT16, MIXED_BFLOAT16)}
"""By name."""
