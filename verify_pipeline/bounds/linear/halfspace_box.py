"""Boxes cut by a half-space: the part of a box where a linear bound is not above zero.

Whoever looks for an input whose margin is at most zero need look only where a lower bound of the
margin ``A · x + c`` is at most zero. Over that part bounds of neurons are tighter, and through them
the bound of the margin, which cuts again (Kotha et al. 2023, Provably bounding neural network
preimages, arXiv:2302.01404; in integer programming an objective cutoff).

A functional ``a · x + b`` is at least ``a · x + b + λ (A · x + c)`` on the part, for every λ >= 0,
whose least value over the box is a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.problem import Box

# The search for λ: by factors from where both functionals vary equally much over the box, which
# shrink from the first one and reach as far as its third power.
_STEPS, _FACTOR, _SHRINKS = 12, 8.0, 0.7


@dataclass(frozen=True, eq=False)
class HalfspaceBox(Box):
    """The part of each box where ``normal · x + offset <= 0``; it may be empty.

    Attributes:
        normal: ``N x *X``.
        offset: ``N``.
    """

    normal: Tensor
    offset: Tensor

    def to(self, target: torch.dtype | torch.device | str) -> HalfspaceBox:
        """The same elsewhere; the half-space rounded to nearest: for directions, not verdicts."""
        return HalfspaceBox(
            *(t.to(target) for t in (self.lower, self.upper, self.normal, self.offset))
        )

    def charged(self, coefficients: Tensor, constants: Tensor) -> tuple[Tensor, Tensor]:
        """Functionals that are nowhere on the part above those given, with λ about the best.

        Args:
            coefficients: a, ``N x S x *X``.
            constants: b, ``N x S``.

        Returns:
            ``a + λ A`` and ``b + λ c``; those given where no λ that was tried gains anything.
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
