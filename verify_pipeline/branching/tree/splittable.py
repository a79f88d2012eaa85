"""The operations of a graph that can be split at zero: ReLU and leaky ReLU."""

from __future__ import annotations

from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Add, Concat, Constant, LeakyRelu, LinearOp, Relu, Sub


def slope(node: Node) -> float:
    """The slope of an activation left of zero."""
    return node.op.slope if isinstance(node.op, LeakyRelu) else 0.0


def activations(graph: Graph) -> tuple[int, ...]:
    """Indices of the nodes that can be split at zero: ReLU and leaky ReLU."""
    return tuple(
        place for place, node in enumerate(graph.nodes) if isinstance(node.op, Relu | LeakyRelu)
    )


def is_splittable(graph: Graph) -> bool:
    """Whether deciding every ReLU and leaky ReLU makes the graph affine."""
    known = (LinearOp, Add, Sub, Concat, Constant, Relu, LeakyRelu)
    return all(isinstance(node.op, known) for node in graph.nodes[1:])
