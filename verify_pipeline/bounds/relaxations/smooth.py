"""Linear bounds of smooth functions: chords and tangents (Zhang et al. 2018, arXiv:1811.00866).

* Over an interval, a convex function lies above its tangents and below its chord. A concave
  function lies below its tangents and above its chord.
* Sigmoid, tanh, erf and atan are convex below 0 and concave above. The upper line is a tangent of
  the concave part that passes above the function at the interval's lower end. If there is none,
  it is the chord. The lower line is constructed in the same way on the mirrored function.
* Other functions change between convex and concave elsewhere (GELU and similar ones). For a few
  slopes, the line is shifted until it touches the function. The line that is nearest to the
  function in the middle of the interval is used.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import (
    FUNCTION_ROUNDINGS,
    LEAST_WIDTH,
    gamma,
    greatest,
)
from verify_pipeline.bounds.interval.elementwise import Range, elementwise_range
from verify_pipeline.bounds.relaxations.base import Choice, Relaxation, inner, of_sums
from verify_pipeline.bounds.types import is_bounded
from verify_pipeline.network.ops import FUNCTIONS, SELU_ALPHA

Function = Callable[[Tensor], Tensor]
Line = tuple[Tensor, Tensor]
"""Slope and value at 0."""

SLOPES: dict[str, Function] = {
    "sigmoid": lambda x: x.sigmoid() * (-x).sigmoid(),
    "tanh": lambda x: 1 - x.tanh().square(),
    "erf": lambda x: (-x.square()).exp() * (2 / math.sqrt(math.pi)),
    "exp": torch.exp,
    "softplus": torch.sigmoid,
    "elu": lambda x: x.clamp(max=0).exp(),
    "selu": lambda x: (SELU_ALPHA * x.exp()).masked_fill(x > 0, 1.0),
    "square": lambda x: 2 * x,
    "reciprocal": lambda x: -x.square().reciprocal(),
    "sqrt": lambda x: 0.5 * x.rsqrt(),
    "log": torch.reciprocal,
    "atan": lambda x: (1 + x.square()).reciprocal(),
    "gelu": lambda x: _normal_below(x) + x * (-x.square() / 2).exp() / math.sqrt(math.tau),
    "gelu_tanh": lambda x: _tanh_gate(x) + x * _tanh_gate_slope(x),
    "silu": lambda x: x.sigmoid() * (1 + x * (-x).sigmoid()),
    "mish": lambda x: _mish_gate(x) + x * (1 - _mish_gate(x).square()) * x.sigmoid(),
    "hardswish": lambda x: ((2 * x + 3) / 6).masked_fill(x < -3, 0.0).masked_fill(x > 3, 1.0),
}
_S_SHAPED = frozenset({"sigmoid", "tanh", "erf", "atan"})
_CONVEX = frozenset({"exp", "softplus", "elu", "square", "reciprocal"})
_STEEP = frozenset({"exp", "square", "reciprocal", "sqrt", "log"})
_TURNS = {
    "gelu": (-math.sqrt(2), math.sqrt(2)),
    "gelu_tanh": (-1.4185040087908285, 1.4185040087908285),
    "silu": (-2.399357280515468, 2.399357280515468),
    "mish": (-2.2563763963607935, 1.4905711794854284),
    "hardswish": (-3.0, 3.0),
    "selu": (0.0,),
}
"""Where a function changes between convex and concave; its slope is monotone in between.

