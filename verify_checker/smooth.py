"""Section 4, continued: enclosures of sigmoid and tanh that rest on no library's exponential.

``exp(-x)`` for ``x >= 0`` is ``2^-k exp(-r)`` with ``k = round(x / ln 2)`` and ``|r| <= 0.35``, and
``exp(-r)`` is Taylor's polynomial of degree 17. Its remainder is below ``0.35^18 / 18! · 1.5 <
2^-79``. The reduced argument errs by less than ``2^-50`` in all for ``x <= 40``: ``k ln 2`` is
taken as ``k · HIGH``, which is exact since HIGH has 33 bits and k less than 2^6, plus ``k · LOW``.
The polynomial and the scaling err by less than ``2^-48``. In all, the relative error is below
``2^-46``; :data:`ERROR` is four times that. Beyond 40 the functions are within ``2^-57`` of their
limits.
"""

from __future__ import annotations

import numpy as np

from verify_checker.rounding import Array, down

HIGH = float.fromhex("0x1.62e42fefp-1")
LOW = float.fromhex("0x1.473de6af278edp-34")
"""``ln 2 = HIGH + LOW`` up to 2^-86."""

DEGREE, FAR, ERROR = 17, 40.0, 2.0**-44


def _exp_minus(x: Array) -> Array:
    """``exp(-x)`` for ``0 <= x <= 40``, up to the relative error :data:`ERROR`."""
    k = np.rint(x / (HIGH + LOW))
    r = (x - k * HIGH) - k * LOW
    total = np.ones_like(r)
    for n in range(DEGREE, 0, -1):
        total = 1.0 - total * r / n
    return np.ldexp(total, (-k).astype(np.int64))


def _falling_part(function: str, x: Array) -> tuple[Array, Array]:
    """For ``x >= 0``: bounds of ``1 - f(x)``, which falls from f(0) side to 0.

    sigmoid: ``q / (1 + q)`` with ``q = exp(-x)``; tanh: ``2 q² / (1 + q²)``, with ``q² =
    exp(-2 x)``.
    """
    factor = 1.0 if function == "sigmoid" else 2.0
    far = factor * x > FAR
    q = _exp_minus(np.where(far, 0.0, factor * x))
    value = factor * q / (1.0 + q)
    # the quotient is monotone in q; three more roundings
    low, high = value * (1 - 2 * ERROR), value * (1 + 2 * ERROR)
    return np.where(far, 0.0, low), np.where(far, 2.0**-55, high)


def enclosure(function: str, z: Array) -> tuple[Array, Array]:
    """Numbers below and above ``f(z)``.

    ``sigmoid(-x) = 1 − sigmoid(x)``, and ``tanh(-x) = −tanh(x)``.
    """
    low, high = _falling_part(function, np.abs(z))
    if function == "sigmoid":
        right = np.nextafter(1.0 - high, -np.inf), np.nextafter(1.0 - low, np.inf)
        below = np.where(z >= 0, right[0], low)
        return below, np.where(z >= 0, right[1], high)
    right = np.nextafter(1.0 - high, -np.inf), np.nextafter(1.0 - low, np.inf)
    return np.where(z >= 0, right[0], -right[1]), np.where(z >= 0, right[1], -right[0])


def slope_below(function: str, z: Array) -> Array:
    """Numbers in ``[0, f'(z)]``: ``s (1 − s)`` for sigmoid, ``(1 − t) (1 + t)`` for tanh."""
    fall = _falling_part(function, np.abs(z))[0]
    if function == "sigmoid":
        return np.maximum(
            down(down(fall * down(1.0 - fall) * (1 - 2.0**-50)) * (1 - 2.0**-40)), 0.0
        )
    return np.maximum(down(fall * down(2.0 - fall) * (1 - 2.0**-40)), 0.0)
