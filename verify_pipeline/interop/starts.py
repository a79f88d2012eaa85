"""Where attacks on boxes with few inputs start: the best of many random points.

On such networks gradients are often misleading, and random points are cheap: of 24 acasxu
properties that have counterexamples, 1000 random points alone broke 21, gradient descent from the
middle of the box 15.
"""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.attacks.falsify import FalsifySettings, least_margins
from verify_pipeline.certify.boxes import inner_box
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import size
from verify_pipeline.problem import Box, Specification
from verify_pipeline.rounding import searched


def starting_points(
    graph: Graph,
    box: Box,
    spec: Specification,
    settings: FalsifySettings,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The middle of each box or, if it has few inputs, the random point of the least margin.

    Args:
        graph: of :func:`searched`'s dtype.
        box: float64, ``N``.
        spec: float64, ``N``.
        settings: how many points are drawn, and up to how many inputs.
        dtype: of the points.

    Returns:
        ``N x *X``, inside the boxes where these hold a point of that dtype at all.
    """
    inner = inner_box(box, dtype)
    middle = inner.center
    if size(graph.input_shape) > settings.samples_up_to:
        return middle
    generator = torch.Generator().manual_seed(0)
    shares = torch.rand(settings.samples, *graph.input_shape, generator=generator)
    shares = shares.to(inner.lower)
    best = []
    for n in range(len(box)):
        lower, upper = inner.lower[n], inner.upper[n]
        points = (lower + shares * (upper - lower)).clamp(lower, upper)
        points[0] = middle[n]
        here = spec[n : n + 1].to(searched(dtype))
        rows = here.rows.expand(settings.samples, -1, -1)
        offsets = here.offsets.expand(settings.samples, -1)
        repeated = Specification(rows, offsets, here.spare)
        best.append(points[least_margins(graph, repeated, points).argmin()])
    return torch.stack(best)
