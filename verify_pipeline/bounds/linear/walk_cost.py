"""The cost of a backward walk, counted: it is the same on a busy machine and on an idle one."""

from __future__ import annotations

from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Conv2d, Linear, MatMul, size


def walk_cost(graph: Graph, place: int) -> int:
    """Multiplications that propagate one functional of node ``place`` back to the input."""
    reached, total = {place}, 0
    for at in range(place, 0, -1):
        if at in reached:
            reached.update(graph.nodes[at].inputs)
            total += _multiplications(graph, graph.nodes[at])
    return total


def _multiplications(graph: Graph, node: Node) -> int:
    """Multiplications for one functional at an operation; at least one per element of its value."""
    elements = size(node.shape)
    match node.op:
        case Linear(weight=weight):
            return elements * weight.shape[1]
        case Conv2d(weight=weight):
            return elements * weight[0].numel()
        case MatMul():
            return elements * graph.nodes[node.inputs[0]].shape[-1]
    return elements
