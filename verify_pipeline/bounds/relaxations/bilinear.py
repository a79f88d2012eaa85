"""Linear bounds of products and quotients of two activations.

Let ``c`` be the centres and ``r`` the radii of both factors. Then

    x y = c_y x + c_x y - c_x c_y + (x - c_x)(y - c_y),

and the last term lies within ``± r_x r_y``. On each side, the resulting plane is the mean of
McCormick's two planes (McCormick 1976, Computability of global solutions to factorable nonconvex
programs, Mathematical Programming 10). It is exact if one factor is constant, and it holds for
matrix products as well. Shi et al. 2020 (arXiv:2002.06622) bound attention by such planes.

A position τ in [-1, 1] interpolates between McCormick's two planes of a side: with
``u = (x - c_x) / r_x`` and ``v = (y - c_y) / r_y`` in [-1, 1], ``u v >= τ (u + v) - 1`` and
``u v <= τ (u - v) + 1``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.broadcasting import broadcast_back
from verify_pipeline.bounds.floating_point import (
    LEAST_FACTOR,
    Interval,
    gamma,
    greatest,
    rounded,
    size,
)
from verify_pipeline.bounds.relaxations.base import (
    Choice,
    OptimisableRelaxation,
    Relaxation,
    inner,
    terms,
)
from verify_pipeline.bounds.relaxations.smooth import Curve, curve

Unary = Callable[[Tensor], Tensor]
Binary = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Bilinear:
    """A product, its adjoints, and the pairs ``*P`` of elements that it multiplies.

    Attributes:
        apply: computes the product of both factors.
        pull_left: from a functional of the product and the right factor to a functional of the left
            factor.
        pull_right: from a functional of the product and the left factor to a functional of the
            right factor.
        pair_left: reshapes the left factor so that it broadcasts against pairs.
        pair_right: the same for the right factor.
        pair_value: the same for the product.
        sum_left: sums over the pairs of each element of the left factor.
        sum_right: the same for the right factor.
        sum_value: the same for the product.
    """

    apply: Binary
    pull_left: Binary
    pull_right: Binary
    pair_left: Unary
    pair_right: Unary
    pair_value: Unary
    sum_left: Unary
    sum_right: Unary
    sum_value: Unary


def _same(values: Tensor) -> Tensor:
    return values


ELEMENTWISE = Bilinear(
    apply=torch.mul,
    pull_left=torch.mul,
    pull_right=torch.mul,
    pair_left=_same,
    pair_right=_same,
    pair_value=_same,
    sum_left=_same,
    sum_right=_same,
    sum_value=_same,
)
MATRIX = Bilinear(  # I x J times J x K; the pairs are I x J x K
    apply=torch.matmul,
    pull_left=lambda a, y: a @ y.mT,
    pull_right=lambda a, x: x.mT @ a,
    pair_left=lambda x: x.unsqueeze(-1),
    pair_right=lambda y: y.unsqueeze(-3),
    pair_value=lambda a: a.unsqueeze(-2),
    sum_left=lambda pairs: pairs.sum(-1),
    sum_right=lambda pairs: pairs.sum(-3),
    sum_value=lambda pairs: pairs.sum(-2),
)


@dataclass(frozen=True, eq=False)
class Product(OptimisableRelaxation):
    """The relaxation of a product of two inputs.

    Attributes:
        kind: which product it is.
        left: centre of the left factor, ``N x *L``.
        right: centre of the right factor, ``N x *R``.
        left_radius: radius of the left factor, ``N x *L``; >= 0.
        right_radius: radius of the right factor, ``N x *R``; >= 0.
        middle: the product of the centres, ``N x *V``.
        slack: the product of the radii, ``N x *V``; >= 0.
    """

    kind: Bilinear
    left: Tensor
    right: Tensor
    left_radius: Tensor
    right_radius: Tensor
    middle: Tensor
    slack: Tensor

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """The functional of each factor, ``N x S x *L`` and ``N x S x *R``.

        It is computed with the other factor's centre. Positions tilt it by the other factor's
        radius.
        """
        to_left = self.kind.pull_left(coefficients, self.right.unsqueeze(1))
        to_right = self.kind.pull_right(coefficients, self.left.unsqueeze(1))
        parts = self._broadcast_back(to_left, to_right)
        constants = -inner(coefficients, self.middle) - inner(coefficients.abs(), self.slack)
        positions = self.positions(choice)
        if positions is None:
            return parts, constants
        tilt, paired = 2 * positions - 1, self.kind.pair_value(coefficients)
        turned = self._broadcast_back(
            self.kind.sum_left((tilt * paired).mul_(self._paired_right)),
            self.kind.sum_right((tilt * paired.abs()).mul_(self._paired_left)),
        )
        constants = constants - inner(turned[0], self.left) - inner(turned[1], self.right)
        return (parts[0] + turned[0], parts[1] + turned[1]), constants

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor:
        """Of sums over pairs and of constants: a pair has at most 8 terms of the factors' sizes."""
        sizes = [terms(value) for value in (self.left, self.right, self.middle)]
        pairs = self.left.shape[-1] if self.left.dim() > 1 else 1
        share = gamma(2 * sum(sizes) + 32, self.middle.dtype)
        # centres and radii may be those of a larger box than the inputs'
        factors = (self.left, self.left_radius), (self.right, self.right_radius)
        most = [(centre.abs() + radius).flatten(1).amax(1) for centre, radius in factors]
        left, right = (torch.maximum(a, b) for a, b in zip(inputs, most, strict=True))
        return share * 8 * pairs * left * right

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The values of the selected planes at the inputs, ``N x S x *V``."""
        x, y = inputs
        assert x is not None
        assert y is not None
        straight = self.kind.apply(x, self.right.unsqueeze(1))
        straight = straight + self.kind.apply(self.left.unsqueeze(1), y)
        rest = self.middle.unsqueeze(1) + coefficients.sign() * self.slack.unsqueeze(1)
        positions = self.positions(choice)
        if positions is None:
            return straight - rest
        of_left, of_right = self._turns(x, y)
        tilt, sign = 2 * positions - 1, coefficients.sign()
        turned = self.kind.sum_value(tilt * of_left)
        turned = turned + sign * self.kind.sum_value(tilt * of_right)
        return straight - rest + turned

    def slope(
        self, coefficients: Tensor, inputs: Sequence[Tensor | None], positions: Tensor
    ) -> Tensor:
        """Derivatives of the bound with respect to the positions, which do not depend on them."""
        x, y = inputs
        assert x is not None
        assert y is not None
        of_left, of_right = self._turns(x, y)
        paired = 2 * self.kind.pair_value(coefficients)
        return torch.addcmul(paired * of_left, paired.abs(), of_right)

    def midway(self, rows: int) -> Tensor:
        """Positions of 0.5 for ``rows`` rows, ``N x S x *P``."""
        return self.left.new_full((len(self.left), rows, *self.pairs()), 0.5)

    def pairs(self) -> tuple[int, ...]:
        """``*P``, the shape of the pairs without the batch axis."""
        left, right = self.kind.pair_left(self.left), self.kind.pair_right(self.right)
        return tuple(torch.broadcast_shapes(left.shape, right.shape)[1:])

    @property
    def _paired_left(self) -> Tensor:
        return self.kind.pair_left(self.left_radius).unsqueeze(1)

    @property
    def _paired_right(self) -> Tensor:
        return self.kind.pair_right(self.right_radius).unsqueeze(1)

    def _turns(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``r_y (x - c_x)`` and ``r_x (y - c_y)`` for all pairs, ``N x S x *P`` each."""
        from_left = self.kind.pair_left(x - self.left.unsqueeze(1))
        from_right = self.kind.pair_right(y - self.right.unsqueeze(1))
        return from_left * self._paired_right, from_right * self._paired_left

    def _broadcast_back(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return (
            broadcast_back(left, tuple(self.left.shape[1:])),
            broadcast_back(right, tuple(self.right.shape[1:])),
        )


def product(kind: Bilinear, left: Interval, right: Interval) -> Product:
    """The relaxation of a product, given bounds of its factors."""
    (x, x_radius), (y, y_radius) = (_centre_and_radius(factor) for factor in (left, right))
    middle, slack = kind.apply(x, y), kind.apply(x_radius, y_radius)
    share = gamma(2 * x.shape[-1] + 16, x.dtype)
    if share:
        slack = slack + share * kind.apply(size(left, LEAST_FACTOR), size(right, LEAST_FACTOR))
    return Product(kind, x, y, x_radius, y_radius, middle, slack)


def _centre_and_radius(factor: Interval) -> tuple[Tensor, Tensor]:
    """A centre, and a radius within which the interval lies in spite of rounding, ``N x *V``."""
    lower, upper = factor
    share = gamma(4, lower.dtype)
    centre, radius = (lower + upper) / 2, (upper - lower) / 2
    return centre, radius + share * greatest(factor) if share else radius


@dataclass(frozen=True, eq=False)
class Quotient(Relaxation):
    """The relaxation of ``x / y`` as the product of x and the reciprocal of y.

    Attributes:
        times: the relaxation of the product.
        reciprocal: the lines of ``1 / y``.
    """

    times: Product
    reciprocal: Curve

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Functionals of x and y, ``N x S x *V_in``: through the product, then the reciprocal."""
        (to_x, to_reciprocal), constants = self.times.pull_back(coefficients, None)
        assert to_reciprocal is not None
        (to_y,), more = self.reciprocal.pull_back(to_reciprocal, None)
        return (to_x, to_y), constants + more

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor:
        """Of the product, and of the reciprocal's line times the greatest dividend, ``N``."""
        times = self.times
        inverse = (times.right.abs() + times.right_radius).flatten(1).amax(1)
        of_line = self.reciprocal.rounding(inputs[1:])
        return times.rounding([inputs[0], inverse]) + 2 * inputs[0] * of_line

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The product's planes at x and at the reciprocal's line of y, ``N x S x *V``."""
        x, y = inputs
        (_, to_reciprocal), _ = self.times.pull_back(coefficients, None)
        assert to_reciprocal is not None
        inverse = self.reciprocal.follow(to_reciprocal, None, [y])
        return self.times.follow(coefficients, None, [x, inverse])


def quotient(over: Interval, under: Interval) -> Quotient:
    """The relaxation of ``over / under``, which gives no finite bound where ``under`` may be 0."""
    reciprocal = curve("reciprocal", *under)
    ends = under[1].reciprocal(), under[0].reciprocal()
    crosses = ~((under[0] > 0) | (under[1] < 0))
    inverse = tuple(end.masked_fill(crosses, torch.nan) for end in ends)
    factor = rounded((inverse[0], inverse[1]), 1)
    return Quotient(product(ELEMENTWISE, over, factor), reciprocal)
