"""Linear bounds of softmax.

They are the bounds by exponentials and their reciprocal of Wei et al. 2023 (Convex bounds on the
softmax function, arXiv:2303.01713), made linear.

Output i is ``1 / q_i`` with ``q_i = 1 + Σ_j≠i exp(x_j - x_i)``:

* Lower plane: each exponential lies below its chord, so ``q_i`` is at most a linear function, and
  ``1 / q`` lies above a tangent.
* Upper plane: each exponential lies above a tangent, so ``q_i`` is at least a linear function, and
  ``1 / q`` lies below its chord.

The outputs along the axis sum to 1, so ``Σ A_j y_j = c + Σ (A_j - c) y_j`` for any c. If the
coefficients are nearly equal, as is common in attention, the relaxation then loses almost nothing.
The best c is the weighted median of the coefficients, where the weights are the distances between
the planes. One output is thereby replaced by 1 minus the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import FUNCTION_ROUNDINGS, Interval, gamma, greatest
from verify_pipeline.bounds.relaxations.base import Choice, Relaxation, inner, of_sums
from verify_pipeline.bounds.types import is_bounded
from verify_pipeline.network.differences import SoftmaxOfDifferences


@dataclass(frozen=True, eq=False)
class SoftmaxBounds(Relaxation):
    """The relaxation of softmax over one axis of length ``K``.

    ``*W`` is ``*V`` with this axis last. The input's axis has length ``Q``: it holds K scores, or
    their ``K (K - 1) / 2`` differences.

    Attributes:
        axis: the axis in ``N x *V``.
        low: coefficients of the lower planes, ``N x *W x Q``.
        low_offset: their values at 0, ``N x *W``.
        up: coefficients of the upper planes, ``N x *W x Q``.
        up_offset: their values at 0, ``N x *W``.
        distance: distance of the two planes at the centre of the box, ``N x *W``; > 0.
        reach: greatest absolute value of a plane's products with the input, summed, ``N``.
    """

    axis: int
    low: Tensor
    low_offset: Tensor
    up: Tensor
    up_offset: Tensor
    distance: Tensor
    reach: Tensor

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Functionals of the input, ``N x S x *V_in``.

        The weighted median is subtracted from the coefficients, and their signs select the planes.
        """
        moved = coefficients.movedim(self.axis + 1, -1)
        level = moved.gather(-1, self._replaced(moved))
        moved = moved - level
        positive, negative = moved.clamp(min=0), moved.clamp(max=0)
        pulled = _times(positive, self.low) + _times(negative, self.up)
        constants = inner(positive, self.low_offset) + inner(negative, self.up_offset)
        return (pulled.movedim(-1, self.axis + 1),), constants + level.flatten(2).sum(2)

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor:
        """Of differences from the median, of sums over planes and of constants, ``N``.

        Coefficients of K outputs, less their median, sum up to at most 2 K times as much.
        """
        outputs, steps = self.low.shape[-2:]
        products = (1 + self.reach) * gamma(2 * (outputs + steps) + 16, self.reach.dtype)
        return 2 * outputs * (of_sums(self.low_offset, self.up_offset) + products)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The values of the selected planes, ``N x S x *V``.

        The output with the median coefficient is 1 minus the sum of the others.
        """
        (z,) = inputs
        assert z is not None
        moved = coefficients.movedim(self.axis + 1, -1)
        at = self._replaced(moved)
        rows = z.movedim(self.axis + 1, -1)
        below = _times(rows, self.low.mT) + self.low_offset.unsqueeze(1)
        above = _times(rows, self.up.mT) + self.up_offset.unsqueeze(1)
        chosen = torch.where(moved > moved.gather(-1, at), below, above).scatter(-1, at, 0.0)
        chosen = chosen.scatter(-1, at, 1 - chosen.sum(-1, keepdim=True))
        return chosen.movedim(-1, self.axis + 1)

    def _replaced(self, moved: Tensor) -> Tensor:
        """The index along the axis of the coefficients' weighted median, ``N x S x … x 1``."""
        order = moved.argsort(-1)
        weight = self.distance.unsqueeze(1).expand_as(moved).gather(-1, order).cumsum(-1)
        rank = (weight < weight[..., -1:] / 2).sum(-1, keepdim=True)
        return order.gather(-1, rank.clamp(max=moved.shape[-1] - 1))


def shares(axis: int, lower: Tensor, upper: Tensor, least: Tensor, most: Tensor) -> SoftmaxBounds:
    """The relaxation of softmax over ``axis``.

    Args:
        axis: the axis of ``N x *V``, counted with the batch axis.
        lower: lower bounds of the input, ``N x *V``.
        upper: upper bounds of the input, ``N x *V``.
        least: lower bounds of the softmax, ``N x *V``; used where planes are not finite.
        most: upper bounds of the softmax, likewise.
    """
    least, most = _where_bounded(is_bounded(lower, upper).all(axis, keepdim=True), least, most)
    low, high, least, most = (t.movedim(axis, -1) for t in (lower, upper, least, most))
    itself = torch.eye(low.shape[-1], dtype=torch.bool, device=low.device)
    start = (low.unsqueeze(-2) - high.unsqueeze(-1)).masked_fill(itself, 0.0)
    end = (high.unsqueeze(-2) - low.unsqueeze(-1)).masked_fill(itself, 0.0)
    below, below_offset, above, above_offset = _planes(start, end)
    below = torch.diag_embed(below.sum(-1)) - below
    above = torch.diag_embed(above.sum(-1)) - above
    planes = (below, below_offset, above, above_offset)
    return _where_finite(axis, planes, (low, high), least, most)


