"""Ranges of functions of one variable over intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import greatest, rounded_function
from verify_pipeline.network.ops import FUNCTIONS

Range = tuple[Tensor, Tensor]

# For each function that decreases and then increases: the argument of its minimum, and a number
# just below the minimum.
_LEAST = {
    "gelu": (-0.7517915269, -0.1699712075),
    "gelu_tanh": (-0.7524614243, -0.1700407506),
    "silu": (-1.2784645428, -0.2784645428),
    "mish": (-1.1924312145, -0.3088434131),
    "hardswish": (-1.5, -0.375),
}

# The input times a factor that rounding changes by up to a few units of 2^-53, also where it is
# almost 0.
_GATED = frozenset({"gelu", "gelu_tanh", "silu", "mish", "hardswish"})

# What the error of other functions is relative to where they cross 0.
_SCALES = {"sin": 1.0, "cos": 1.0}

# Limits that no value exceeds, in real arithmetic.
_LIMITS = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "erf": (-1.0, 1.0),
    "sin": (-1.0, 1.0),
    "cos": (-1.0, 1.0),
    "exp": (0.0, math.inf),
    "sqrt": (0.0, math.inf),
    "square": (0.0, math.inf),
    "softplus": (0.0, math.inf),
    "elu": (-1.0, math.inf),
}

# Numbers closer to 0 than this may be rounded to 0 in float32.
_LEAST_NORMAL = torch.finfo(torch.float32).tiny

# Arguments of sine and cosine beyond this are too coarse to locate within a period.
_PERIODIC_LIMIT = 1e4


def elementwise_range(function: str, lower: Tensor, upper: Tensor) -> Range:
    """Bounds over [lower, upper] of the named function (see ``network.ops.FUNCTIONS``).

    The bounds allow for the rounding of the function in float64. They are NaN or infinite where the
    function is not defined on the whole interval.
    """
    low, high = _RANGES.get(function, _increasing)(function, lower, upper)
    scale = greatest((lower, upper)) if function in _GATED else _SCALES.get(function, 0.0)
    low, high = rounded_function((low, high), scale)
    least, most = _LIMITS.get(function, (-math.inf, math.inf))
    # an infinite end says that the function may be undefined, and stays
    return low.clamp(min=least).where(low.isfinite(), low), high.clamp(max=most)


def _increasing(function: str, lower: Tensor, upper: Tensor) -> Range:
    f = FUNCTIONS[function]
    return f(lower), f(upper)


def _square(function: str, lower: Tensor, upper: Tensor) -> Range:
    low, high = lower.square(), upper.square()
    return torch.minimum(low, high).masked_fill((lower <= 0) & (upper >= 0), 0.0), torch.maximum(
        low, high
    )


def _falling_then_rising(function: str, lower: Tensor, upper: Tensor) -> Range:
    f = FUNCTIONS[function]
    low, high = f(lower), f(upper)
    at, least = _LEAST[function]
    inside = (lower <= at + 1e-3) & (upper >= at - 1e-3)
    return torch.minimum(low, high).masked_fill(inside, least), torch.maximum(low, high)


def _log(function: str, lower: Tensor, upper: Tensor) -> Range:
    """The logarithm, also undefined below float32's least normal number, which may round to 0."""
    low, high = _from_zero(function, lower, upper)
    undefined = lower < _LEAST_NORMAL
    return low.masked_fill(undefined, -torch.inf), high.masked_fill(undefined, torch.inf)


def _from_zero(function: str, lower: Tensor, upper: Tensor) -> Range:
    """The range of an increasing function that is undefined below 0."""
    undefined = lower < 0
    f = FUNCTIONS[function]
    low, high = f(lower.clamp(min=0)), f(upper.clamp(min=0))
    return low.masked_fill(undefined, -torch.inf), high.masked_fill(undefined, torch.inf)


def _reciprocal(function: str, lower: Tensor, upper: Tensor) -> Range:
    undefined = ~((lower >= _LEAST_NORMAL) | (upper <= -_LEAST_NORMAL))
    low, high = upper.reciprocal(), lower.reciprocal()
    return low.masked_fill(undefined, -torch.inf), high.masked_fill(undefined, torch.inf)


def _periodic(peak: float) -> Callable[[str, Tensor, Tensor], Range]:
    """Ranges of a function of period 2π with values in [-1, 1] and a maximum at ``peak``.

    Its minimum is at ``peak + π``.
    """

    def enclose(function: str, lower: Tensor, upper: Tensor) -> Range:
        f = FUNCTIONS[function]
        low, high = f(lower), f(upper)
        coarse = ~((lower.abs() < _PERIODIC_LIMIT) & (upper.abs() < _PERIODIC_LIMIT))
        has_maximum = coarse | _holds_a_turn(lower - peak, upper - peak)
        has_minimum = coarse | _holds_a_turn(lower - peak - math.pi, upper - peak - math.pi)
        return (
            torch.minimum(low, high).masked_fill(has_minimum, -1.0),
            torch.maximum(low, high).masked_fill(has_maximum, 1.0),
        )

    return enclose


def _holds_a_turn(lower: Tensor, upper: Tensor) -> Tensor:
    """Whether a multiple of 2π may lie in the interval; True if rounding leaves it undecided."""
    slack = 1e-6 * (1 + torch.maximum(lower.abs(), upper.abs()))
    return ((upper + slack) / math.tau).floor() >= ((lower - slack) / math.tau).ceil()


_RANGES: dict[str, Callable[[str, Tensor, Tensor], Range]] = {
    "square": _square,
    **dict.fromkeys(_LEAST, _falling_then_rising),
    "sqrt": _from_zero,
    "log": _log,
    "reciprocal": _reciprocal,
    "sin": _periodic(math.pi / 2),
    "cos": _periodic(0.0),
}
