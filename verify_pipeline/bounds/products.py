"""Linear bounds of products and quotients of two activations.

With centres ``c`` and radii ``r`` of both factors, ``x y = c_y x + c_x y - c_x c_y + (x - c_x)(y -
c_y)``, whose last term is within ``± r_x r_y``. These are the means of McCormick's two planes on
each side (McCormick 1976), exact where a factor is known, and hold for matrix products as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.adjoint import broadcast_back
from verify_pipeline.bounds.curves import Curve, curve
from verify_pipeline.bounds.relaxation import Choice, Relaxation, inner

Interval = tuple[Tensor, Tensor]
Binary = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Bilinear:
    """A product and its adjoints.

    Attributes:
        apply: the product of both factors.
        pull_left: the functional of the left factor, from that of the product and the right one.
        pull_right: that of the right factor, from that of the product and the left one.
    """

    apply: Binary
    pull_left: Binary
    pull_right: Binary


ELEMENTWISE = Bilinear(torch.mul, torch.mul, torch.mul)
MATRIX = Bilinear(torch.matmul, lambda a, y: a @ y.mT, lambda a, x: x.mT @ a)


@dataclass(frozen=True, eq=False)
class Product(Relaxation):
    """Of a product of two inputs.

    Attributes:
        kind: which product.
        left: centre of the left factor, ``N x *L``.
        right: centre of the right factor, ``N x *R``.
        middle: their product, ``N x *V``.
        slack: the product of the radii, ``N x *V``; >= 0.
    """

    kind: Bilinear
    left: Tensor
    right: Tensor
    middle: Tensor
    slack: Tensor

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Each factor's functional, by the other's centre: ``N x S x *L`` and ``N x S x *R``."""
        to_left = self.kind.pull_left(coefficients, self.right.unsqueeze(1))
        to_right = self.kind.pull_right(coefficients, self.left.unsqueeze(1))
        parts = (
            broadcast_back(to_left, tuple(self.left.shape[1:])),
            broadcast_back(to_right, tuple(self.right.shape[1:])),
        )
        return parts, -inner(coefficients, self.middle) - inner(coefficients.abs(), self.slack)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The product's linear part, and its slack by the coefficient's sign: ``N x S x *V``."""
        x, y = inputs
        assert x is not None
        assert y is not None
        straight = self.kind.apply(x, self.right.unsqueeze(1))
        straight = straight + self.kind.apply(self.left.unsqueeze(1), y)
        rest = self.middle.unsqueeze(1) + coefficients.sign() * self.slack.unsqueeze(1)
        return straight - rest


def product(kind: Bilinear, left: Interval, right: Interval) -> Product:
    """The relaxation of a product from bounds of its factors."""
    (x, x_radius), (y, y_radius) = (
        ((lower + upper) / 2, (upper - lower) / 2) for lower, upper in (left, right)
    )
    return Product(kind, x, y, kind.apply(x, y), kind.apply(x_radius, y_radius))


@dataclass(frozen=True, eq=False)
class Quotient(Relaxation):
    """Of ``x / y``: the product of x with the reciprocal of y.

    Attributes:
        times: that product.
        reciprocal: lines of ``1 / y``.
    """

    times: Product
    reciprocal: Curve

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Through the product, then through the lines of the reciprocal: ``N x S x *V_in``."""
        (to_x, to_reciprocal), constants = self.times.pull_back(coefficients, None)
        assert to_reciprocal is not None
        (to_y,), more = self.reciprocal.pull_back(to_reciprocal, None)
        return (to_x, to_y), constants + more

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The product's lines at x and at the reciprocal's line of y: ``N x S x *V``."""
        x, y = inputs
        (_, to_reciprocal), _ = self.times.pull_back(coefficients, None)
        assert to_reciprocal is not None
        inverse = self.reciprocal.follow(to_reciprocal, None, [y])
        return self.times.follow(coefficients, None, [x, inverse])


def quotient(over: Interval, under: Interval) -> Quotient:
    """The relaxation of ``over / under``; unbounded where ``under`` may be 0."""
    reciprocal = curve("reciprocal", *under)
    ends = under[1].reciprocal(), under[0].reciprocal()
    crosses = ~((under[0] > 0) | (under[1] < 0))
    inverse = tuple(end.masked_fill(crosses, torch.nan) for end in ends)
    return Quotient(product(ELEMENTWISE, over, (inverse[0], inverse[1])), reciprocal)
