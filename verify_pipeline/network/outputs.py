"""Ends of networks that do not change which output is greater: a softmax, most of all.

keras's classifiers end in one. Whether one class beats another is decided by its inputs, and bounds
of these say far more than bounds of probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Add, Elementwise, Reshape, Softmax, Sub, size

INCREASING = frozenset({"sigmoid", "tanh", "exp", "softplus", "erf", "atan"})
"""Functions that rise everywhere, strictly; in floating point they come to limits."""


@dataclass(frozen=True, eq=False)
class Beginning:
    """A network without an end that keeps the order of its outputs.

    In exact numbers: where the end comes to its limits in floating point, outputs may tie.

    Attributes:
        graph: ``N x *X`` to ``N x K``.
        name: of the node whose value it ends in.
        saturates: whether functions of single outputs are left out, of which two may come to the
            same limit; of a softmax alone the greatest output stays apart from the others.
    """

    graph: Graph
    name: str
    saturates: bool


def beginning(graph: Graph) -> Beginning | None:
    """A network of which output a is greater than output b wherever it is so of ``graph``.

    For comparisons of outputs with each other only: values and differences are others.

    Args:
        graph: ``N x *X`` to ``N x K``.

    Returns:
        What stands before its end; None where that is needed.
    """
    place, found, saturates = len(graph.nodes) - 1, 0, False
    while place:
        before = _same_order(graph, place)
        if not before:
            break
        op = graph.nodes[place].op
        saturates |= isinstance(op, Elementwise)
        if not isinstance(op, Reshape):
            found = before
        place = before
    if not found:
        return None
    return Beginning(_ending_in(graph, found), graph.nodes[found].name, saturates)


def without_order_keeping_end(graph: Graph) -> Graph:
    """The graph of its :func:`beginning`; ``graph`` itself where its end is needed."""
    begun = beginning(graph)
    return graph if begun is None else begun.graph


def _same_order(graph: Graph, place: int) -> int:
    """The place of a value of K elements in the same order as those at ``place``; 0 for none."""
    node, count = graph.nodes[place], graph.outputs
    shapes = [graph.nodes[i].shape for i in node.inputs]
    match node.op:
        case Reshape():
            return node.inputs[0]
        case Softmax(axis=axis):
            return node.inputs[0] if node.shape[axis] == count else 0
        case Elementwise(function=function):
            return node.inputs[0] if function in INCREASING else 0
        case Add() | Sub() if size(shapes[1]) == 1 and size(shapes[0]) == count:
            return node.inputs[0]  # all outputs are shifted by the same
        case Add() if size(shapes[0]) == 1 and size(shapes[1]) == count:
            return node.inputs[1]
    return 0


def _ending_in(graph: Graph, place: int) -> Graph:
    """The network that ends in the value at ``place``, flattened."""
    used = {0, place}
    for later in range(place, 0, -1):
        if later in used:
            used.update(graph.nodes[later].inputs)
    order = sorted(used)
    new = {old: i for i, old in enumerate(order)}
    kept = [graph.nodes[old] for old in order]
    nodes = [Node(n.name, n.op, tuple(new[i] for i in n.inputs), n.shape) for n in kept]
    shape = (graph.outputs,)
    if nodes[-1].shape != shape:
        flat = Reshape(shape)
        nodes.append(Node(f"{nodes[-1].name}/flat", flat, (len(nodes) - 1,), shape))
    return Graph(tuple(nodes))
