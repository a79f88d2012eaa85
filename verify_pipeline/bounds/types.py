"""What every bounding method takes and returns; methods import this module, never each other.

Shape letters: ``N`` instances or domains, ``*X`` the input's shape, ``*V`` a node's shape without
its batch axis, ``K`` outputs, ``S`` rows of a specification (or any other linear functionals).

Sign conventions, here for the whole layer:

* Methods compute *lower* bounds of linear functionals ``A · z + c``; an upper bound of ``z`` is the
  negated lower bound of ``-z``.
* A split says ``s z >= 0`` of the input ``z`` of a ReLU: ``s = +1`` active, ``s = -1`` inactive,
  ``s = 0`` open. Its multiplier ``beta >= 0`` enters the Lagrangian as ``A · z + c - beta s z``,
  which is at most ``A · z + c`` wherever the split holds (Wang et al. 2021, arXiv:2103.06624,
  eq. 7), so each ``beta >= 0`` gives a valid lower bound on the domain.
* NaN is never good news: in a lower bound it becomes ``-inf``, in an upper bound ``+inf``; so does
  a lower bound of ``+inf`` or an upper bound of ``-inf``, which only an overflow can give.
* A value that has no finite bounds may be undefined: a logarithm of a negative number, a quotient
  by zero, an overflow. Then the network's output may be NaN, whatever follows, and nothing is known
  of the instance: see :meth:`NodeBounds.where_defined`. A relaxation over an interval that is not
  finite gives no finite bound either.

Bounds are computed in the dtype of what is given, rounded to nearest. A verdict takes them from
float64, where the rounding is far below any margin that matters.
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
"""Values beyond it overflow in a file's float32 arithmetic, although float64 holds their bounds."""

Splits = dict[int, Tensor]
"""Place of a ReLU node -> ``N x *V`` int8 about its input: -1 inactive, 0 open, +1 active."""


def sound_lower(lower: Tensor) -> Tensor:
    """``lower`` with NaN and ``+inf`` made ``-inf``: what is not known is not bounded."""
    return lower.nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)


def sound_upper(upper: Tensor) -> Tensor:
    """``upper`` with NaN and ``-inf`` made ``+inf``: what is not known is not bounded."""
    return upper.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=torch.inf)


def is_bounded(lower: Tensor, upper: Tensor) -> Tensor:
    """Where both bounds of a value are finite, within the range of float32."""
    return (lower >= -LARGEST) & (upper <= LARGEST) & torch.isfinite(upper - lower)


@dataclass(frozen=True, eq=False)
class NodeBounds(Batched):
    """Bounds of nodes' values, instance by instance.

    A bounding method needs those of some nodes only (``crown.needed_places``), so a search may
    keep just those.

    Attributes:
        lower: place of a node -> ``N x *V``; may be ``-inf``, never NaN.
        upper: place of a node -> ``N x *V``; may be ``+inf``, never NaN.
    """

    lower: dict[int, Tensor]
    upper: dict[int, Tensor]

    def __post_init__(self) -> None:
        if self.lower.keys() != self.upper.keys():
            raise ValueError("lower and upper bounds are of different nodes")

    def only(self, places: Collection[int]) -> NodeBounds:
        """The bounds of some nodes."""
        return NodeBounds(
            {place: self.lower[place] for place in places},
            {place: self.upper[place] for place in places},
        )

    def intersect(self, other: NodeBounds) -> NodeBounds:
        """The tighter of both at each node that either knows.

        Where two valid bounds miss each other by rounding, the result is empty (lower > upper)
        like that of a contradiction: see :meth:`empty`.
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
        """The bounds of instances all of whose values are bounded; infinite ones of the others.

        For bounds of every node: one that is not bounded makes everything computed from it unknown.
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
        """As least and greatest show, without a tensor of any node's size."""
        least = [value.amin() for value in self.lower.values() if value.numel()]
        greatest = [value.amax() for value in self.upper.values() if value.numel()]
        if not least:
            return True
        ends = torch.stack([torch.stack(least).amin(), -torch.stack(greatest).amax()])
        return float(ends.amin().detach()) >= -LARGEST

    def empty(self) -> Tensor:
        """Instances without any input: some lower bound exceeds its upper bound; ``N``."""
        empty = torch.zeros(len(self), dtype=torch.bool)
        for place, lower in self.lower.items():
            crossed = (lower > self.upper[place]).flatten(1).any(1)
            empty = empty.to(crossed.device) | crossed
        return empty

    def to(self, target: torch.dtype | torch.device | str) -> NodeBounds:
        """The same bounds elsewhere; in a narrower dtype they are rounded outward."""
        return NodeBounds(
            {place: round_down(value, target) for place, value in self.lower.items()},
            {place: round_up(value, target) for place, value in self.upper.items()},
        )


