"""Linear bounds of softmax: Wei et al. 2023, Convex bounds on the softmax function,
arXiv:2303.01713 (the bounds by exponentials and their reciprocal, made linear).

Output i is ``1 / q_i`` with ``q_i = 1 + Σ_j≠i exp(x_j - x_i)``. From above, each exponential lies
below its chord, which makes ``q_i`` at most linear, and ``1 / q`` lies above a tangent. From below,
each lies above a tangent, and ``1 / q`` lies below its chord.

The outputs of an axis sum to 1, so a functional ``Σ A_j y_j`` is ``c + Σ (A_j - c) y_j`` for any c:
coefficients that are nearly equal, as those of an attention's values often are, then cost nearly
nothing. The c of least slack is the median of the coefficients, weighted by the distances of their
planes; one output is then written as 1 less the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.relaxation import Choice, Relaxation, inner


@dataclass(frozen=True, eq=False)
class Shares(Relaxation):
    """Of softmax over one axis, ``K`` long; ``*W`` is ``*V`` with that axis last.

    Attributes:
        axis: of ``N x *V``.
        low: rows of the lower planes, ``N x *W x K``.
        low_offset: their values at 0, ``N x *W``.
        up: rows of the upper planes, ``N x *W x K``.
        up_offset: their values at 0, ``N x *W``.
        distance: of the two planes at the centre of the box, ``N x *W``; >= 0.
    """

    axis: int
    low: Tensor
    low_offset: Tensor
    up: Tensor
    up_offset: Tensor
    distance: Tensor

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """The planes' rows by the sign of coefficients less their level: ``N x S x *V``."""
        moved = coefficients.movedim(self.axis + 1, -1)
        level = moved.gather(-1, self._replaced(moved))
        moved = moved - level
        positive, negative = moved.clamp(min=0), moved.clamp(max=0)
        pulled = positive.unsqueeze(-2) @ self.low.unsqueeze(1)
        pulled = (pulled + negative.unsqueeze(-2) @ self.up.unsqueeze(1)).squeeze(-2)
        constants = inner(positive, self.low_offset) + inner(negative, self.up_offset)
        return (pulled.movedim(-1, self.axis + 1),), constants + level.flatten(2).sum(2)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The planes chosen at ``z``, and 1 less their sum at the level: ``N x S x *V``."""
        (z,) = inputs
        assert z is not None
        moved = coefficients.movedim(self.axis + 1, -1)
        at = self._replaced(moved)
        column = z.movedim(self.axis + 1, -1).unsqueeze(-1)
        below = (self.low.unsqueeze(1) @ column).squeeze(-1) + self.low_offset.unsqueeze(1)
        above = (self.up.unsqueeze(1) @ column).squeeze(-1) + self.up_offset.unsqueeze(1)
        chosen = torch.where(moved > moved.gather(-1, at), below, above).scatter(-1, at, 0.0)
        chosen = chosen.scatter(-1, at, 1 - chosen.sum(-1, keepdim=True))
        return chosen.movedim(-1, self.axis + 1)

    def _replaced(self, moved: Tensor) -> Tensor:
        """The place on the axis of the weighted median of coefficients: ``N x S x … x 1``."""
        order = moved.argsort(-1)
        weight = self.distance.unsqueeze(1).expand_as(moved).gather(-1, order).cumsum(-1)
        rank = (weight < weight[..., -1:] / 2).sum(-1, keepdim=True)
        return order.gather(-1, rank.clamp(max=moved.shape[-1] - 1))


def shares(axis: int, lower: Tensor, upper: Tensor, least: Tensor, most: Tensor) -> Shares:
    """Planes of softmax over ``axis`` of ``N x *V``.

    Args:
        axis: counted with the batch axis.
        lower: of the input, ``N x *V``.
        upper: of the input.
        least: of the softmax itself, for where planes are not finite.
        most: of the softmax itself.
    """
    low, high, least, most = (t.movedim(axis, -1) for t in (lower, upper, least, most))
    itself = torch.eye(low.shape[-1], dtype=torch.bool, device=low.device)
    # differences x_j - x_i, rows i and columns j
    start = (low.unsqueeze(-2) - high.unsqueeze(-1)).masked_fill(itself, 0.0)
    end = (high.unsqueeze(-2) - low.unsqueeze(-1)).masked_fill(itself, 0.0)
    others = (~itself).to(low)

    width = (end - start).clamp(min=torch.finfo(low.dtype).tiny)
    slope = (end.exp() - start.exp()) / width * others
    value = torch.maximum(start.exp() - slope * start, end.exp() - slope * end)
    at_middle = ((start + end) / 2 * slope + value).sum(-1)
    steep = slope / at_middle.square().unsqueeze(-1)
    below = -steep + torch.diag_embed(steep.sum(-1))
    below_offset = 2 / at_middle - value.sum(-1) / at_middle.square()

    middle = (start + end) / 2
    slope = middle.exp() * others
    value = torch.where(itself, 1.0, slope * (1 - middle))
    fewest, greatest = start.exp().sum(-1), end.exp().sum(-1)
    steep = slope / (fewest * greatest).unsqueeze(-1)
    above = -steep + torch.diag_embed(steep.sum(-1))
    above_offset = 1 / fewest + 1 / greatest - value.sum(-1) / (fewest * greatest)

    finite = torch.isfinite(torch.cat([below, above], -1)).all(-1)
    finite &= torch.isfinite(below_offset) & torch.isfinite(above_offset)
    below = below.masked_fill(~finite.unsqueeze(-1), 0.0)
    above = above.masked_fill(~finite.unsqueeze(-1), 0.0)
    below_offset = torch.where(finite, below_offset, least)
    above_offset = torch.where(finite, above_offset, most)
    centre = ((low + high) / 2).nan_to_num(0.0, 0.0, 0.0).unsqueeze(-1)
    distance = ((above - below) @ centre).squeeze(-1) + above_offset - below_offset
    # never 0 altogether, so that the median of an axis without any slack is one of its elements
    distance = distance.clamp(torch.finfo(low.dtype).eps, 1.0)
    return Shares(axis, below, below_offset, above, above_offset, distance)
