"""Section 3: nonlinear operations between constants, and between lines.

For each nonlinear operation f over ``l <= z <= u``: an interval that contains ``f(z)``, and two
lines with ``low · z + low_at <= f(z) <= high · z + high_at``. Slopes are any numbers for which this
can be proved; the intercepts are rounded outwards. Every statement here is about the exact slopes
that are returned.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verify_checker.operations import Kink, Maximum, Smooth
from verify_checker.rounding import Array, down, up
from verify_checker.smooth import CONVEX, enclosure, slope_below, slopes

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Lines:
    """Two lines for each number of an elementwise operation's input, ``D x *V`` each.

    Where ``free``, the lower line may have any slope in ``[least, 1]`` through the origin instead.
    """

    low: Array
    low_at: Array
    high: Array
    high_at: Array
    free: Mask
    least: float

    @property
    def through_origin(self) -> bool:
        """Whether all lower lines go through the origin."""
        return not self.low_at.any()


def interval_of_kink(operation: Kink, lower: Array, upper: Array) -> tuple[Array, Array]:
    """The range of ``max(z, slope z)``, which never falls."""
    if operation.slope == 0:
        return np.maximum(lower, 0.0), np.maximum(upper, 0.0)
    low = np.where(lower < 0, down(operation.slope * lower), lower)
    return low, np.where(upper < 0, up(operation.slope * upper), upper)


def lines_of_kink(operation: Kink, lower: Array, upper: Array) -> Lines:
    """Lines of ``f(z) = max(z, a z)``, ``0 <= a < 1``, which is convex.

    Below it lies every line through the origin whose slope is in ``[a, 1]``. A line lies above it
    on an interval iff it does at both ends.
    """
    a = operation.slope
    free = (lower < 0) & (upper > 0)
    low = np.where(free, np.where(upper > -lower, 1.0, a), np.where(lower >= 0, 1.0, a))
    below, above = np.where(free, lower, -1.0), np.where(free, upper, 1.0)
    # any slope in [a, 1] will do: a quotient of rounded numbers, cut to that range
    chord = np.clip((above - a * below) / (above - below), a, 1.0)
    # at the lower end (a - s) l <= t, at the upper end (1 - s) u <= t; each factor rounded up
    left = up(up(chord - a) * -below)
    right = up(up(1.0 - chord) * above)
    high, high_at = np.where(free, chord, low), np.where(free, np.maximum(left, right), 0.0)
    return Lines(low, np.zeros_like(low), high, high_at, free, a)


def interval_of_smooth(operation: Smooth, lower: Array, upper: Array) -> tuple[Array, Array]:
    """The range of a function that rises everywhere."""
    return enclosure(operation.function, lower)[0], enclosure(operation.function, upper)[1]


def lines_of_smooth(operation: Smooth, lower: Array, upper: Array) -> Lines:
    """Lines of a function that rises everywhere.

    The derivative of sigmoid and tanh rises up to 0 and falls from there. Over ``[l, u]`` it is
    therefore at least ``k = min(f'(l), f'(u))``, so that ``f(l) + k (z − l) <= f(z) <= f(u) − k (u
    − z)``. Any smaller k >= 0 will do, too. A convex function lies above ``f(m) + f'(m) (z − m)``,
    and a line lies above it iff it does at both ends.
    """
    function = operation.function
    (first, above_first), (below_last, last) = (enclosure(function, z) for z in (lower, upper))
    if function not in CONVEX:
        low = high = np.minimum(slope_below(function, lower), slope_below(function, upper))
        low_at, high_at = down(first - up(low * lower)), up(last - down(high * upper))
    else:
        middle = 0.5 * lower + 0.5 * upper
        low, steepest = slopes(function, middle)
        # left of the middle, the slope that is not known exactly may be the steepest
        lost = up(up(steepest - low) * up(middle - lower))
        low_at = down(down(enclosure(function, middle)[0] - up(low * middle)) - lost)
        high = np.maximum(below_last - first, 0.0) / np.where(lower < upper, upper - lower, 1.0)
        high_at = np.maximum(up(above_first - down(high * lower)), up(last - down(high * upper)))
    return Lines(low, low_at, high, high_at, np.zeros(low.shape, dtype=bool), 0.0)


def gathered(operation: Maximum, values: Array, missing: float) -> Array:
    """``D x P x k``: the numbers in each window; ``missing`` where there is none."""
    flat = values.reshape(len(values), -1)
    return np.where(operation.window >= 0, flat[:, operation.window], missing)


def interval_of_maximum(operation: Maximum, lower: Array, upper: Array) -> tuple[Array, Array]:
    """The greatest lower and the greatest upper limit."""
    found = (gathered(operation, side, -np.inf).max(2) for side in (lower, upper))
    low, high = (side.reshape(len(lower), *operation.shape) for side in found)
    return low, high


def leader(operation: Maximum, lower: Array, upper: Array) -> tuple[NDArray[np.int64], Mask, Array]:
    """For each window: the place ``D x P`` of its greatest lower limit, whether the others never
    exceed that limit, and the greatest upper limit.

    The maximum is at least the number at that place; it *is* that number where it leads, and else
    at most the greatest upper limit.
    """
    low, high = (gathered(operation, side, -np.inf) for side in (lower, upper))
    best = low.argmax(2)
    others = high.copy()
    np.put_along_axis(others, best[:, :, None], -np.inf, 2)
    leads = np.take_along_axis(low, best[:, :, None], 2)[:, :, 0] >= others.max(2)
    place = operation.window[np.arange(len(operation.window)), best]
    return place, leads, high.max(2)
