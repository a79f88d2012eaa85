"""Weighted means: products of matrices whose left factor is a softmax, as in attention."""

from __future__ import annotations

from verify_pipeline.network.differences import SoftmaxOfDifferences
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import MatMul, Softmax


def mean_of(graph: Graph, place: int) -> tuple[int, int] | None:
    """The weights' and the values' node, if a node is ``softmax(x) @ v`` along softmax's axis.

    Args:
        graph: the network.
        place: index of the node.
    """
    node = graph.nodes[place]
    if not isinstance(node.op, MatMul):
        return None
    weights, values = node.inputs
    before = graph.nodes[weights]
    last = len(before.shape) - 1
    along = isinstance(before.op, Softmax) and before.op.axis == last
    return (weights, values) if along or isinstance(before.op, SoftmaxOfDifferences) else None
