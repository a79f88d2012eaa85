"""Where planes of products and tangents stand, as numbers that the ascent changes."""

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
    """Positions of planes, each row's own.

    Attributes:
        relaxation: whose planes.
        alpha: variables in [0, 1], ``N x S x *P``: an instance is one cell.
    """

    relaxation: OptimisableRelaxation
    alpha: Variable

    @staticmethod
    def of(relaxation: OptimisableRelaxation, rows: int, start: Tensor | None) -> PlanePositions:
        """Positions that begin at ``start`` ``N x S x *P`` or ``N x 1 x *P``; None: midway."""
        value = relaxation.midway(rows)
        if start is not None:
            value = value.copy_(start.clamp(0, 1))
        number = torch.arange(len(value), device=value.device)
        cells = NeuronIndex(number, torch.zeros_like(number))
        return PlanePositions(relaxation, Variable.at(cells, 1.0, value))

    def positions(self) -> Tensor:
        """The variables' values."""
        return self.alpha.value

    def variables(self) -> list[Variable]:
        """The positions."""
        return [self.alpha]

    def gradients(self, coefficients: Tensor, inputs: Sequence[Tensor | None]) -> list[Tensor]:
        """Of the bounds with respect to :meth:`variables`; as ``OptimisableRelaxation.slope``."""
        return [self.relaxation.slope(coefficients, inputs, self.alpha.value)]

    def to(self, dtype: torch.dtype) -> PlanePositions:
        """The same in another dtype."""
        return PlanePositions(
            self.relaxation.map(lambda values: values.to(dtype)), self.alpha.to(dtype)
        )

    def only(self, still: Tensor) -> PlanePositions:
        """The same for some instances, ``N`` booleans."""
        return PlanePositions(self.relaxation[still], self.alpha.only(still))


def hold(linear: LinearGraph, positions: dict[int, Tensor]) -> LinearGraph:
    """The graph with the planes that can be moved where ``positions`` say, and nothing free there.

    Args:
        linear: the relaxed network.
        positions: place of a node -> ``N x S x *P`` or ``N x 1 x *P`` in [0, 1].
    """
    held = {
        place: replace(relaxation, usual=positions[place].clamp(0, 1))
        for place, relaxation in linear.relaxations.items()
        if isinstance(relaxation, OptimisableRelaxation) and place in positions
    }
    return LinearGraph(linear.graph, linear.relaxations | held)
