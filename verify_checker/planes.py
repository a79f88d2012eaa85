"""Section 3, continued: products and softmax, each as one plane and an error.

Over the region, ``f(z) = A z + b + δ`` with ``|δ| <= e``, number by number. Everything is stated
for the float64 numbers c, q that are chosen here; whatever they are, the statement holds.

* Matrix product of x and y, ``|x − c| <= r`` and ``|y − d| <= s``:
  ``x y = x d + c y − c d + (x − c)(y − d)``, and the last term is at most ``r s``.
* Softmax p of z, ``z = c + v``, ``|v| <= r``: ``p_i = σ(w)``, ``σ(w) = 1 / (1 + e^-w)``, ``w =
  z_i − log Σ_j≠i e^z_j``. Along ``c + t v``, ``w' = v_i − m`` and ``w'' = −s``, m and s the mean
  and the variance of the ``v_j``, j ≠ i, with weights ``e^z_j``. So ``|w'| <= D = r_i + M`` and
  ``0 <= s <= M²``, M the greatest ``r_j``, j ≠ i. With ``σ' = p (1 − p)`` and ``σ'' = p (1 − p)(1
  − 2 p)``,

      −p (1 − p) (max(2 p − 1, 0) D² + M²)  <=  p_i''  <=  p (1 − p) max(1 − 2 p, 0) D².

  By Taylor's formula, ``p_i = q_i + q_i (v_i − Σ q_j v_j) + ∫ (1 − t) p_i'' dt`` with ``q = p(c)``.
  The integral over [0, 1] is bounded in :data:`PARTS` parts; in the one that ends at t, p lies in
  its interval for ``|v| <= t r``. Where that says less than the interval of ``p_i`` that is known
  already, the plane is this interval's middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verify_checker.rounding import Array, above, down, gamma, up
from verify_checker.smooth import exponential

PARTS = 8

Interval = tuple[Array, Array]
"""Limits below and above, ``D x *V`` each."""


@dataclass(frozen=True, eq=False)
class Plane:
    """``A z + b`` of D regions.

    Attributes:
        factors: what A is made of. Of a product: the centres d and c. Of softmax: q, and 1 where
            A's row is ``q_i (v_i − Σ q_j v_j)``, 0 where it is zero.
        offset: b, ``D x *V``.
        error: what one unit of a coefficient at the output costs: e, and what is rounded in ``A``,
            ``Aᵀ λ``, b and ``⟨λ, b⟩``.
    """

    factors: tuple[Array, Array]
    offset: Array
    error: Array


def ball(interval: Interval) -> tuple[Array, Array, Array]:
    """A centre, a radius, and the greatest magnitude."""
    lower, upper = interval
    centre = 0.5 * lower + 0.5 * upper
    radius = np.maximum(np.maximum(up(upper - centre), up(centre - lower)), 0.0)
    return centre, radius, np.maximum(np.abs(lower), np.abs(upper))


def interval_of_product(left: Interval, right: Interval) -> Interval:
    """Sums of the least and of the greatest products of two numbers' limits."""
    products = [x[..., :, :, None] * y[..., None, :, :] for x in left for y in right]
    least, most = np.minimum.reduce(products), np.maximum.reduce(products)
    largest = above(np.maximum(np.abs(least), np.abs(most)).sum(-2))
    error = above(gamma(left[0].shape[-1] + 2) * largest)
    return down(least.sum(-2) - error), up(most.sum(-2) + error)


def plane_of_product(left: Interval, right: Interval) -> Plane:
    """The plane of a matrix product."""
    (c, r, most_x), (d, s, most_y) = ball(left), ball(right)
    offset = -(c @ d)
    terms = c.shape[-1] + max(c.shape[-2], d.shape[-1]) + offset[0].size + 4
    return Plane((d, c), offset, above(above(r @ s) + 4 * gamma(terms) * above(most_x @ most_y)))


def interval_of_softmax(scores: Interval) -> Interval:
    """``1 / (1 + Σ_j≠i exp(z_j − z_i))``, which falls in each difference."""
    lower, upper = scores
    itself = np.eye(lower.shape[-1]) > 0
    most = exponential(up(upper[..., None, :] - lower[..., :, None]))[1]
    least = exponential(down(lower[..., None, :] - upper[..., :, None]))[0]
    most, least = (np.where(itself, 0.0, each).sum(-1) for each in (most, least))
    share = 4 * gamma(len(itself) + 4)
    low = np.maximum(down(1.0 / (1.0 + most) * (1 - share)), 0.0)
    return low, np.minimum(up(1.0 / (1.0 + least) * (1 + share)), 1.0)


def plane_of_softmax(scores: Interval, known: Interval) -> Plane:
    """The plane of a softmax.

    Args:
        scores: limits of z.
        known: of p at all z of the region.
    """
    c, r, magnitude = ball(scores)
    low, high = interval_of_softmax((c, c))
    q, unsure = 0.5 * low + 0.5 * high, up(high - low).max(-1, keepdims=True)
    others = np.where(np.eye(c.shape[-1]) > 0, 0.0, r[..., None, :]).max(-1)
    spread = up(r + others)
    rise, fall = np.zeros_like(c), np.zeros_like(c)
    for n in range(PARTS):
        reach, weight = up((n + 1) / PARTS * r), (1 - (n + 0.5) / PARTS) / PARTS
        # c + t v may be no value of the region, so that known says nothing of it
        least, most = interval_of_softmax((down(c - reach), up(c + reach)))
        steep = above(weight * most * up(1.0 - least))
        rise += above(steep * np.maximum(up(1.0 - 2 * least), 0.0) * spread**2)
        fall += above(steep * (np.maximum(up(2 * most - 1.0), 0.0) * spread**2 + others**2))
    middle, half, _ = ball(known)
    error = up(0.5 * rise + 0.5 * fall) + 2 * unsure * above(r.sum(-1, keepdims=True)) + unsure
    follows = error < half
    weighted = (q * c).sum(-1, keepdims=True)
    offset = np.where(follows, q - q * (c - weighted) + (0.5 * rise - 0.5 * fall), middle)
    size = q * (1.0 + magnitude + (q * magnitude).sum(-1, keepdims=True))
    share = 4 * gamma(2 * c.shape[-1] + c[0].size + 8)
    rounding = share * above(size + np.abs(offset) + rise + fall)
    error = above(np.where(follows, error, half) + rounding)
    return Plane((q, follows.astype(np.float64)), offset, error)
