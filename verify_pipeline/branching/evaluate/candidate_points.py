"""Candidate counterexamples: points that float32 can hold, inside their boxes, evaluated twice."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.problem import Box
from verify_pipeline.rounding import next_down, next_up


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Points after both evaluations.

    Attributes:
        points: ``D x *X`` float32, in their boxes where ``breaks`` says so.
        margins: ``D``, the least row in float64.
        breaks: ``D`` booleans: a row is not above zero in float32 and in float64.
    """

    points: Tensor
    margins: Tensor
    breaks: Tensor


@torch.no_grad()
def evaluate(
    fast: SearchInstances, exact: SearchInstances, instance: Tensor, points: Tensor
) -> Evaluated:
    """Evaluate points of some instances' boxes against all rows of their specifications.

    Args:
        fast: N instances in float32.
        exact: the same in float64.
        instance: ``D``, whose box each point is of.
        points: ``D x *X``.
    """
    box = exact.box[instance]
    points = representable(points, box)
    least32 = fast.spec[instance].values(fast.graph(points)).amin(1)
    least64 = exact.spec[instance].values(exact.graph(points.double())).amin(1)
    breaks = (least32 <= 0) & (least64 <= 0) & box.contains(points.double())
    return Evaluated(points, least64, breaks)


def representable(points: Tensor, box: Box, dtype: torch.dtype = torch.float32) -> Tensor:
    """The points in that dtype, each element a step inward where the cast left the float64 box."""
    cast = points.to(dtype)
    cast = torch.where(cast.double() > box.upper, next_down(cast), cast)
    return torch.where(cast.double() < box.lower, next_up(cast), cast)
