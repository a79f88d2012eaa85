"""The inputs and results that all bounding methods share.

Shape letters: ``N`` instances or domains, ``*X`` the input's shape, ``*V`` a node's shape without
its batch axis, ``K`` outputs, ``S`` rows of a specification (or any other linear functionals).

Sign conventions of the whole layer:

* Methods compute *lower* bounds of linear functionals ``A · z + c``. The negated lower bound of
  ``-z`` is an upper bound of ``z``.
* A split is the constraint ``s z >= 0`` on the input ``z`` of a ReLU: ``s = +1`` active,
  ``s = -1`` inactive, ``s = 0`` not split. Its multiplier ``beta >= 0`` enters the Lagrangian as
  ``A · z + c - beta s z``. This is at most ``A · z + c`` wherever the split holds, so every
  ``beta >= 0`` gives a valid lower bound on the domain (Wang et al. 2021, arXiv:2103.06624, eq. 7).
* NaN proves nothing. In a lower bound it becomes ``-inf``, in an upper bound ``+inf``. A lower
  bound of ``+inf`` or an upper bound of ``-inf`` can only come from an overflow and is treated
  likewise.
* A value without finite bounds may be undefined: a logarithm of a negative number, a division by
  zero, an overflow. The network's output may then be NaN, and nothing is known about the instance
  (:meth:`NodeBounds.where_defined`). A relaxation over an infinite interval gives no finite bound.

Bounds are computed in the dtype of the arguments. Those in float64 allow for their rounding
(``floating_point``) and hold in exact arithmetic; only they decide verdicts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.problem import Box
from verify_pipeline.rounding import round_down, round_up
from verify_pipeline.settings import STRICT, Count, NonNegative, Positive, PositiveCount

LARGEST = torch.finfo(torch.float32).max
"""The greatest float32 number. Greater values overflow when the file is run in float32, although
float64 can represent their bounds."""

Splits = dict[int, Tensor]
"""Index of a ReLU node -> signs of its input, ``N x *V`` int8: -1 inactive, 0 open, +1 active."""


def sound_lower(lower: Tensor) -> Tensor:
    """``lower`` with NaN and ``+inf`` replaced by ``-inf``, because these prove nothing."""
    return lower.nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)


def sound_upper(upper: Tensor) -> Tensor:
    """``upper`` with NaN and ``-inf`` replaced by ``+inf``, because these prove nothing."""
    return upper.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)


def is_bounded(lower: Tensor, upper: Tensor) -> Tensor:
    """Whether both bounds of a value are finite and within the range of float32, elementwise."""
    return (lower >= -LARGEST) & (upper <= LARGEST) & torch.isfinite(upper - lower)


@dataclass(frozen=True, eq=False)
class NodeBounds(Batched):
    """Bounds of the values of some or all nodes, for ``N`` instances.

    A bounding method needs the bounds of some nodes only (``crown.needed_places``), so a search can
    drop the others.

    Attributes:
        lower: index of a node -> lower bounds, ``N x *V``; may be ``-inf``, never NaN.
        upper: index of a node -> upper bounds, ``N x *V``; may be ``+inf``, never NaN.
    """

    lower: dict[int, Tensor]
    upper: dict[int, Tensor]

    def __post_init__(self) -> None:
        if self.lower.keys() != self.upper.keys():
            raise ValueError("lower and upper bounds are of different nodes")

    def only(self, places: Collection[int]) -> NodeBounds:
        """The bounds of the nodes with these indices."""
        return NodeBounds(
            {place: self.lower[place] for place in places},
            {place: self.upper[place] for place in places},
        )

    def intersect(self, other: NodeBounds) -> NodeBounds:
        """The tighter of both bounds at each node that either object contains.

        If rounding separates two valid intervals, the result is empty (lower > upper), as it is
        after a contradiction: see :meth:`empty`.
        """
        lower, upper = dict(self.lower), dict(self.upper)
        for place in other.lower:
            known = place in lower
            lower[place] = (
                torch.maximum(lower[place], other.lower[place]) if known else other.lower[place]
            )
            upper[place] = (
                torch.minimum(upper[place], other.upper[place]) if known else other.upper[place]
            )
        return NodeBounds(lower, upper)

    def where_defined(self) -> NodeBounds:
        """Make all bounds of an instance infinite if any of its values is unbounded.

        The object must contain every node, because an unbounded value makes everything computed
        from it unknown.
        """
        if len(self) == 0 or self._are_all_bounded():
            return self
        known = [is_bounded(v, self.upper[p]).flatten(1).all(1) for p, v in self.lower.items()]
        unknown = ~torch.stack(known).all(0)
        return NodeBounds(
            {place: _filled(value, unknown, -torch.inf) for place, value in self.lower.items()},
            {place: _filled(value, unknown, torch.inf) for place, value in self.upper.items()},
        )

    def _are_all_bounded(self) -> bool:
        """Check the extreme values only, which needs no temporary tensor of a node's size."""
        least = [value.amin() for value in self.lower.values() if value.numel()]
        greatest = [value.amax() for value in self.upper.values() if value.numel()]
        if not least:
            return True
        ends = torch.stack([torch.stack(least).amin(), -torch.stack(greatest).amax()])
        return float(ends.amin().detach()) >= -LARGEST

    def empty(self) -> Tensor:
        """Which instances contain no input, ``N`` booleans: a lower bound exceeds the upper one."""
        empty = torch.zeros(len(self), dtype=torch.bool)
        for place, lower in self.lower.items():
            crossed = (lower > self.upper[place]).flatten(1).any(1)
            empty = empty.to(crossed.device) | crossed
        return empty

    def to(self, target: torch.dtype | torch.device | str) -> NodeBounds:
        """The same bounds in another dtype or on another device; narrower dtypes round outward."""
        return NodeBounds(
            {place: round_down(value, target) for place, value in self.lower.items()},
            {place: round_up(value, target) for place, value in self.upper.items()},
        )