def _filled(values: Tensor, instances: Tensor, number: float) -> Tensor:
    """``values`` ``N x *V`` with that number all over the instances ``N`` booleans."""
    return values.masked_fill(instances.view(-1, *(1,) * (values.dim() - 1)), number)


@dataclass(frozen=True, eq=False)
class Multipliers(Batched):
    """What can be optimised in a CROWN bound; keys are places of nodes that have a choice:
    (leaky) ReLUs, smooth activations and products.

    Attributes:
        alpha: ``N x S x *V`` or ``N x 1 x *V`` in [0, 1]: where the lower line's slope of an
            unstable neuron stands between the function's two slopes. A node that is left out has
            the adaptive slope (1 where upper > -lower, else 0). Of a product ``N x S x *P``, for
            each pair of factors that it multiplies: where its plane stands between McCormick's two;
            left out, midway. Of a smooth activation, where its lines touch it (``tangents``).
        beta: ``N x S x *V`` or ``N x 1 x *V``, >= 0, of splits; counts only where there is one. A
            node that is left out has none.
    """

    alpha: dict[int, Tensor]
    beta: dict[int, Tensor]

    def to(self, target: torch.dtype | torch.device | str) -> Multipliers:
        """The same elsewhere; any value in range is valid, so rounding does no harm."""
        return Multipliers(
            {place: value.to(target) for place, value in self.alpha.items()},
            {place: value.to(target) for place, value in self.beta.items()},
        )


@dataclass(frozen=True, eq=False)
class MarginBounds(Batched):
    """Lower bounds of margins, and the linear functions of the input that prove them.

    On every input ``x`` of the domain, row s is at least ``coefficients[s] · x + constants[s]``,
    whose minimum over the box is ``lower[s]``.

    Attributes:
        lower: ``N x S``; ``-inf`` where nothing is known, never NaN.
        coefficients: ``N x S x *X``.
        constants: ``N x S``.
    """

    lower: Tensor
    coefficients: Tensor
    constants: Tensor

    @property
    def least(self) -> Tensor:
        """The least row's bound, ``N``."""
        return self.lower.amin(1)

    def verified(self) -> Tensor:
        """Instances of which every row is > 0 (a tie is not), ``N`` booleans."""
        return (self.lower > 0).all(1)

    def corners(self, box: Box) -> Tensor:
        """For each row the corner of the box where its linear function is least, ``N x S x *X``."""
        lower, upper = box.lower.unsqueeze(1), box.upper.unsqueeze(1)
        return torch.where(self.coefficients > 0, lower, upper)


@checked_dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimiseSettings:
    """Projected ascent on α and β.

    Attributes:
        iterations: steps at most; 0 evaluates the starting point only.
        lr_alpha: Adam's rate for α, whose range is [0, 1].
        lr_beta: Adam's rate for β, in units of the margin per unit of a neuron's input.
        lr_planes: Adam's rate for the positions of products' planes, in [0, 1]; 0: they stay where
            they start.
        decay: factor of both rates after each step.
    """

    iterations: Count = 20
    lr_alpha: Positive = 0.25
    lr_beta: Positive = 0.05
    lr_planes: NonNegative = 0.1
    decay: Positive = 0.98


def always() -> bool:
    """True: there is time."""
    return True


@dataclass(frozen=True, eq=False)
class StopRule:
    """When an ascent comes to rest before its steps are used up.

    Attributes:
        above: ``N``; an instance rests once each of its rows is above this.
        has_time: whether there is time for another step, asked before each; the starting point is
            evaluated in any case.
    """

    above: Tensor
    has_time: Callable[[], bool] = always


@checked_dataclass(frozen=True, kw_only=True, config=STRICT)
class MemoryBudget:
    """How much memory one call may take for its intermediate tensors.

    Attributes:
        bytes: at least enough for one functional of one instance, or that is what is used.
    """

    bytes: PositiveCount = 1 << 30
