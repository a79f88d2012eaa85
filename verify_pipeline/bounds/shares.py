"""Linear bounds of softmax: Wei et al. 2023, Convex bounds on the softmax function,
arXiv:2303.01713 (the bounds by exponentials and their reciprocal, made linear).

Output i is ``1 / q_i`` with ``q_i = 1 + Σ_j≠i exp(x_j - x_i)``. From above, each exponential lies
below its chord, which makes ``q_i`` at most linear, and ``1 / q`` lies above a tangent. From below,
each lies above a tangent, and ``1 / q`` lies below its chord.
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
    """

    axis: int
    low: Tensor
    low_offset: Tensor
    up: Tensor
    up_offset: Tensor

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """The lower plane's row where a coefficient is > 0, else the upper's: ``N x S x *V``."""
        moved = coefficients.movedim(self.axis + 1, -1)
        positive, negative = moved.clamp(min=0), moved.clamp(max=0)
        pulled = positive.unsqueeze(-2) @ self.low.unsqueeze(1)
        pulled = (pulled + negative.unsqueeze(-2) @ self.up.unsqueeze(1)).squeeze(-2)
        constants = inner(positive, self.low_offset) + inner(negative, self.up_offset)
        return (pulled.movedim(-1, self.axis + 1),), constants

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The lower plane at ``z`` where the coefficient is > 0, else the upper: ``N x S x *V``."""
        (z,) = inputs
        assert z is not None
        column = z.movedim(self.axis + 1, -1).unsqueeze(-1)
        below = (self.low.unsqueeze(1) @ column).squeeze(-1) + self.low_offset.unsqueeze(1)
        above = (self.up.unsqueeze(1) @ column).squeeze(-1) + self.up_offset.unsqueeze(1)
        chosen = torch.where(coefficients.movedim(self.axis + 1, -1) > 0, below, above)
        return chosen.movedim(-1, self.axis + 1)


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
    return Shares(
        axis,
        below.masked_fill(~finite.unsqueeze(-1), 0.0),
        torch.where(finite, below_offset, least),
        above.masked_fill(~finite.unsqueeze(-1), 0.0),
        torch.where(finite, above_offset, most),
    )
