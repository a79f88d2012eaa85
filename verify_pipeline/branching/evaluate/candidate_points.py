"""Candidate counterexamples: points that the file's input type can hold, inside their boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.problem import Box
from verify_pipeline.rounding import next_down, next_up


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Points after evaluation.

    Attributes:
        points: ``D x *X``, of the file's input type, in their boxes where ``breaks`` says so.
        margins: ``D``, what decides of the specification, in float64.
        breaks: ``D`` booleans: it is not above zero, neither in float64 nor in the input type.
        defined: ``D`` booleans: all outputs are finite in float64.
    """

    points: Tensor
    margins: Tensor
    breaks: Tensor
    defined: Tensor

    def worst(self, instance: Tensor) -> dict[int, Tensor]:
        """The worst of the points that break their instances' specifications, by instance."""
        order = self.margins.argsort(descending=True)
        order = order[self.breaks[order]]
        return dict(zip(instance[order].tolist(), self.points[order], strict=True))


@torch.no_grad()
def evaluate(
    deployed: SearchInstances, exact: SearchInstances, instance: Tensor, points: Tensor
) -> Evaluated:
    """Evaluate points of some instances' boxes against their specifications.

    Args:
        deployed: N instances in the file's input type.
        exact: the same in float64.
        instance: ``D``, whose box each point is of.
        points: ``D x *X``.
    """
    box, spec = exact.box[instance], exact.spec[instance]
    points = representable(points, box, deployed.graph.dtype)
    outputs = exact.graph(points.double())
    margins = spec.least(spec.values(outputs))
    breaks = (margins <= 0) & box.contains(points.double())
    if deployed is not exact and bool(breaks.any()):
        spec = deployed.spec[instance]
        breaks &= spec.least(spec.values(deployed.graph(points))) <= 0
    return Evaluated(points, margins, breaks, torch.isfinite(outputs).flatten(1).all(1))


def representable(points: Tensor, box: Box, dtype: torch.dtype = torch.float32) -> Tensor:
    """The points in that dtype, each element a step inward where the cast left the float64 box."""
    cast = points.to(dtype)
    cast = torch.where(cast.double() > box.upper, next_down(cast), cast)
    return torch.where(cast.double() < box.lower, next_up(cast), cast)
