"""The relaxation gap of each neuron, which shows where splitting an interval helps most."""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.bounds.linear.backward import lower_bounds, of_margins
from verify_pipeline.bounds.linear.crown import of_defined
from verify_pipeline.bounds.linear.multipliers import FixedMultipliers, fixed_multipliers
from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.bounds.relaxations.relaxed_graph import linearise
from verify_pipeline.bounds.relaxations.smooth import has_curve
from verify_pipeline.bounds.types import MarginBounds, Multipliers, NodeBounds
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast
from verify_pipeline.network.ops import Elementwise, LeakyRelu, Op, Relu
from verify_pipeline.problem import Box, Specification

_AT = (0.25, 0.5, 0.75)
"""The points of an interval, as shares of its width, where a function is compared with its line."""


def is_curved(op: Op) -> bool:
    """Whether the operation has one variable and a relaxation that a narrower interval improves."""
    return isinstance(op, Relu | LeakyRelu | AtLeast) or (
        isinstance(op, Elementwise) and has_curve(op.function)
    )


@full_precision()
@torch.no_grad()
def margins_and_gaps(
    graph: Graph,
    box: Box,
    spec: Specification,
    bounds: NodeBounds,
    multipliers: Multipliers | None = None,
) -> tuple[MarginBounds, dict[int, Tensor]]:
    """CROWN bounds of the margins, and the relaxation gaps of each instance's worst row.

    The bound loses the coefficient at a function's value times the distance between the function
    and its line. The gap of a neuron is the sum of this loss over three points of its interval.

    Args:
        graph: the network.
        box: ``N`` boxes.
        spec: ``N`` specifications of ``S`` rows.
        bounds: bounds of the nodes of ``needed_places`` at least.
        multipliers: α, such as positions of tangents; None: the default lines.

    Returns:
        The margins' bounds, and a dictionary: index of a function's node -> gaps, ``N x *V``. Up to
        rounding, a gap is >= 0. A gap that is not finite is set to 0.
    """
    linear = linearise(graph, box, bounds)
    arriving: dict[int, Tensor] = {}

    def visit(place: int, coefficients: Tensor) -> None:
        if is_curved(graph.nodes[place].op):
            arriving[place] = coefficients

    choices = fixed_multipliers(multipliers, None)
    margins = lower_bounds(linear, box, of_margins(graph, spec), choices, visit)
    margins = of_defined(margins, bounds)
    instance = torch.arange(len(bounds), device=margins.lower.device)
    worst = margins.lower.argmin(1)
    slack = {}
    for place, coefficients in arriving.items():
        node, relaxation = graph.nodes[place], linear.relaxations[place]
        row = coefficients[instance, worst].unsqueeze(1)
        choice = None
        if multipliers is not None and place in multipliers.alpha:
            positions = multipliers.alpha[place]
            row_of = worst.clamp(max=positions.shape[1] - 1)
            choice = FixedMultipliers(positions[instance, row_of].unsqueeze(1), None)
        ends = bounds.lower[node.inputs[0]], bounds.upper[node.inputs[0]]
        lost = torch.zeros_like(row)
        for share in _AT:
            z = torch.lerp(*ends, share).unsqueeze(1)
            lost += row * (node.op(z) - relaxation.follow(row, choice, [z]))
        slack[place] = lost.squeeze(1).nan_to_num(0.0, 0.0, 0.0)
    return margins, slack
