"""The variables of the ascent: α of unstable neurons and β of split neurons.

Only some neurons of an instance are unstable or split. Their values are kept in lists, and written
into dense tensors for each backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.relaxations.base import Choice

# Adam's decay rates β₁ and β₂, and its ε (Kingma & Ba 2015, arXiv:1412.6980).
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8


@dataclass(frozen=True, eq=False)
class NeuronIndex:
    """``L`` cells: neurons of one node that have a variable for every row.

    Attributes:
        instance: the instance of each cell, ``L``.
        neuron: its index in the flattened value, ``L``.
    """

    instance: Tensor
    neuron: Tensor

    @staticmethod
    def where(mask: Tensor) -> NeuronIndex:
        """The neurons that ``mask`` ``N x *V`` selects."""
        return NeuronIndex(*mask.unsqueeze(1).flatten(1).nonzero(as_tuple=True))

    def read(self, dense: Tensor) -> Tensor:
        """The values of the cells in a tensor ``N x S x *V``: ``L x S``."""
        return dense.unsqueeze(2).flatten(2)[self.instance, :, self.neuron]

    def write(self, dense: Tensor, rows: Tensor) -> None:
        """Write the cells' values ``L x S`` into a contiguous tensor ``N x S x *V``."""
        dense.view(*dense.shape[:2], -1)[self.instance, :, self.neuron] = rows

    def subtract(self, dense: Tensor, rows: Tensor) -> None:
        """Subtract values ``L x S`` at the cells of a contiguous tensor ``N x S x *V``."""
        dense.view(*dense.shape[:2], -1)[self.instance, :, self.neuron] -= rows

    def __len__(self) -> int:
        return len(self.instance)


@dataclass(frozen=True, eq=False)
class Variable:
    """Variables of some cells with Adam's moments, ``L x S`` each; changed in place.

    If a cell has several variables for a row, the tensors are ``L x S x *P``.

    Attributes:
        cells: the cells.
        greatest: upper end of the allowed range, which starts at 0; None: no limit.
        value: the current values.
        first: running mean of the gradient.
        second: running mean of the squared gradient.
        origin: index of each cell in the list at the start of the ascent, ``L``.
    """

    cells: NeuronIndex
    greatest: float | None
    value: Tensor
    first: Tensor
    second: Tensor
    origin: Tensor

    @staticmethod
    def at(cells: NeuronIndex, greatest: float | None, value: Tensor) -> Variable:
        """Variables that start at ``value`` ``L x S``; the tensor is not copied."""
        origin = torch.arange(len(cells), device=value.device)
        zeros = torch.zeros_like(value)
        return Variable(cells, greatest, value, zeros, zeros.clone(), origin)

    def only(self, still: Tensor) -> Variable:
        """The variables of the instances in ``still`` (``N`` booleans), which are renumbered."""
        kept = still[self.cells.instance]
        number = still.cumsum(0) - 1
        cells = NeuronIndex(number[self.cells.instance[kept]], self.cells.neuron[kept])
        moved = (t[kept] for t in (self.value, self.first, self.second, self.origin))
        return Variable(cells, self.greatest, *moved)

    def to(self, dtype: torch.dtype) -> Variable:
        """The same variables in another dtype; every value in range is valid."""
        value, first, second = (t.to(dtype) for t in (self.value, self.first, self.second))
        return Variable(self.cells, self.greatest, value, first, second, self.origin)

    def climb(self, gradient: Tensor, rate: float, step: int) -> None:
        """Make one ascent step of Adam and project the values into their range.

        Args:
            gradient: ``L x S``.
            rate: the learning rate.
            step: number of this step, from 1.
        """
        # an infinite bound has no direction
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        self.first.lerp_(gradient, 1 - _FIRST)
        self.second.mul_(_SECOND).addcmul_(gradient, gradient, value=1 - _SECOND)
        scale = (self.second / (1 - _SECOND**step)).sqrt_().add_(_TINY)
        self.value.addcdiv_(self.first, scale, value=rate / (1 - _FIRST**step))
        self.value.clamp_(min=0.0, max=self.greatest)


@dataclass(frozen=True, eq=False)
class ReluVariables(Choice):
    """α and β of one (leaky) ReLU node as variables.

    Attributes:
        slope: the function's slope below 0.
        shape: shape of the coefficients, ``N x S x *V``.
        alpha: variables in [0, 1]; None: the default slopes.
        beta: variables >= 0; None: no splits.
        sides: the sign s of each cell of β, ``L x 1``.
    """

    slope: float
    shape: torch.Size
    alpha: Variable | None
    beta: Variable | None
    sides: Tensor | None

    def slopes(self, least: Tensor, span: Tensor, usual: Tensor) -> Tensor:
        """The default slopes, replaced by those of α at its cells, ``N x S x *V``."""
        if self.alpha is None:
            return usual
        slopes = usual.expand(self.shape).contiguous()
        slopes = slopes.clone() if slopes.data_ptr() == usual.data_ptr() else slopes
        self.alpha.cells.write(slopes, self.slope + (1 - self.slope) * self.alpha.value)
        return slopes

    def charge(self, pulled: Tensor) -> Tensor:
        """Subtract ``β s`` at β's cells from coefficients ``N x S x *V``, in place."""
        if self.beta is not None and self.sides is not None:
            self.beta.cells.subtract(pulled, self.beta.value * self.sides)
        return pulled

    def variables(self) -> list[Variable]:
        """α and β, without those that are None."""
        return [variable for variable in (self.alpha, self.beta) if variable is not None]

    def gradients(self, coefficients: Tensor, inputs: Sequence[Tensor | None]) -> list[Tensor]:
        """Gradients of the bounds with respect to :meth:`variables`, ``L x S`` each.

        Args:
            coefficients: the coefficients that arrive at the node's value, ``N x S x *V``.
            inputs: the value of its input where the bound is attained, ``N x S x *V``.
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
        """The variables of the instances in ``still``, ``N`` booleans."""
        sides = self.sides
        if self.beta is not None and sides is not None:
            sides = sides[still[self.beta.cells.instance]]
        shape = torch.Size((int(still.sum()), *self.shape[1:]))
        alpha, beta = (v and v.only(still) for v in (self.alpha, self.beta))
        return ReluVariables(self.slope, shape, alpha, beta, sides)

    def to(self, dtype: torch.dtype) -> ReluVariables:
        """The same variables in another dtype."""
        alpha, beta = (v and v.to(dtype) for v in (self.alpha, self.beta))
        sides = None if self.sides is None else self.sides.to(dtype)
        return ReluVariables(self.slope, self.shape, alpha, beta, sides)
