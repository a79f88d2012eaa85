"""Where attacks on boxes with few inputs start: the best of many random points.

Gradients often lead astray on such networks, and points are cheap: of 24 acasxu
properties that have counterexamples, 1000 random points alone broke 21, gradient descent from the
middle of the box 15.
"""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.attacks.falsify import least_margins
from verify_pipeline.certify.boxes import inner_box
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import size
from verify_pipeline.problem import Box, Specification

FEW = 32
"""Inputs up to which points are drawn; boxes with more of them start from their middle."""

POINTS = 1024
"""Drawn for each box, its middle among them."""


def starting_points(
    graph: Graph, box: Box, spec: Specification, dtype: torch.dtype = torch.float32
) -> Tensor:
    """For each box its middle, or, of few inputs, the drawn point of the least margin.

    Args:
        graph: of that dtype.
        box: float64, ``N``.
        spec: float64, ``N``.
        dtype: of the points.

    Returns:
        ``N x *X``, inside the boxes where these hold a point of that dtype at all.
    """
    inner = inner_box(box, dtype)
    middle = inner.center
    if size(graph.input_shape) > FEW:
        return middle
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(POINTS, *graph.input_shape, generator=generator).to(dtype)
    best = []
    for n in range(len(box)):
        lower, upper = inner.lower[n], inner.upper[n]
        points = (lower + shares * (upper - lower)).clamp(lower, upper)
        points[0] = middle[n]
        here = spec[n : n + 1].to(dtype)
        rows, offsets = here.rows.expand(POINTS, -1, -1), here.offsets.expand(POINTS, -1)
        repeated = Specification(rows, offsets, here.spare)
        best.append(points[least_margins(graph, repeated, points).argmin()])
    return torch.stack(best)
