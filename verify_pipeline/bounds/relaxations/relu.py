"""Linear bounds of (leaky) ReLU: Zhang et al. 2018 (CROWN, arXiv:1811.00866).

The slope of the lower line is a free parameter: Xu et al. 2021 (α-CROWN, arXiv:2011.13824), eq. 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import LEAST_WIDTH, gamma
from verify_pipeline.bounds.relaxations.base import Choice, Relaxation, inner, terms
from verify_pipeline.network.affine_error import UNIT_ROUNDOFF

LINE_ROUNDINGS = 32
"""The lines of a leaky ReLU are valid up to this many roundings, relative to its greatest input.

The slope of the chord has at most 4 roundings, its offset 6, a lower slope 4, and products with
them one each. All slopes are at most 1, and offsets at most the greatest input.
"""


def _outward(constants: Tensor, offset: Tensor) -> Tensor:
    """Sums ``Σ A⁻ offset``, whose terms are all at most 0, with what rounding may have added."""
    return constants * (1 + gamma(terms(offset) + 8, offset.dtype))


def _line_rounding(slope: float, like: Tensor, inputs: Sequence[Tensor]) -> Tensor | None:
    """Of a leaky ReLU's lines. Those of a ReLU are valid, and products count where they arrive."""
    return None if slope == 0 else gamma(LINE_ROUNDINGS, like.dtype) * inputs[0]


