"""Elementwise functions: how steep they are, and how far libraries are from them.

A function of a computed argument differs from the exact one by its slope times the argument's error
and by the library's own error. Libraries document no bounds of their float32 functions, so these
are assumptions (:data:`LIBRARY`); the tests measure onnxruntime's and torch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import Interval, greatest
from verify_pipeline.network.arithmetic import Arithmetic
from verify_pipeline.network.ops import SELU_ALPHA

UPWARD = 1 + 2.0**-20


@dataclass(frozen=True)
class LibraryError:
    """The greatest error of a function, in units of the arithmetic's unit roundoff u.

    Attributes:
        of_value: relative to the function's value.
        absolute: of itself.
        of_argument: relative to the argument.
    """

    of_value: float = 16.0
    absolute: float = 0.0
    of_argument: float = 0.0


LIBRARY: Mapping[str, LibraryError] = {
    "exp": LibraryError(),
    "reciprocal": LibraryError(),
    "square": LibraryError(),
    "sqrt": LibraryError(),
    "atan": LibraryError(absolute=2.0),
    "log": LibraryError(absolute=4.0),
    "sigmoid": LibraryError(absolute=4.0),
    "tanh": LibraryError(absolute=4.0),
    "erf": LibraryError(absolute=4.0),
    "softplus": LibraryError(absolute=4.0),
    "sin": LibraryError(absolute=4.0),
    "cos": LibraryError(absolute=4.0),
    "elu": LibraryError(absolute=8.0),
    "selu": LibraryError(absolute=16.0),
    "gelu": LibraryError(of_argument=8.0),
    "gelu_tanh": LibraryError(of_argument=16.0),
    "silu": LibraryError(of_argument=8.0),
    "mish": LibraryError(of_argument=16.0),
    "hardswish": LibraryError(of_argument=8.0),
}
"""The assumption about each function: u is 2^-24 in float32, half a unit in the last place of 1.
Sigmoid and tanh are rational functions in onnxruntime, whose error is absolute; elu and softplus
are computed from exp and log, and lose the digits below 1."""

GREATEST_SOFTMAX_TIE = 4 * LIBRARY["exp"].of_value + 32
"""Scores of a softmax that differ by more than so many times u have different shares.

The greater share is ``exp(0)`` over a sum, the other ``exp(-t)`` over the same sum. Both
exponentials are wrong by a factor of ``1 ± 16 u``, the difference t and two quotients by
``1 ± 3 u`` each.
"""

STORED_SOFTMAX_TIE = 8
"""How many unit roundoffs of a narrower type more, if shares are stored in it: the exponential of
the lesser score grows by one, and shares whose ratio is above ``1 + 4 u'`` do not become one
number."""


def greatest_softmax_tie(arithmetic: Arithmetic, scores: int) -> float:
    """Scores of a softmax that differ by more have different shares.

    Infinite if there are so many scores that the greatest share may be flushed to zero, or that the
    sum of exponentials may overflow.
    """
    if 2 * scores * arithmetic.tiny > 1 or 2 * scores > arithmetic.inner.most:
        return math.inf
    stored = 0.0 if arithmetic.wider is None else STORED_SOFTMAX_TIE * arithmetic.unit
    return GREATEST_SOFTMAX_TIE * arithmetic.inner.unit + stored


PERIODIC_LIMIT = 1e4
"""Arguments of sine and cosine beyond this are not analysed."""

Slope = Callable[[Tensor, Tensor], Tensor]
"""At least the greatest absolute derivative over ``[lower, upper]``; infinite: undefined there."""


def nearest_zero(lower: Tensor, upper: Tensor) -> Tensor:
    """The least absolute value in an interval."""
    return torch.maximum(lower, -upper).clamp(min=0)


def _at_nearest(derivative: Callable[[Tensor], Tensor]) -> Slope:
    """Of a function whose derivative is even and falls with the argument's size."""
    return lambda lower, upper: derivative(nearest_zero(lower, upper))


def _constant(most: float) -> Slope:
    return lambda lower, upper: torch.full_like(lower, most)


def _periodic(lower: Tensor, upper: Tensor) -> Tensor:
    near = greatest((lower, upper)) <= PERIODIC_LIMIT
    return torch.where(near, 1.0, math.inf).to(lower)


def _elu(alpha: float) -> Slope:
    def slope(lower: Tensor, upper: Tensor) -> Tensor:
        below = alpha * upper.clamp(max=0).exp()
        return torch.where(upper < 0, below, max(1.0, alpha))

    return slope


def _where(defined: Tensor, value: Tensor) -> Tensor:
    return torch.where(defined, value, math.inf)


SLOPES: Mapping[str, Slope] = {
    "sigmoid": _at_nearest(lambda d: (-d).exp() / (1 + (-d).exp()).square()),
    "tanh": _at_nearest(lambda d: 4 * (-2 * d).exp() / (1 + (-2 * d).exp()).square()),
    "erf": _at_nearest(lambda d: 2 / math.sqrt(math.pi) * (-d.square()).exp()),
    "atan": _at_nearest(lambda d: 1 / (1 + d.square())),
    "softplus": lambda lower, upper: upper.sigmoid(),
    "exp": lambda lower, upper: upper.exp(),
    "square": lambda lower, upper: 2 * greatest((lower, upper)),
    "reciprocal": lambda lower, upper: _where(
        nearest_zero(lower, upper) > 0, nearest_zero(lower, upper).square().reciprocal()
    ),
    "sqrt": lambda lower, upper: _where(lower > 0, 0.5 * lower.clamp(min=0).rsqrt()),
    "log": lambda lower, upper: _where(lower > 0, lower.reciprocal()),
    "sin": _periodic,
    "cos": _periodic,
    "elu": _elu(1.0),
    "selu": _elu(SELU_ALPHA),
    "gelu": _constant(1.13),
    "gelu_tanh": _constant(1.13),
    "silu": _constant(1.1),
    "mish": _constant(1.09),
    "hardswish": _constant(1.5),
}
"""By function. The suprema of the derivatives of GELU, SiLU, Mish and hard swish are 1.129, 1.0999,
1.0885 and 1.5."""


def slope(function: str, interval: Interval) -> Tensor:
    """At least the greatest absolute derivative over an interval, ``N x *V``.

    Raises:
        KeyError: the function is not analysed.
    """
    return SLOPES[function](*interval) * UPWARD