def shares_of_differences(
    op: SoftmaxOfDifferences, lower: Tensor, upper: Tensor, least: Tensor, most: Tensor
) -> SoftmaxBounds:
    """The relaxation of softmax, given differences of scores; ``Q = K (K - 1) / 2``.

    Args:
        op: the operation, which defines the order of the differences.
        lower: lower bounds of the differences, ``N x *W x Q``.
        upper: upper bounds of the differences, ``N x *W x Q``.
        least: lower bounds of the softmax, ``N x *W x K``; used where planes are not finite.
        most: upper bounds of the softmax, likewise.
    """
    least, most = _where_bounded(is_bounded(lower, upper).all(-1, keepdim=True), least, most)
    start, end = op.one_against_all(lower, -upper), op.one_against_all(upper, -lower)
    below, below_offset, above, above_offset = _planes(start, end)
    planes = (_of_pairs(below), below_offset, _of_pairs(above), above_offset)
    return _where_finite(lower.dim() - 1, planes, (lower, upper), least, most)


def _where_bounded(bounded: Tensor, least: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
    """The bounds of a softmax, infinite where its input is not bounded."""
    return torch.where(bounded, least, -torch.inf), torch.where(bounded, most, torch.inf)


def _times(rows: Tensor, matrix: Tensor) -> Tensor:
    """Multiply rows ``N x S x *W x A`` by matrices ``N x *W x A x B``: ``N x S x *W x B``.

    Products of ``S x A`` with ``A x B`` avoid copying a matrix for each of the S rows.
    """
    return (rows.movedim(1, -2) @ matrix).movedim(-2, 1)


def _of_pairs(slope: Tensor) -> Tensor:
    """Coefficients of the differences, ``N x *W x K x Q``.

    The difference of the pair ``i < j`` is ``x_j - x_i``: output i decreases in it, and output j
    increases.

    Args:
        slope: how steeply output i decreases in ``x_j - x_i``, ``N x *W x K x K``.
    """
    count = slope.shape[-1]
    i, j = torch.triu_indices(count, count, 1, device=slope.device)
    pair = torch.arange(len(i), device=slope.device)
    rows = slope.new_zeros(*slope.shape[:-1], len(i))
    rows[..., i, pair], rows[..., j, pair] = -slope[..., i, j], slope[..., j, i]
    return rows


def _planes(start: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The lower and upper plane of each output as functions of the differences ``x_j - x_i``.

    Args:
        start: lower bounds of the differences, row i and column j, ``N x *W x K``; 0 on the
            diagonal.
        end: upper bounds of the differences, likewise.

    Returns:
        For the lower plane, then for the upper plane: how steeply it decreases in each difference,
        ``N x *W x K``, and its value at 0, ``N x *W``.
    """
    itself = torch.eye(start.shape[-1], dtype=torch.bool, device=start.device)
    others = (~itself).to(start)
    width = (end - start).clamp(min=torch.finfo(start.dtype).tiny)
    slope = (end.exp() - start.exp()) / width * others
    value = torch.maximum(start.exp() - slope * start, end.exp() - slope * end)
    at_middle = ((start + end) / 2 * slope + value).sum(-1)
    below = slope / at_middle.square().unsqueeze(-1)
    below_offset = 2 / at_middle - value.sum(-1) / at_middle.square()
    reach = greatest((start, end))
    share = gamma(8 * FUNCTION_ROUNDINGS + 2 * start.shape[-1], start.dtype)
    at_start, at_end = start.exp() * (1 + start.abs()), end.exp() * (1 + end.abs())
    of_terms = (slope * reach + value.abs() + at_start + at_end).sum(-1)
    lost = of_terms / at_middle.square() + 2 / at_middle
    below_offset = below_offset - share * lost

    middle = (start + end) / 2
    slope = middle.exp() * others
    value = torch.where(itself, 1.0, slope * (1 - middle))
    fewest, most = start.exp().sum(-1), end.exp().sum(-1)
    above = slope / (fewest * most).unsqueeze(-1)
    above_offset = 1 / fewest + 1 / most - value.sum(-1) / (fewest * most)
    of_terms = (slope * reach + value.abs() + at_start + at_end).sum(-1) / (fewest * most)
    # the ends of the chord are rounded, too, so that the sum may lie just outside of it
    of_ends = 2 * at_start.sum(-1) / fewest.square() + 2 * at_end.sum(-1) / most.square()
    above_offset = above_offset + share * (of_terms + of_ends + 2 / fewest)
    return below, below_offset, above, above_offset


def _where_finite(
    axis: int,
    planes: tuple[Tensor, Tensor, Tensor, Tensor],
    inputs: Interval,
    least: Tensor,
    most: Tensor,
) -> SoftmaxBounds:
    """The relaxation with these planes, or with constants where planes are not finite."""
    below, below_offset, above, above_offset = planes
    finite = torch.isfinite(torch.cat([below, above], -1)).all(-1)
    finite &= torch.isfinite(below_offset) & torch.isfinite(above_offset)
    below = below.masked_fill(~finite.unsqueeze(-1), 0.0)
    above = above.masked_fill(~finite.unsqueeze(-1), 0.0)
    below_offset = torch.where(finite, below_offset, least)
    above_offset = torch.where(finite, above_offset, most)
    centre = ((inputs[0] + inputs[1]) / 2).nan_to_num(0.0, 0.0, 0.0)
    column = centre.unsqueeze(-1)
    distance = ((above - below) @ column).squeeze(-1) + above_offset - below_offset
    # weights are positive, so that the weighted median always exists
    distance = distance.clamp(torch.finfo(below.dtype).eps, 1.0)
    steep = torch.maximum(below.abs(), above.abs()) * greatest(inputs).unsqueeze(-2)
    reach = steep.sum(-1).flatten(1).amax(1)
    return SoftmaxBounds(axis, below, below_offset, above, above_offset, distance, reach)
