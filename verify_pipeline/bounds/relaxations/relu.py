"""Lines around (leaky) ReLU: Zhang et al. 2018 (CROWN, arXiv:1811.00866).

The lower line's slope is free: Xu et al. 2021 (α-CROWN, arXiv:2011.13824), eq. 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from verify_pipeline.bounds.relaxations.base import Choice, Relaxation, inner


@dataclass(frozen=True, eq=False)
class Lines(Relaxation):
    """Of a (leaky) ReLU ``y``: ``below z <= y <= up z + offset``; one line where it is linear.

    A neuron is unstable where ``offset > 0``. There ``below = slope + α (1 - slope)`` is free
    between the function's two slopes; elsewhere ``y = up z``. (Written without ``torch.where``,
    which costs as much as twenty other operations on a processor.)

    Attributes:
        slope: of the function below 0; a number in [0, 1].
        up: slope of the upper line, ``N x *V``.
        offset: the upper line at 0, ``N x *V``; >= 0.
        sides: s of the splits that bounds of later neurons are charged for, ``N x *V``: -1, 0 or
            +1; None: there are none.
    """

    slope: float
    up: Tensor
    offset: Tensor
    sides: Tensor | None = None

    @cached_property
    def _unstable(self) -> Tensor:
        """1 where α counts, else 0, ``N x *V``."""
        return self.offset.sign()

    @cached_property
    def adaptive(self) -> Tensor:
        """The α of the least area between the lines, ``N x *V``: 1 where upper > -lower, else 0."""
        return (self.up - (1 + self.slope) / 2).sign().clamp(min=0)

    @cached_property
    def _least(self) -> Tensor:
        """``below`` at α = 0, ``N x 1 x *V``."""
        return (self.up + self._unstable * (self.slope - self.up)).unsqueeze(1)

    @cached_property
    def _span(self) -> Tensor:
        """What α = 1 adds to it, ``N x 1 x *V``."""
        return ((1 - self.slope) * self._unstable).unsqueeze(1)

    @cached_property
    def _usual(self) -> Tensor:
        """``below`` at the adaptive α, ``N x 1 x *V``."""
        return self._least + self.adaptive.unsqueeze(1) * self._span

    @cached_property
    def fixed(self) -> FixedLines:
        """The same with the usual slopes, of which none is free, and without splits."""
        below = self._usual.squeeze(1)
        return FixedLines(below, self.up - below, self.offset)

    def _below(self, choice: Choice | None) -> Tensor:
        """Slope of the lower line, ``N x S x *V`` or ``N x 1 x *V``."""
        if choice is None:
            return self._usual
        return choice.slopes(self._least, self._span, self._usual)

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """``below`` where a coefficient is > 0, else ``up``; less β's charges: ``N x S x *V``."""
        negative = coefficients.clamp(max=0)
        pulled = coefficients.clamp(min=0).mul_(self._below(choice))
        pulled = pulled.addcmul_(negative, self.up.unsqueeze(1))
        if choice is not None:
            pulled = choice.charge(pulled)
        return (pulled,), inner(negative, self.offset)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """``below z`` where the coefficient is > 0, else ``up z + offset``: ``N x S x *V``."""
        (z,) = inputs
        assert z is not None
        above = (self.up.unsqueeze(1) * z).add_(self.offset.unsqueeze(1))
        return above.lerp_(self._below(choice) * z, coefficients.sign().clamp_(min=0))


@dataclass(frozen=True, eq=False)
class FixedLines(Relaxation):
    """Lines of which none is free: ``below z <= y <= (below + more) z + offset``.

    What :class:`Lines` makes of its tensors is made here once, before instances are picked and
    windows are cut.

    Attributes:
        below: slope of the lower line, ``N x *V``.
        more: what the upper line's slope is above it, ``N x *V``.
        offset: the upper line at 0, ``N x *V``; >= 0.
    """

    below: Tensor
    more: Tensor
    offset: Tensor

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """``below``, and ``more`` where a coefficient is < 0: ``N x S x *V``."""
        negative = coefficients.clamp(max=0)
        pulled = coefficients * self.below.unsqueeze(1)
        pulled.addcmul_(negative, self.more.unsqueeze(1))
        return (pulled,), inner(negative, self.offset)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The lower line where the coefficient is > 0, else the upper one: ``N x S x *V``."""
        (z,) = inputs
        assert z is not None
        gap = self.more.unsqueeze(1) * z + self.offset.unsqueeze(1)
        return self.below.unsqueeze(1) * z + torch.where(coefficients > 0, 0.0, gap)


def without_choice(relaxations: Mapping[int, Relaxation]) -> dict[int, Relaxation]:
    """Relaxations by place, with lines of which none is free."""
    return {
        place: relaxation.fixed if isinstance(relaxation, Lines) else relaxation
        for place, relaxation in relaxations.items()
    }


def lines(slope: float, lower: Tensor, upper: Tensor) -> Lines:
    """Lines of a function of slope ``slope`` below 0 and 1 above, exact where one half is left."""
    # cut at 0, the chord of a neuron of one sign is the line of that sign
    below, above = lower.clamp(max=0), upper.clamp(min=0)
    width = (above - below).clamp(min=torch.finfo(lower.dtype).tiny)
    # NaN, not 0, where the width overflows
    chord = (above - slope * below) / width + (width - width)
    return Lines(
        slope=slope,
        up=chord,
        # (slope - chord) * below, without the difference, which would cancel in a wide interval
        offset=((1 - slope) * above * (-below / width)).clamp(min=0),
    )
