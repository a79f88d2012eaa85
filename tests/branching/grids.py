"""Instances whose least margin a fine grid tells, for searches of whatever network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
FINE = 201


@dataclass(frozen=True, eq=False)
class Problem:
    """Instances of one network.

    Attributes:
        graph: the network.
        box: ``N`` boxes.
        spec: ``N`` specifications.
    """

    graph: Graph
    box: Box
    spec: Specification

    def with_least(self, *wanted: float) -> Problem:
        """The first instance once for each number, shifted so that its least margin is that one."""
        same = torch.zeros(len(wanted), dtype=torch.long)
        shifts = torch.tensor(wanted, dtype=F64).unsqueeze(1) - least_on_grid(self)
        spec = self.spec[same]
        moved = Specification(spec.rows, spec.offsets + shifts, spec.spare)
        return Problem(self.graph, self.box[same], moved)


def robust(graph: Graph, image: Tensor, epsilon: float) -> Problem:
    """Robustness around an image, ``1 x 2``, whose class is the network's own."""
    labels = graph(image).argmax(1)
    spec = Specification.margins(labels, graph.outputs, F64)
    return Problem(graph, Box.around(image, epsilon, clip=None), spec)


def grid(box: Box) -> Tensor:
    """A fine grid over the first box of two inputs, ``FINE^2 x 2``."""
    ticks = torch.linspace(0, 1, FINE, dtype=F64)
    return box.lower[0] + torch.cartesian_prod(ticks, ticks) * (box.upper - box.lower)[0]


def least_on_grid(problem: Problem) -> float:
    """The least margin of the first instance over the grid."""
    spec = problem.spec[:1]
    return float(spec.least(spec.values(problem.graph(grid(problem.box)))).min())


def random_image(seed: int, inputs: int = 2) -> Tensor:
    """``1 x inputs`` float64 in [0, 1]."""
    return torch.rand(1, inputs, dtype=F64, generator=torch.Generator().manual_seed(seed))
