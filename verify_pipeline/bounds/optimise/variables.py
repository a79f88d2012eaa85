"""The numbers that the ascent changes: α of unstable neurons, β of split ones, and nothing else.

Few neurons of few instances have a choice, so theirs are kept in lists and written into the dense
tensors that a walk needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.relaxations.base import Choice

# Adam's running means and its guard against division by zero (Kingma & Ba 2015, arXiv:1412.6980).
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8


@dataclass(frozen=True, eq=False)
class NeuronIndex:
    """Neurons of one node that have a number each for every row.

    Attributes:
        instance: of each of ``L`` neurons.
        neuron: its place in the flattened value.
    """

    instance: Tensor
    neuron: Tensor

    @staticmethod
    def where(mask: Tensor) -> NeuronIndex:
        """Those that ``mask`` ``N x *V`` picks."""
        return NeuronIndex(*mask.unsqueeze(1).flatten(1).nonzero(as_tuple=True))

    def read(self, dense: Tensor) -> Tensor:
        """Their rows of a tensor ``N x S x *V``: ``L x S``."""
        return dense.unsqueeze(2).flatten(2)[self.instance, :, self.neuron]

    def write(self, dense: Tensor, rows: Tensor) -> None:
        """Put rows ``L x S`` into a contiguous tensor ``N x S x *V``."""
        dense.view(*dense.shape[:2], -1)[self.instance, :, self.neuron] = rows

    def subtract(self, dense: Tensor, rows: Tensor) -> None:
        """Take rows ``L x S`` from a contiguous tensor ``N x S x *V``."""
        dense.view(*dense.shape[:2], -1)[self.instance, :, self.neuron] -= rows

    def __len__(self) -> int:
        return len(self.instance)


@dataclass(frozen=True, eq=False)
class Variable:
    """Numbers of some cells with Adam's moments, ``L x S`` each; changed in place.

    A cell may also have several numbers: then each is ``L x S x *P``.

    Attributes:
        cells: whose.
        greatest: of the range from 0 that they stay in; None: no limit.
        value: where they stand.
        first: running mean of the gradient.
        second: running mean of its square.
        origin: of each cell its place in the list that the ascent began with, ``L``.
    """

    cells: NeuronIndex
    greatest: float | None
    value: Tensor
    first: Tensor
    second: Tensor
    origin: Tensor

    @staticmethod
    def at(cells: NeuronIndex, greatest: float | None, value: Tensor) -> Variable:
        """Variables that start at ``value`` ``L x S``, which they take over."""
        origin = torch.arange(len(cells), device=value.device)
        zeros = torch.zeros_like(value)
        return Variable(cells, greatest, value, zeros, zeros.clone(), origin)

    def only(self, still: Tensor) -> Variable:
        """Those of some instances (``N`` booleans), which are numbered anew."""
        kept = still[self.cells.instance]
        number = still.cumsum(0) - 1
        cells = NeuronIndex(number[self.cells.instance[kept]], self.cells.neuron[kept])
        moved = (t[kept] for t in (self.value, self.first, self.second, self.origin))
        return Variable(cells, self.greatest, *moved)

    def to(self, dtype: torch.dtype) -> Variable:
        """The same in another dtype; any value in range is valid, so rounding does no harm."""
        value, first, second = (t.to(dtype) for t in (self.value, self.first, self.second))
        return Variable(self.cells, self.greatest, value, first, second, self.origin)

    def climb(self, gradient: Tensor, rate: float, step: int) -> None:
        """The ``step``-th step of Adam upward (from 1), and back into the range.

        Args:
            gradient: ``L x S``.
            rate: Adam's.
            step: how many steps this is.
        """
        # where a bound is infinite there is no direction
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        self.first.lerp_(gradient, 1 - _FIRST)
        self.second.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
        scale = (self.second / (1 - _SECOND**step)).sqrt_().add_(_TINY)
        self.value.addcdiv_(self.first, scale, value=rate / (1 - _FIRST**step))
        self.value.clamp_(min=0.0, max=self.greatest)


@dataclass(frozen=True, eq=False)
class ReluVariables(Choice):
    """α and β of one node as variables.

    Attributes:
        slope: of the (leaky) ReLU below 0.
        shape: ``N x S x *V``.
        alpha: variables in [0, 1]; None: the usual slopes.
        beta: variables >= 0; None: no splits.
        sides: s of each of β's cells, ``L x 1``.
    """

    slope: float
    shape: torch.Size
    alpha: Variable | None
    beta: Variable | None
    sides: Tensor | None

    def slopes(self, least: Tensor, span: Tensor, usual: Tensor) -> Tensor:
        """The usual slopes with those of α's cells in their places, ``N x S x *V``."""
        if self.alpha is None:
            return usual
        slopes = usual.expand(self.shape).contiguous()
        slopes = slopes.clone() if slopes.data_ptr() == usual.data_ptr() else slopes
        self.alpha.cells.write(slopes, self.slope + (1 - self.slope) * self.alpha.value)
        return slopes

    def charge(self, pulled: Tensor) -> Tensor:
        """The coefficients ``N x S x *V``, less ``β s`` at β's cells, in place."""
        if self.beta is not None and self.sides is not None:
            self.beta.cells.subtract(pulled, self.beta.value * self.sides)
        return pulled

    def variables(self) -> list[Variable]:
        """Those that there are."""
        return [variable for variable in (self.alpha, self.beta) if variable is not None]

    def gradients(self, coefficients: Tensor, inputs: Sequence[Tensor | None]) -> list[Tensor]:
        """Of the bounds with respect to :meth:`variables`.

        Args:
            coefficients: ``N x S x *V`` that arrive at the node's value.
            inputs: ``N x S x *V``, its input's value at the point where the bound is least.
        """
        (z,) = inputs
        assert z is not None
        found = []
        if self.alpha is not None:
            cells = self.alpha.cells
            positive = cells.read(coefficients).clamp_(min=0)
            found.append(positive.mul_(cells.read(z)).mul_(1 - self.slope))
        if self.beta is not None and self.sides is not None:
            found.append(-self.sides * self.beta.cells.read(z))
        return found

    def only(self, still: Tensor) -> ReluVariables:
        """The same for some instances, ``N`` booleans."""
        sides = self.sides
        if self.beta is not None and sides is not None:
            sides = sides[still[self.beta.cells.instance]]
        shape = torch.Size((int(still.sum()), *self.shape[1:]))
        alpha, beta = (v and v.only(still) for v in (self.alpha, self.beta))
        return ReluVariables(self.slope, shape, alpha, beta, sides)

    def to(self, dtype: torch.dtype) -> ReluVariables:
        """The same in another dtype."""
        alpha, beta = (v and v.to(dtype) for v in (self.alpha, self.beta))
        sides = None if self.sides is None else self.sides.to(dtype)
        return ReluVariables(self.slope, self.shape, alpha, beta, sides)