def _filled(values: Tensor, instances: Tensor, number: float) -> Tensor:
    """``values`` ``N x *V`` with ``number`` at all elements of some instances (``N`` booleans)."""
    return values.masked_fill(instances.view(-1, *(1,) * (values.dim() - 1)), number)


@dataclass(frozen=True, eq=False)
class Multipliers(Batched):
    """What can be optimised in a CROWN bound.

    The keys are indices of nodes whose relaxation has free parameters: (leaky) ReLUs, smooth
    activations and products.

    Attributes:
        alpha: values in [0, 1]. For a (leaky) ReLU, ``N x S x *V`` or ``N x 1 x *V``: the position
            of an unstable neuron's lower slope between the function's two slopes; a node without an
            entry has the adaptive slope (1 where upper > -lower, else 0). For a product,
            ``N x S x *P``: the position of each pair's plane between McCormick's two planes;
            without an entry, midway. For a smooth activation: where its lines touch the function
            (``tangents``).
        beta: multipliers of splits, ``N x S x *V`` or ``N x 1 x *V``, >= 0. A value counts only
            where a neuron is split. A node without an entry has no multipliers.
    """

    alpha: dict[int, Tensor]
    beta: dict[int, Tensor]

    def to(self, target: torch.dtype | torch.device | str) -> Multipliers:
        """The same in another dtype or on another device; every value in range is valid."""
        return Multipliers(
            {place: value.to(target) for place, value in self.alpha.items()},
            {place: value.to(target) for place, value in self.beta.items()},
        )


@dataclass(frozen=True, eq=False)
class MarginBounds(Batched):
    """Lower bounds of margins, and the linear functions of the input that prove them.

    At every input ``x`` of the domain, row s is at least ``coefficients[s] · x + constants[s]``.
    The minimum of this function over the box is ``lower[s]``.

    Attributes:
        lower: lower bounds, ``N x S``; ``-inf`` where nothing is known, never NaN.
        coefficients: ``N x S x *X``.
        constants: ``N x S``.
    """

    lower: Tensor
    coefficients: Tensor
    constants: Tensor

    @property
    def least(self) -> Tensor:
        """The least bound over the rows, ``N``."""
        return self.lower.amin(1)

    def verified(self) -> Tensor:
        """Which instances have a bound > 0 for every row, ``N`` booleans; a tie does not count."""
        return (self.lower > 0).all(1)

    def corners(self, box: Box) -> Tensor:
        """The corner of the box that minimises each row's linear function, ``N x S x *X``."""
        lower, upper = box.lower.unsqueeze(1), box.upper.unsqueeze(1)
        return torch.where(self.coefficients > 0, lower, upper)


@checked_dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimiseSettings:
    """Settings of the projected ascent on α and β.

    Attributes:
        iterations: the greatest number of steps; 0 evaluates the starting point only.
        lr_alpha: Adam's learning rate for α, whose range is [0, 1].
        lr_beta: Adam's learning rate for β, in units of the margin per unit of a neuron's input.
        lr_planes: Adam's learning rate for plane positions and tangents, whose range is [0, 1];
            0 keeps them where they start.
        decay: the factor that multiplies all rates after each step.
    """

    iterations: Count = 20
    lr_alpha: Positive = 0.25
    lr_beta: Positive = 0.05
    lr_planes: NonNegative = 0.1
    decay: Positive = 0.98


def always() -> bool:
    """Return True: there is always time."""
    return True


@dataclass(frozen=True, eq=False)
class StopRule:
    """When an ascent stops before it has made all its steps.

    Attributes:
        above: thresholds, ``N``; an instance stops once the bound of each of its rows exceeds its
            threshold.
        has_time: called before each step; whether there is time for another one. The starting
            point is evaluated in any case.
    """

    above: Tensor
    has_time: Callable[[], bool] = always


@checked_dataclass(frozen=True, kw_only=True, config=STRICT)
class MemoryBudget:
    """How much memory one call may use for its intermediate tensors.

    Attributes:
        bytes: the budget. One functional of one instance is always bounded, even if it needs more.
    """

    bytes: PositiveCount = 1 << 30
