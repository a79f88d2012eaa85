"""What a relaxation of a nonlinear operation is: linear bounds of its value.

A relaxation knows how a functional ``A · y`` of the operation's value is bounded from below by
functionals of its inputs: where a coefficient is positive the value's lower line counts, where it
is negative the upper line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from verify_pipeline.batched import Batched


class Choice:
    """What is free in a relaxation: slopes of lower lines (α), and charges for splits (β).

    A choice speaks of what its relaxation has; the rest is as usual.
    """

    def slopes(self, least: Tensor, span: Tensor, usual: Tensor) -> Tensor:
        """The slopes of the lower lines: ``N x S x *V`` or ``N x 1 x *V``.

        Args:
            least: at α = 0, ``N x 1 x *V``.
            span: what α = 1 adds, ``N x 1 x *V``.
            usual: the slopes where nothing is chosen, ``N x 1 x *V``.
        """
        return usual

    def charge(self, pulled: Tensor) -> Tensor:
        """Coefficients ``N x S x *V`` of the input less ``β s``; may change them in place."""
        return pulled

    def positions(self) -> Tensor | None:
        """Where planes stand between their two extremes: ``N x S x *P`` in [0, 1]; None: midway."""
        return None


@dataclass(frozen=True, eq=False)
class Relaxation(Batched, ABC):
    """How functionals of one nonlinear node's value are bounded by functionals of its inputs.

    Every tensor attribute has the batch axis ``N`` first.
    """

    @abstractmethod
    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """Functionals of the inputs, and constants, whose sum is a lower bound.

        Args:
            coefficients: ``N x S x *V``, of the node's value.
            choice: of what is free; None: the relaxation's own.

        Returns:
            For each input ``N x S x *V_in`` (None: it has no part), and ``N x S`` constants.
        """

    @abstractmethod
    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The value of the lines that :meth:`pull_back` chose, ``N x S x *V``.

        Args:
            coefficients: ``N x S x *V``, whose signs chose them.
            choice: as there.
            inputs: values ``N x S x *V_in`` of the inputs (None: those that have no part).
        """


@dataclass(frozen=True, eq=False)
class OptimisableRelaxation(Relaxation):
    """A relaxation whose planes stand at positions in [0, 1] that every row may choose.

    Attributes:
        usual: positions ``N x S x *P`` where none are chosen; None: 0.5.
    """

    usual: Tensor | None = field(default=None, kw_only=True)

    def positions(self, choice: Choice | None) -> Tensor | None:
        """The chosen positions, or the usual ones; None: 0.5 everywhere."""
        chosen = None if choice is None else choice.positions()
        return self.usual if chosen is None else chosen

    @abstractmethod
    def midway(self, rows: int) -> Tensor:
        """Positions of 0.5, which change nothing, for so many rows: ``N x S x *P``."""

    @abstractmethod
    def slope(
        self, coefficients: Tensor, inputs: Sequence[Tensor | None], positions: Tensor
    ) -> Tensor:
        """Derivatives of a bound with respect to positions, ``N x S x *P``.

        Args:
            coefficients: ``N x S x *V`` that arrive at the node's value.
            inputs: values ``N x S x *V_in`` of the inputs, where the bound is least.
            positions: where they stand, ``N x S x *P``.
        """


@dataclass(frozen=True, eq=False)
class Constants(Relaxation):
    """Of any operation: its value lies between two constants, whatever its inputs do.

    Attributes:
        lower: ``N x *V``.
        upper: ``N x *V``.
        inputs: how many the operation has.
    """

    lower: Tensor
    upper: Tensor
    inputs: int

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """No part of any input, and ``N x S`` constants: ``lower`` or ``upper`` by sign."""
        least = inner(coefficients.clamp(min=0), self.lower)
        return (None,) * self.inputs, least + inner(coefficients.clamp(max=0), self.upper)

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """``lower`` where the coefficient is > 0, else ``upper``: ``N x S x *V``."""
        return torch.where(coefficients > 0, self.lower.unsqueeze(1), self.upper.unsqueeze(1))


def inner(coefficients: Tensor, values: Tensor) -> Tensor:
    """``N x S`` inner products of ``N x S x *V`` with ``N x *V``."""
    row = values.unsqueeze(1).flatten(1).unsqueeze(1)
    products: Tensor = torch.linalg.vecdot(coefficients.unsqueeze(2).flatten(2), row)
    return products