It may have a kink there: at 0, the slope of SELU jumps down to 1 (its factor γ is left out).
"""

# Below this width, relative to the ends, a chord's slope is mostly rounding error, and constants
# are used instead.
_NARROW = 1e-5

# Above this width, the search for the touching point ends too far from it.
_WIDE = 2.0**24

# Bisection steps in the search for a tangent. Every result is sound; more steps make it tighter.
_HALVINGS = 24

# Bisection steps in the search for the touching point; the offset there is then exact in float64.
_TO_THE_DIGIT = 36


@dataclass(frozen=True, eq=False)
class Curve(Relaxation):
    """The relaxation of a smooth elementwise function by two lines.

    They are ``low z + low_offset <= y <= up z + up_offset``.

    Attributes:
        low: slope of the lower line, ``N x *V``.
        low_offset: its value at 0, ``N x *V``.
        up: slope of the upper line, ``N x *V``.
        up_offset: its value at 0, ``N x *V``.
    """

    low: Tensor
    low_offset: Tensor
    up: Tensor
    up_offset: Tensor

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Coefficients times the lower slope where > 0, else the upper slope: ``N x S x *V``."""
        positive, negative = coefficients.clamp(min=0), coefficients.clamp(max=0)
        constants = inner(positive, self.low_offset) + inner(negative, self.up_offset)
        return (positive * self.low.unsqueeze(1) + negative * self.up.unsqueeze(1),), constants

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor:
        """Of the sum of constants and of products with slopes, ``N``."""
        steepest = torch.maximum(self.low.abs(), self.up.abs()).flatten(1).amax(1)
        products = gamma(4, steepest.dtype) * steepest * inputs[0]
        return of_sums(self.low_offset, self.up_offset) + products

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The lower line where the coefficient is > 0, else the upper line: ``N x S x *V``."""
        (z,) = inputs
        assert z is not None
        below = self.low.unsqueeze(1) * z + self.low_offset.unsqueeze(1)
        above = self.up.unsqueeze(1) * z + self.up_offset.unsqueeze(1)
        return torch.where(coefficients > 0, below, above)


def has_curve(function: str) -> bool:
    """Whether :func:`curve` can bound the named function by lines."""
    return function in SLOPES


def curve(function: str, lower: Tensor, upper: Tensor) -> Curve:
    """Lines of the named function over intervals ``N x *V``.

    They are constants where an interval is a point or nearly one, and infinite where the interval
    is unbounded or leaves the function's domain.
    """
    return curve_and_tangents(function, lower, upper)[0]


def curve_and_tangents(
    function: str, lower: Tensor, upper: Tensor
) -> tuple[Curve, tuple[Range, Range]]:
    """Lines of the named function, and the intervals in which tangents are valid lines as well.

    Returns:
        The lines, and two intervals (ends ``N x *V``), one for lower and one for upper lines. Every
        tangent at a point of the interval is a valid line on that side. The returned line is the
        tangent nearest to the middle of [lower, upper]. If the returned line is not a tangent, the
        interval is a single point.
    """
    least, most = elementwise_range(function, lower, upper)
    unknown = ~(is_bounded(lower, upper) & is_bounded(least, most))
    least, most = least.masked_fill(unknown, -torch.inf), most.masked_fill(unknown, torch.inf)
    f, slope = FUNCTIONS[function], SLOPES[function]
    under, over = (lower, lower), (lower, lower)
    if function in _S_SHAPED:
        above, first = _above_s(f, slope, lower, upper)
        (steep, offset), last = _above_s(lambda x: -f(-x), lambda x: slope(-x), -upper, -lower)
        below = steep, -offset
        under, over = (lower, -last), (first, upper)
    elif function in _TURNS:
        below, above = _touching(f, slope, _TURNS[function], lower, upper)
    else:
        middle = (lower + upper) / 2
        tangent = slope(middle), f(middle) - slope(middle) * middle
        chord = _chord(f, lower, upper, highest=function in _CONVEX)
        below, above = (tangent, chord) if function in _CONVEX else (chord, tangent)
        under, over = ((lower, upper), over) if function in _CONVEX else (under, (lower, upper))
    narrow = upper - lower <= _NARROW * (1 + torch.maximum(lower.abs(), upper.abs()))
    if function in _TURNS:
        narrow |= upper - lower > _WIDE
    known = (torch.isfinite(t) for t in (*below, *above, least, most))
    lines = torch.stack([~narrow, *known]).all(0)
    if function == "reciprocal":
        lines &= lower > 0
    low_slack, up_slack = (
        line_error(function, greatest((lower, upper)), line, greatest((least, most)))
        for line in (below, above)
    )
    found = Curve(
        low=torch.where(lines, below[0], 0.0),
        low_offset=torch.where(lines, below[1] - low_slack, least),
        up=torch.where(lines, above[0], 0.0),
        up_offset=torch.where(lines, above[1] + up_slack, most),
    )
    kept = [end.masked_fill(~lines, 0.0) for end in (*under, *over)]
    return found, ((kept[0], kept[1]), (kept[2], kept[3]))


def line_error(function: str, argument: Tensor, line: Line, value: Tensor) -> Tensor:
    """How far rounding may have moved a line across the function that it bounds, ``N x *V``.

    A line is computed from up to three values and slopes of the function. Each has an error of
    :data:`FUNCTION_ROUNDINGS`, relative to its own size; slopes that cancel (``1 - tanh²``) have it
    relative to 1. An error of a slope counts at most twice the greatest argument.

    Args:
        function: its name.
        argument: the greatest absolute argument.
        line: its slope and its value at 0.
        value: the greatest absolute value of the function.
    """
    slope, offset = line
    share = gamma(4 * FUNCTION_ROUNDINGS, argument.dtype)
    if not share:
        return torch.zeros_like(offset)
    steep = slope.abs() if function in _STEEP else slope.abs() + 1
    return share * (steep * argument + offset.abs() + value) + LEAST_WIDTH


def _touching(
    f: Function, slope: Function, turns: Sequence[float], lower: Tensor, upper: Tensor
) -> tuple[Line, Line]:
    """A lower and an upper line of a function whose slope is monotone between its turns.

    Over an interval, ``f(x) - s x`` attains its minimum and maximum at an end, at a turn, or where
    the slope of f is s. Between two turns, there is at most one such point.
    """
    middle = (lower + upper) / 2
    chord = (f(upper) - f(lower)) / (upper - lower)
    steep = torch.stack([chord, slope(middle), slope(lower), slope(upper)])
    edges = [lower, *(lower.clamp(min=turn).minimum(upper) for turn in turns), upper]
    heights = [f(x) - steep * x for x in edges]
    for first, last in itertools.pairwise(edges):
        early, late = first.expand_as(steep), last.expand_as(steep)
        rising = slope(last) >= slope(first)
        for _ in range(_TO_THE_DIGIT):
            x = (early + late) / 2
            further = (slope(x) < steep) == rising
            early, late = torch.where(further, x, early), torch.where(further, late, x)
        heights.append(f(early) - steep * early)
    least, most = (torch.stack(heights).amin(0), torch.stack(heights).amax(0))
    nearest = (steep * middle + least).argmax(0, keepdim=True)
    below = steep.gather(0, nearest)[0], least.gather(0, nearest)[0]
    nearest = (steep * middle + most).argmin(0, keepdim=True)
    return below, (steep.gather(0, nearest)[0], most.gather(0, nearest)[0])


def _normal_below(x: Tensor) -> Tensor:
    """The standard normal distribution function at x."""
    share: Tensor = torch.special.ndtr(x)
    return share


def _tanh_gate(x: Tensor) -> Tensor:
    """The factor by which the tanh form of GELU multiplies x."""
    return (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh()) / 2


def _tanh_gate_slope(x: Tensor) -> Tensor:
    gate = _tanh_gate(x)
    return 2 * gate * (1 - gate) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x.square())


def _mish_gate(x: Tensor) -> Tensor:
    return torch.nn.functional.softplus(x, threshold=50).tanh()


def _chord(f: Function, lower: Tensor, upper: Tensor, highest: bool) -> Line:
    """The chord, shifted so that rounding leaves it above (``highest``) or below both ends."""
    slope = (f(upper) - f(lower)) / (upper - lower)
    ends = f(lower) - slope * lower, f(upper) - slope * upper
    return slope, torch.maximum(*ends) if highest else torch.minimum(*ends)


def _above_s(f: Function, slope: Function, lower: Tensor, upper: Tensor) -> tuple[Line, Tensor]:
    """An upper line of a function that is convex below 0 and concave above.

    Returns:
        The line, and the first point whose tangent is a valid upper line; the tangents of all
        points from there to ``upper`` are valid, too. If there is no such point, ``upper``.
    """

    def passes(point: Tensor) -> Tensor:
        """Whether the tangent at ``point`` (>= 0) passes above the lower end.

        If so, the tangents at all later points do.
        """
        return f(point) + slope(point) * (lower - point) >= f(lower)

    early, late = lower.clamp(min=0), upper.clamp(min=0)
    tangent_exists = (upper > 0) & passes(late)
    for _ in range(_HALVINGS):
        middle = (early + late) / 2
        safe = passes(middle)
        early, late = torch.where(safe, early, middle), torch.where(safe, middle, late)
    # a later point is valid, too, and its tangent is nearer if the interval is mostly concave
    point = torch.maximum(late, (lower + upper) / 2)
    chord = _chord(f, lower, upper, highest=True)
    line = (
        torch.where(tangent_exists, slope(point), chord[0]),
        torch.where(tangent_exists, f(point) - slope(point) * point, chord[1]),
    )
    return line, torch.where(tangent_exists, late, upper)
