"""What bounds cost, counted in multiplications: the same on a busy machine and on an idle one."""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.bounds.relaxations.relaxed_graph import is_affine
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Conv2d, LeakyRelu, Linear, MatMul, Relu, size

SPEED = {"cpu": 4e9, "cuda": 4e11}
"""Multiplications a second in walks back through networks, by device. One processor core was
measured at 4e9 (convolutions) to 1.3e10 (linear layers)."""


def walk_cost(graph: Graph, place: int) -> int:
    """Multiplications of walking one functional of the node at ``place`` back to the input."""
    reached, total = {place}, 0
    for at in range(place, 0, -1):
        if at in reached:
            reached.update(graph.nodes[at].inputs)
            total += _multiplications(graph, graph.nodes[at])
    return total


def _multiplications(graph: Graph, node: Node) -> int:
    """Of one functional that passes an operation; at least one for each element of its value."""
    elements = size(node.shape)
    match node.op:
        case Linear(weight=weight):
            return elements * weight.shape[1]
        case Conv2d(weight=weight):
            return elements * weight[0].numel()
        case MatMul():
            return elements * graph.nodes[node.inputs[0]].shape[-1]
    return elements


def crown_cost(graph: Graph, bounds: NodeBounds) -> Tensor:
    """Multiplications of CROWN bounds of all neurons that matter, ``N``.

    Both bounds of each input of a nonlinear operation; of a ReLU's, where it may be of either sign.

    Args:
        graph: the network.
        bounds: of the inputs of nonlinear operations, ``N`` instances.
    """
    total = torch.zeros(len(bounds), dtype=torch.float64)
    for place, only_signs in _asked(graph).items():
        if place in bounds.lower:
            lower, upper = bounds.lower[place], bounds.upper[place]
            matters = (lower < 0) & (upper > 0) if only_signs else lower < upper
            count = matters.flatten(1).sum(1).double().cpu()
            total += 2 * count * walk_cost(graph, place)
    return total


def _asked(graph: Graph) -> dict[int, bool]:
    """Inputs of nonlinear operations, but for the network's: whether only ReLUs read them."""
    asked: dict[int, bool] = {}
    for node in graph.nodes[1:]:
        if not is_affine(node.op):
            only_signs = isinstance(node.op, Relu | LeakyRelu)
            for i in node.inputs:
                if i:
                    asked[i] = asked.get(i, True) and only_signs
    return asked


def seconds_of(multiplications: float, device: torch.device) -> float:
    """About how long so many take, if nothing else runs."""
    return multiplications / SPEED.get(device.type, SPEED["cpu"])
