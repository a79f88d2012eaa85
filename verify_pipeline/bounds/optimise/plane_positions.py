"""Positions of product planes and tangents, as variables of the ascent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds.optimise.variables import NeuronIndex, Variable
from verify_pipeline.bounds.relaxations.base import Choice, OptimisableRelaxation
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph


@dataclass(frozen=True, eq=False)
class PlanePositions(Choice):
    """Positions of the planes of one relaxation, for each row.

    Attributes:
        relaxation: the relaxation with these planes.
        alpha: variables in [0, 1], ``N x S x *P``; each instance is one cell.
    """

    relaxation: OptimisableRelaxation
    alpha: Variable

    @staticmethod
    def of(relaxation: OptimisableRelaxation, rows: int, start: Tensor | None) -> PlanePositions:
        """Positions that start at ``start`` (``N x S x *P`` or ``N x 1 x *P``), or midway."""
        value = relaxation.midway(rows)
        if start is not None:
            value = value.copy_(start.clamp(0, 1))
        number = torch.arange(len(value), device=value.device)
        cells = NeuronIndex(number, torch.zeros_like(number))
        return PlanePositions(relaxation, Variable.at(cells, 1.0, value))

    def positions(self) -> Tensor:
        """The current positions, ``N x S x *P``."""
        return self.alpha.value

    def variables(self) -> list[Variable]:
        """The positions, as the only variable."""
        return [self.alpha]

    def gradients(self, coefficients: Tensor, inputs: Sequence[Tensor | None]) -> list[Tensor]:
        """Gradients of the bounds with respect to :meth:`variables`.

        The arguments are those of ``OptimisableRelaxation.slope``.
        """
        return [self.relaxation.slope(coefficients, inputs, self.alpha.value)]

    def to(self, dtype: torch.dtype) -> PlanePositions:
        """The same positions in another dtype."""
        return PlanePositions(
            self.relaxation.map(lambda values: values.to(dtype)), self.alpha.to(dtype)
        )

    def only(self, still: Tensor) -> PlanePositions:
        """The positions of the instances in ``still``, ``N`` booleans."""
        return PlanePositions(self.relaxation[still], self.alpha.only(still))


def hold(linear: LinearGraph, positions: dict[int, Tensor]) -> LinearGraph:
    """Make the given positions the default positions of their relaxations.

    Args:
        linear: the relaxed network.
        positions: index of a node -> positions in [0, 1], ``N x S x *P`` or ``N x 1 x *P``.
    """
    held = {
        place: replace(relaxation, usual=positions[place].clamp(0, 1))
        for place, relaxation in linear.relaxations.items()
        if isinstance(relaxation, OptimisableRelaxation) and place in positions
    }
    return replace(linear, relaxations=linear.relaxations | held)
