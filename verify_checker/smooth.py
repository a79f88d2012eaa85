"""Section 3, continued: enclosures of smooth functions that rest on no library's exponential.

``exp(x)`` is ``2^k exp(r)`` with ``k = round(x / ln 2)`` and ``|r| <= 0.35``, and ``exp(r)`` is
Taylor's polynomial of degree 17. Its remainder is below ``0.35^18 / 18! · 1.5 < 2^-79``. The
reduced argument errs by less than ``2^-50`` in all for ``|x| <= 700``: ``k ln 2`` is taken as ``k ·
HIGH``, which is exact since HIGH has 33 bits and k less than 2^11, plus ``k · LOW``. The polynomial
and the scaling err by less than ``2^-48``. In all, the relative error is below ``2^-46``;
:data:`ERROR` is four times that.
"""

from __future__ import annotations

import numpy as np

from verify_checker.rounding import Array, down, up

HIGH = float.fromhex("0x1.62e42fefp-1")
LOW = float.fromhex("0x1.473de6af278edp-34")
"""``ln 2 = HIGH + LOW`` up to 2^-86."""

DEGREE, FAR, ERROR = 17, 700.0, 2.0**-44

CONVEX = ("exp", "elu", "softplus")
"""Functions whose slope never falls; it is at least 0."""


def exponential(x: Array) -> tuple[Array, Array]:
    """Numbers below and above ``exp(x)``; beyond ±:data:`FAR` 0 and infinity are among them."""
    near = np.clip(x, -FAR, FAR)
    k = np.rint(near / (HIGH + LOW))
    r = (near - k * HIGH) - k * LOW
    total = np.ones_like(r)
    for n in range(DEGREE, 0, -1):
        total = 1.0 + total * r / n
    value = np.ldexp(total, k.astype(np.int64))
    low = np.where(x < -FAR, 0.0, value * (1 - ERROR))
    return low, np.where(x > FAR, np.inf, value * (1 + ERROR))


def _falling_part(function: str, x: Array) -> tuple[Array, Array]:
    """For ``x >= 0``: bounds of ``1 - f(x)``, which falls from f(0) side to 0.

    sigmoid: ``q / (1 + q)`` with ``q = exp(-x)``; tanh: ``2 q² / (1 + q²)``, with ``q² =
    exp(-2 x)``. The quotient is monotone in q, and up to three roundings are in it.
    """
    factor = 1.0 if function == "sigmoid" else 2.0
    low, high = exponential(-factor * x)
    return factor * low / (1.0 + low) * (1 - 2.0**-50), factor * high / (1.0 + high) * (
        1 + 2.0**-50
    )


def _softplus(z: Array) -> tuple[Array, Array]:
    """``max(z, 0) + log(1 + v)``, ``v = exp(-|z|)``: logarithms are guessed, then shown by exp."""
    low, high = exponential(-np.abs(z))
    guess = np.log1p(low)
    below, beyond = np.maximum(guess - 2.0**-40, 0.0), guess + 2.0**-40
    below = np.where(exponential(below)[1] <= down(1.0 + low), below, 0.0)
    beyond = np.where(exponential(beyond)[0] >= up(1.0 + high), beyond, high)
    rest = np.maximum(z, 0.0)
    return down(rest + below), up(rest + beyond)


def enclosure(function: str, z: Array) -> tuple[Array, Array]:
    """Numbers below and above ``f(z)``.

    ``sigmoid(-x) = 1 − sigmoid(x)``, and ``tanh(-x) = −tanh(x)``.
    """
    if function == "softplus":
        return _softplus(z)
    if function in CONVEX:
        low, high = exponential(z)
        if function == "exp":
            return low, high
        return np.where(z >= 0, z, down(low - 1.0)), np.where(z >= 0, z, up(high - 1.0))
    low, high = _falling_part(function, np.abs(z))
    right = np.nextafter(1.0 - high, -np.inf), np.nextafter(1.0 - low, np.inf)
    left = (low, high) if function == "sigmoid" else (-right[1], -right[0])
    return np.where(z >= 0, right[0], left[0]), np.where(z >= 0, right[1], left[1])


def slopes(function: str, z: Array) -> tuple[Array, Array]:
    """Numbers below and above the slope of a convex function."""
    if function == "softplus":
        return enclosure("sigmoid", z)
    low, high = exponential(z)
    right = z >= 0 if function == "elu" else np.zeros(z.shape, dtype=bool)
    return np.where(right, 1.0, low), np.where(right, 1.0, high)


def slope_below(function: str, z: Array) -> Array:
    """Numbers in ``[0, f'(z)]``: ``s (1 − s)`` for sigmoid, ``(1 − t) (1 + t)`` for tanh."""
    fall = _falling_part(function, np.abs(z))[0]
    other = down(1.0 - fall) if function == "sigmoid" else down(2.0 - fall)
    return np.maximum(down(fall * other), 0.0)