@dataclass(frozen=True, eq=False)
class Lines(Relaxation):
    """The relaxation of a (leaky) ReLU: ``below z <= y <= up z + offset``.

    A neuron is unstable where ``offset > 0``. There, the lower slope
    ``below = slope + α (1 - slope)`` can be any number between the function's two slopes. Elsewhere
    the neuron is linear, and ``y = up z``. (The code avoids ``torch.where``, which costs as much as
    twenty other operations on a CPU.)

    Attributes:
        slope: the function's slope below 0, in [0, 1].
        up: slope of the upper line, ``N x *V``.
        offset: the upper line's value at 0, ``N x *V``; >= 0.
        sides: signs s of the splits that get a multiplier when later neurons are bounded,
            ``N x *V``: -1, 0 or +1; None: there are none.
    """

    slope: float
    up: Tensor
    offset: Tensor
    sides: Tensor | None = None

    @cached_property
    def _unstable(self) -> Tensor:
        """1 where the neuron is unstable, otherwise 0, ``N x *V``."""
        return self.offset.sign()

    @cached_property
    def adaptive(self) -> Tensor:
        """The adaptive α, ``N x *V``: 1 where upper > -lower, otherwise 0.

        It minimises the area between the two lines (Zhang et al. 2018).
        """
        return (self.up - (1 + self.slope) / 2).sign().clamp(min=0)

    @cached_property
    def _least(self) -> Tensor:
        """The lower slope at α = 0, ``N x 1 x *V``."""
        return (self.up + self._unstable * (self.slope - self.up)).unsqueeze(1)

    @cached_property
    def _span(self) -> Tensor:
        """What α = 1 adds to the lower slope, ``N x 1 x *V``."""
        return ((1 - self.slope) * self._unstable).unsqueeze(1)

    @cached_property
    def _usual(self) -> Tensor:
        """The lower slope at the adaptive α, ``N x 1 x *V``."""
        return self._least + self.adaptive.unsqueeze(1) * self._span

    @cached_property
    def fixed(self) -> FixedLines:
        """The same lines with fixed, adaptive slopes and without splits."""
        below = self._usual.squeeze(1)
        return FixedLines(self.slope, below, self.up - below, self.offset)

    def _below(self, choice: Choice | None) -> Tensor:
        """Slopes of the lower lines, ``N x S x *V`` or ``N x 1 x *V``."""
        if choice is None:
            return self._usual
        return choice.slopes(self._least, self._span, self._usual)

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Coefficients of the input, ``N x S x *V``.

        They are multiplied by the lower slope where positive, otherwise by ``up``. The multipliers
        of splits, ``β s``, are subtracted.
        """
        negative = coefficients.clamp(max=0)
        pulled = coefficients.clamp(min=0).mul_(self._below(choice))
        pulled = pulled.addcmul_(negative, self.up.unsqueeze(1))
        if choice is not None:
            pulled = choice.charge(pulled)
        return (pulled,), _outward(inner(negative, self.offset), self.offset)

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """Of a leaky ReLU's slopes and offsets, ``N``; None for a ReLU."""
        return _line_rounding(self.slope, self.offset, inputs)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The lower line where the coefficient is > 0, otherwise the upper line: ``N x S x *V``."""
        (z,) = inputs
        assert z is not None
        above = (self.up.unsqueeze(1) * z).add_(self.offset.unsqueeze(1))
        return above.lerp_(self._below(choice) * z, coefficients.sign().clamp_(min=0))


@dataclass(frozen=True, eq=False)
class FixedLines(Relaxation):
    """Lines without free parameters: ``below z <= y <= (below + more) z + offset``.

    :class:`Lines` derives its slopes in every use. Here they are computed once, before instances
    are selected and windows are cut.

    Attributes:
        slope: the function's slope below 0, in [0, 1].
        below: slope of the lower line, ``N x *V``.
        more: slope of the upper line minus slope of the lower line, ``N x *V``.
        offset: the upper line's value at 0, ``N x *V``; >= 0.
    """

    slope: float
    below: Tensor
    more: Tensor
    offset: Tensor

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Coefficients times ``below``, or ``below + more`` where negative: ``N x S x *V``."""
        negative = coefficients.clamp(max=0)
        pulled = coefficients * self.below.unsqueeze(1)
        pulled.addcmul_(negative, self.more.unsqueeze(1))
        return (pulled,), _outward(inner(negative, self.offset), self.offset)

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """Of a leaky ReLU's slopes and offsets, ``N``; None for a ReLU."""
        return _line_rounding(self.slope, self.offset, inputs)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The lower line where the coefficient is > 0, otherwise the upper: ``N x S x *V``."""
        (z,) = inputs
        assert z is not None
        gap = self.more.unsqueeze(1) * z + self.offset.unsqueeze(1)
        return self.below.unsqueeze(1) * z + torch.where(coefficients > 0, 0.0, gap)


def without_choice(relaxations: Mapping[int, Relaxation]) -> dict[int, Relaxation]:
    """The relaxations by node index, with fixed lines for (leaky) ReLUs."""
    return {
        place: relaxation.fixed if isinstance(relaxation, Lines) else relaxation
        for place, relaxation in relaxations.items()
    }


def lines(slope: float, lower: Tensor, upper: Tensor) -> Lines:
    """Lines of the function with slope ``slope`` below 0 and slope 1 above.

    They are exact where the sign of the input is known.

    Args:
        slope: in [0, 1].
        lower: bounds of the input, ``N x *V``.
        upper: bounds of the input, ``N x *V``.
    """
    # after clamping at 0, the chord of a stable neuron is its linear piece
    below, above = lower.clamp(max=0), upper.clamp(min=0)
    width = (above - below).clamp(min=torch.finfo(lower.dtype).tiny)
    # adding width - width gives NaN instead of 0 where the width overflows
    chord = (above - slope * below) / width + (width - width)
    # equals (slope - chord) * below, but avoids the cancellation in a wide interval
    offset = ((1 - slope) * above * (-below / width)).clamp(min=0)
    # the rounded chord passes above both ends of a ReLU if it is raised by its own rounding; the
    # offset of an unstable neuron may have been rounded to 0
    unstable = above.sign() * below.sign().neg()
    raised = offset + 16 * UNIT_ROUNDOFF * (offset + above * unstable)
    raised = raised + LEAST_WIDTH * unstable
    return Lines(slope=slope, up=chord, offset=raised)
