"""Candidate counterexamples: points inside their boxes that the file's input type can represent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.problem import Box
from verify_pipeline.rounding import nearest_within


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Points after evaluation.

    Attributes:
        points: ``D x *X``, in the file's input type; in their boxes where ``breaks`` is true.
        margins: ``D`` float64, the margin that decides the specification.
        breaks: ``D`` booleans: the margin is at most zero in float64 and in the input type.
        defined: ``D`` booleans: all outputs are finite in float64.
    """

    points: Tensor
    margins: Tensor
    breaks: Tensor
    defined: Tensor

    def worst(self, instance: Tensor) -> dict[int, Tensor]:
        """The worst point that breaks the specification of each instance, by instance."""
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
        exact: the same instances in float64.
        instance: ``D``, the instance of each point.
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
    """The points in that dtype; an element that the cast moved out of the box is moved back in.

    Numbers narrower than float32 are float32 numbers, too, and are given as such.
    """
    return nearest_within(points, box.lower, box.upper, dtype)
