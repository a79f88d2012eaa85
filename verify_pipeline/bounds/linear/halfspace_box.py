"""Boxes cut by a half-space: the part of a box where a linear function is at most zero.

An input with a margin of at most zero can only be where a linear lower bound ``A · x + c`` of the
margin is at most zero. Over this part of the box, bounds of neurons are tighter. They give a
tighter bound of the margin, which cuts the box again (Kotha et al. 2023, Provably bounding neural
network preimages, arXiv:2302.01404). Integer programming calls this an objective cutoff.

On this part, ``a · x + b >= a · x + b + λ (A · x + c)`` for every λ >= 0. The minimum of the right
side over the whole box is therefore a lower bound of the left side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.problem import Box

# The search for λ starts where both functionals vary equally much over the box. Each step
# multiplies or divides λ by a factor; the factors shrink, and their product is about _FACTOR³.
_STEPS, _FACTOR, _SHRINKS = 12, 8.0, 0.7


@dataclass(frozen=True, eq=False)
class HalfspaceBox(Box):
    """The part of each box where ``normal · x + offset <= 0``. It may be empty.

    Attributes:
        normal: ``N x *X``.
        offset: ``N``.
    """

    normal: Tensor
    offset: Tensor

    def to(self, target: torch.dtype | torch.device | str) -> HalfspaceBox:
        """The same in another dtype or on another device.

        The half-space is rounded to nearest, so a verdict must not depend on a conversion.
        """
        return HalfspaceBox(
            *(t.to(target) for t in (self.lower, self.upper, self.normal, self.offset))
        )

    def charged(self, coefficients: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Add the half-space, with a nearly optimal λ, to functionals ``a · x + b``.

        On the cut part of the box, the result is at most the given functional.

        Args:
            coefficients: a, ``N x S x *X``.
            constants: b, ``N x S``.

        Returns:
            ``a + λ A`` and ``b + λ c``, with λ = 0 where the search finds no improvement.
        """
        flat, normal = coefficients.flatten(2), self.normal.flatten(1).unsqueeze(1)
        center, radius = (t.flatten(1).unsqueeze(1) for t in (self.center, self.radius))
        reach = normal * radius
        at_center = torch.linalg.vecdot(normal, center) + self.offset.unsqueeze(1)
        spread = torch.linalg.vecdot(flat.abs(), radius)
        least = torch.finfo(flat.dtype).tiny
        price = spread / reach.abs().sum(-1).clamp(min=least)
        factor = _FACTOR
        for _ in range(_STEPS):
            signs = torch.addcmul(flat, price.unsqueeze(-1), normal).sign_()
            rises = at_center > torch.linalg.vecdot(signs, reach)
            price = torch.where(rises, price * factor, price / factor)
            factor = factor**_SHRINKS
        charged = torch.addcmul(flat, price.unsqueeze(-1), normal)
        gain = price * self.offset.unsqueeze(1)
        gain = gain + torch.linalg.vecdot(charged - flat, center)
        gain = gain + spread - torch.linalg.vecdot(charged.abs(), radius)
        price = torch.where(gain > 0, price, 0.0)
        charged = torch.addcmul(flat, price.unsqueeze(-1), normal)
        return charged.view_as(coefficients), constants + price * self.offset.unsqueeze(1)
