"""Linear bounds of smooth functions by tangents that can be optimised for each row.

Every tangent of a convex function lies below it, and every tangent of a concave function above it.
For an s-shaped function, a tangent is valid from the first point whose tangent passes the
interval's other end (``smooth``). The best tangent depends on the functional: optimised tangents
are to smooth functions what α is to ReLU (Xu et al. 2020, arXiv:2002.12920; Shi et al. 2024,
GenBaB, arXiv:2405.21063).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import greatest
from verify_pipeline.bounds.relaxations.base import Choice, OptimisableRelaxation, terms
from verify_pipeline.bounds.relaxations.smooth import (
    SLOPES,
    Curve,
    Function,
    curve_and_tangents,
    line_error,
)
from verify_pipeline.network.ops import FUNCTIONS, Elementwise, Op

_BENDS: dict[str, Function] = {
    "sigmoid": lambda x: x.sigmoid() * (-x).sigmoid() * ((-x).sigmoid() - x.sigmoid()),
    "tanh": lambda x: -2 * x.tanh() * (1 - x.tanh().square()),
    "erf": lambda x: -2 * x * SLOPES["erf"](x),
    "exp": torch.exp,
    "softplus": lambda x: x.sigmoid() * (-x).sigmoid(),
    "elu": lambda x: x.exp().masked_fill(x > 0, 0.0),
    "square": lambda x: torch.full_like(x, 2.0),
    "sqrt": lambda x: -0.25 * x.rsqrt() / x,
    "log": lambda x: -x.square().reciprocal(),
    "atan": lambda x: -2 * x * (1 + x.square()).reciprocal().square(),
}
"""Second derivatives of the functions with optimisable tangents."""


@dataclass(frozen=True, eq=False)
class Tangents(OptimisableRelaxation):
    """The relaxation of a smooth elementwise function by optimisable tangents.

    Position 0 is the first point whose tangent is valid, 1 the last such point, and 0.5 the point
    of the default line. Where no tangent is valid, the default line is used. A position moves the
    lower line where the coefficient is positive, otherwise the upper line, because a row uses only
    one of them.

    Attributes:
        function: the function's name in ``FUNCTIONS``.
        lines: the default lines.
        middle: middle of the interval, ``N x *V``.
        low_first: first point whose tangent is a lower line, ``N x *V``.
        low_last: last such point, >= ``low_first``; if they are equal, the line is fixed.
        up_first: first point whose tangent is an upper line, ``N x *V``.
        up_last: last such point, likewise.
        error: how far rounding may move a tangent across the function, ``N x *V``.
    """

    function: str
    lines: Curve
    middle: Tensor
    low_first: Tensor
    low_last: Tensor
    up_first: Tensor
    up_last: Tensor
    error: Tensor

    def midway(self, rows: int) -> Tensor:
        """Positions of 0.5 for ``rows`` rows, ``N x S x *V``."""
        return self.middle.new_full((len(self.middle), rows, *self.middle.shape[1:]), 0.5)

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Coefficients times the slopes of the selected lines, ``N x S x *V``."""
        positions = self.positions(choice)
        if positions is None:
            return self.lines.pull_back(coefficients, None)
        slope, offset = self._chosen(coefficients, positions)
        constants = (coefficients * offset).unsqueeze(2).flatten(2).sum(2)
        return (coefficients * slope,), constants

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor:
        """Of tangents, of products with slopes and of the sum of constants, ``N``."""
        of_lines = self.lines.rounding(inputs)
        # an error is at least 64 roundings of the offset and of the slope times the argument
        share = (terms(self.error) + 64) / 64
        return of_lines + share * self.error.flatten(1).amax(1)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The values of the selected lines at ``z``, ``N x S x *V``."""
        positions = self.positions(choice)
        if positions is None:
            return self.lines.follow(coefficients, None, inputs)
        (z,) = inputs
        assert z is not None
        slope, offset = self._chosen(coefficients, positions)
        return slope * z + offset

    def slope(
        self, coefficients: Tensor, inputs: Sequence[Tensor | None], positions: Tensor
    ) -> Tensor:
        """Ascent directions for the positions, ``N x S x *V``.

        The tangent at ``x`` satisfies ``d/dx (f(x) + f'(x) (z - x)) = f''(x) (z - x)``. This is
        multiplied by the distance from the first to the last point. The result is not the exact
        derivative, since positions below and above 0.5 have different scales. It also points away
        from a side on which no tangent is valid.
        """
        (z,) = inputs
        assert z is not None
        touch, span = self._touch(coefficients > 0, positions)
        turn = _BENDS[self.function](touch) * (z - touch)
        return (coefficients * span * turn).masked_fill(span <= 0, 0.0)

    def _chosen(self, coefficients: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes of the selected lines and their values at 0, ``N x S x *V`` each."""
        below = coefficients > 0
        touch, span = self._touch(below, positions)
        steep = SLOPES[self.function](touch)
        height = FUNCTIONS[self.function](touch) - steep * touch
        fixed = span <= 0
        lines = self.lines
        slope = torch.where(below, lines.low.unsqueeze(1), lines.up.unsqueeze(1))
        offset = torch.where(below, lines.low_offset.unsqueeze(1), lines.up_offset.unsqueeze(1))
        return torch.where(fixed, slope, steep), torch.where(fixed, offset, height)

    def _touch(self, below: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Where the tangents touch, and the distance from first to last point, ``N x S x *V``."""
        first = torch.where(below, self.low_first.unsqueeze(1), self.up_first.unsqueeze(1))
        last = torch.where(below, self.low_last.unsqueeze(1), self.up_last.unsqueeze(1))
        usual = self.middle.unsqueeze(1).maximum(first).minimum(last)
        moved = 2 * positions - 1
        touch = usual + moved.clamp(min=0) * (last - usual) + moved.clamp(max=0) * (usual - first)
        return touch.maximum(first).minimum(last), last - first


def has_tangents(op: Op) -> bool:
    """Whether the operation is a function with optimisable tangents."""
    return isinstance(op, Elementwise) and op.function in _BENDS


def tangents(function: str, lower: Tensor, upper: Tensor) -> Curve | Tangents:
    """The relaxation of the named function over intervals ``N x *V``; see ``smooth.curve``."""
    lines, (under, over) = curve_and_tangents(function, lower, upper)
    if function not in _BENDS:
        return lines
    middle = ((lower + upper) / 2).nan_to_num(0.0, 0.0, 0.0)
    reach = greatest((lower, upper))
    errors = [_error(function, point, reach) for point in (*under, *over)]
    return Tangents(function, lines, middle, *under, *over, torch.stack(errors).amax(0))


def _error(function: str, point: Tensor, reach: Tensor) -> Tensor:
    """The rounding of a tangent at a point ``N x *V``, for arguments up to ``reach`` in size.

    Slopes and values between two points of an interval of tangents are at most as large as theirs.
    """
    steep, value = SLOPES[function](point), FUNCTIONS[function](point)
    line = steep, value.abs() + (steep * point).abs()
    return line_error(function, reach, line, value.abs()).nan_to_num(0.0, 0.0, 0.0)
