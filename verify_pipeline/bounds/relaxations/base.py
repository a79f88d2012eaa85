"""The interface of relaxations: linear bounds of a nonlinear operation's value.

A relaxation bounds a functional ``A · y`` of the operation's value from below by functionals of its
inputs. Where a coefficient is positive, it uses the lower line of ``y``; where it is negative, the
upper line.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds.floating_point import gamma


class Choice:
    """The free parameters of a relaxation: slopes (α), multipliers of splits (β), plane positions.

    A subclass overrides the methods of the parameters that its relaxation has. The others return
    defaults.
    """

    def slopes(self, least: Tensor, span: Tensor, usual: Tensor) -> Tensor:
        """The slopes of the lower lines, ``N x S x *V`` or ``N x 1 x *V``.

        Args:
            least: the slopes at α = 0, ``N x 1 x *V``.
            span: what α = 1 adds to them, ``N x 1 x *V``.
            usual: the default slopes, ``N x 1 x *V``.
        """
        return usual

    def charge(self, pulled: Tensor) -> Tensor:
        """Subtract ``β s`` from coefficients of the input ``N x S x *V``, possibly in place."""
        return pulled

    def positions(self) -> Tensor | None:
        """Positions of planes between their two extremes, ``N x S x *P`` in [0, 1]; None: 0.5."""
        return None


@dataclass(frozen=True, eq=False)
class Relaxation(Batched, ABC):
    """Linear bounds of one nonlinear node, for ``N`` instances.

    The batch axis ``N`` is the first axis of every tensor attribute.
    """

    @abstractmethod
    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Functionals of the inputs and constants, whose sum is a lower bound of the functionals.

        Args:
            coefficients: functionals of the node's value, ``N x S x *V``.
            choice: the free parameters; None: the defaults.

        Returns:
            Coefficients of each input, ``N x S x *V_in`` (None: the input does not matter), and the
            constants, ``N x S``.
        """

    @abstractmethod
    def rounding(self, inputs: Sequence[Tensor]) -> Tensor | None:
        """How much rounding can raise the result of :meth:`pull_back`, per unit of a coefficient.

        :meth:`pull_back` exceeds a lower bound of the functionals by at most this number times the
        sum of their absolute coefficients, for all inputs in question. This counts the rounding of
        products and sums, and how far the rounded lines may be on the wrong side of the function.

        Args:
            inputs: the greatest absolute value of each input, ``N``.

        Returns:
            ``N``, >= 0; None: not at all.
        """

    @abstractmethod
    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The values of the lines that :meth:`pull_back` selects, ``N x S x *V``.

        Args:
            coefficients: as in :meth:`pull_back`, ``N x S x *V``; their signs select the lines.
            choice: as in :meth:`pull_back`.
            inputs: values of the inputs, ``N x S x *V_in`` (None: the input does not matter).
        """


@dataclass(frozen=True, eq=False)
class OptimisableRelaxation(Relaxation):
    """A relaxation whose planes have positions in [0, 1], which can be optimised for every row.

    Attributes:
        usual: default positions, ``N x S x *P``; None: 0.5.
    """

    usual: Tensor | None = field(default=None, kw_only=True)

    def positions(self, choice: Choice | None) -> Tensor | None:
        """The positions of the choice, or the defaults without one; None: 0.5 everywhere."""
        chosen = None if choice is None else choice.positions()
        return self.usual if chosen is None else chosen

    @abstractmethod
    def midway(self, rows: int) -> Tensor:
        """Positions of 0.5, which give the default planes, for ``rows`` rows: ``N x S x *P``."""

    @abstractmethod
    def slope(
        self, coefficients: Tensor, inputs: Sequence[Tensor | None], positions: Tensor
    ) -> Tensor:
        """Derivatives of the bound with respect to the positions, ``N x S x *P``.

        Args:
            coefficients: the coefficients that arrive at the node's value, ``N x S x *V``.
            inputs: values of the inputs where the bound is attained, ``N x S x *V_in``.
            positions: the current positions, ``N x S x *P``.
        """


@dataclass(frozen=True, eq=False)
class Constants(Relaxation):
    """The relaxation of any operation by two constants that do not depend on its inputs.

    Attributes:
        lower: lower bounds of the value, ``N x *V``.
        upper: upper bounds of the value, ``N x *V``.
        inputs: how many inputs the operation has.
    """

    lower: Tensor
    upper: Tensor
    inputs: int

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """No coefficients of any input, and constants ``N x S``: ``lower`` or ``upper`` by sign."""
        least = inner(coefficients.clamp(min=0), self.lower)
        return (None,) * self.inputs, least + inner(coefficients.clamp(max=0), self.upper)

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor:
        """Of sums of the constants, ``N``."""
        return of_sums(self.lower, self.upper)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """``lower`` where the coefficient is > 0, otherwise ``upper``: ``N x S x *V``."""
        return torch.where(coefficients > 0, self.lower.unsqueeze(1), self.upper.unsqueeze(1))


def terms(values: Tensor) -> int:
    """How many elements a value ``N x *V`` has for each instance."""
    return math.prod(values.shape[1:])


def of_sums(*values: Tensor) -> Tensor:
    """The rounding of inner products with values ``N x *V``, per unit of a coefficient: ``N``."""
    count = sum(terms(value) for value in values)
    most = torch.stack([value.abs().flatten(1).amax(1) for value in values]).amax(0)
    return gamma(count + 8, most.dtype) * most


def inner(coefficients: Tensor, values: Tensor) -> Tensor:
    """Inner products of ``N x S x *V`` with ``N x *V``: ``N x S``."""
    row = values.unsqueeze(1).flatten(1).unsqueeze(1)
    products: Tensor = torch.linalg.vecdot(coefficients.unsqueeze(2).flatten(2), row)
    return products
