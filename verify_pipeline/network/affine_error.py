"""How far the constants of an affine operation may be from those that it stands for.

A file's batch normalisation divides by a square root, and neighbouring layers are multiplied
together when a file is read. The results are rounded to float64. What the rounding may have
changed is kept with the operation, so that bounds hold for the file's own function.
"""

from __future__ import annotations

from dataclasses import dataclass

UNIT_ROUNDOFF = 2.0**-53
"""The greatest relative error of one operation in float64 (IEEE 754, rounding to nearest)."""

_UPWARD = 1 + 2.0**-20
"""Makes up for the rounding of errors themselves, which are sums of non-negative numbers."""


@dataclass(frozen=True)
class Norms:
    """Sizes of an affine operation ``W x + b``.

    Attributes:
        gain: the greatest sum of absolute weights of one output, at least: ``max_o Σ_i |W_oi|``.
        constant: the greatest absolute constant, at least: ``max_o |b_o|``.
    """

    gain: float
    constant: float


@dataclass(frozen=True)
class AffineError:
    """Bounds of the difference between exact constants ``W, b`` and stored ones ``W', b'``.

    Attributes:
        gain: at least ``max_o Σ_i |W_oi - W'_oi|``.
        constant: at least ``max_o |b_o - b'_o|``.
    """

    gain: float = 0.0
    constant: float = 0.0

    def __bool__(self) -> bool:
        """Whether the constants may differ at all."""
        return self.gain > 0 or self.constant > 0


EXACT = AffineError()
"""The stored constants are those of the file."""


def of_roundings(count: int, norms: Norms) -> AffineError:
    """The error of constants that were rounded up to ``count`` times, relative to ``norms``.

    Args:
        count: of roundings of each number; 0: the constants are exact.
        norms: sizes of the constants, or of the terms whose sum they are.
    """
    error = count * UNIT_ROUNDOFF * _UPWARD
    return AffineError(error * norms.gain, error * norms.constant)


def of_product(
    outer: Norms, outer_error: AffineError, inner: Norms, inner_error: AffineError, terms: int
) -> AffineError:
    """The error of ``W' W`` and ``W' b + b'`` as constants of one operation.

    Norms of products are at most the products of norms (Higham 2002, Accuracy and Stability of
    Numerical Algorithms, section 3.5, for the rounding of matrix products).

    Args:
        outer: norms of ``W', b'``.
        outer_error: their error.
        inner: norms of ``W, b``.
        inner_error: their error.
        terms: how many products a sum has.
    """
    rounding = (terms + 4) * UNIT_ROUNDOFF
    gain = outer.gain * inner_error.gain + outer_error.gain * (inner.gain + inner_error.gain)
    gain += rounding * outer.gain * inner.gain
    constant = outer.gain * inner_error.constant + outer_error.constant
    constant += outer_error.gain * (inner.constant + inner_error.constant)
    constant += rounding * (outer.gain * inner.constant + outer.constant)
    return AffineError(gain * _UPWARD, constant * _UPWARD)
