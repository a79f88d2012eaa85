"""Linear bounds of max pooling.

They are those of DeepPoly: Singh et al. 2019, An abstract domain for certifying neural networks,
POPL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.bounds.floating_point import gamma
from verify_pipeline.bounds.relaxations.base import Choice, Relaxation, inner, of_sums, terms
from verify_pipeline.bounds.types import is_bounded
from verify_pipeline.network.maxima import windows
from verify_pipeline.network.ops import MaxPool2d


@dataclass(frozen=True, eq=False)
class Selection(Relaxation):
    """The relaxation of max pooling.

    Let j be the element of a window with the greatest lower bound. The window's maximum is at least
    element j. If no other element can exceed j, it equals element j. Otherwise it is at most the
    greatest upper bound in the window.

    Attributes:
        element: index of j in the flattened plane, ``N x C x P`` for P windows.
        decided: 1 where the maximum equals element j, otherwise 0, ``N x C x P``; NaN in a window
            that is not bounded.
        upper: greatest upper bound in the window where undecided, otherwise 0, ``N x C x P``.
        plane: height and width of the input.
    """

    element: Tensor
    decided: Tensor
    upper: Tensor
    plane: tuple[int, int]

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Add each window's coefficient to its element j: ``N x S x C x H x W``."""
        flat = coefficients.flatten(3)
        negative = flat.clamp(max=0)
        kept = flat.clamp(min=0) + negative * self.decided.unsqueeze(1)
        height, width = self.plane
        pulled = kept.new_zeros(*kept.shape[:3], height * width)
        pulled = pulled.scatter_add(3, self.element.unsqueeze(1).expand_as(kept), kept)
        return (pulled.unflatten(3, (height, width)),), inner(negative, self.upper)

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor:
        """Of sums over windows that have an element in common, and of constants, ``N``."""
        share = gamma(terms(self.upper) + 8, self.upper.dtype)
        return of_sums(self.upper) + share * inputs[0]

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """Element j, or ``upper`` where undecided and the coefficient is < 0: ``N x S x *V``."""
        (z,) = inputs
        assert z is not None
        flat = coefficients.flatten(3)
        element = z.flatten(3).gather(3, self.element.unsqueeze(1).expand_as(flat))
        kept = torch.where(flat < 0, self.decided.unsqueeze(1), 1.0)
        constant = torch.where(flat < 0, self.upper.unsqueeze(1), 0.0)
        return (kept * element + constant).view(coefficients.shape)


def selection(op: MaxPool2d, lower: Tensor, upper: Tensor) -> Selection:
    """The relaxation of max pooling, given bounds of its input, ``N x C x H x W`` each."""
    greatest, element = F.max_pool2d(
        lower, op.kernel, op.stride, op.padding, op.dilation, op.ceil_mode, return_indices=True
    )
    element = element.flatten(2)
    plane, count = (lower.shape[2], lower.shape[3]), (greatest.shape[2], greatest.shape[3])
    places = windows(op, plane, count).to(lower.device)
    outside = upper.new_full((*upper.shape[:2], 1), -torch.inf)
    uppers = torch.cat([upper.flatten(2), outside], 2)[:, :, places]
    others = uppers.masked_fill(places == element.unsqueeze(3), -torch.inf)
    decided = others.amax(3) <= greatest.flatten(2)
    constant = uppers.amax(3).masked_fill(decided, 0.0)
    unknown = ~is_bounded(greatest.flatten(2), uppers.amax(3))
    return Selection(element, decided.to(lower).masked_fill(unknown, torch.nan), constant, plane)
