"""Ends of networks that do not change which output is greater: a softmax, most of all.

keras's classifiers end in one. Whether one class beats another is decided by its inputs, and bounds
of these say far more than bounds of probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import (
    Add,
    Constant,
    Elementwise,
    Reshape,
    Softmax,
    Sub,
    size,
)

INCREASING = frozenset({"sigmoid", "tanh", "softplus", "erf", "atan"})
"""Functions that rise everywhere, strictly; in floating point they come to limits. An exponential
does not: it overflows."""


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
            kept, shift = node.inputs  # all outputs are shifted by the same
        case Add() if size(shapes[0]) == 1 and size(shapes[1]) == count:
            shift, kept = node.inputs
        case _:
            return 0
    return kept if _has_a_value(graph, shift, kept, _label(node)) else 0


def _has_a_value(graph: Graph, place: int, kept: int, label: str) -> bool:
    """Whether a value is a number wherever the one at ``kept`` is.

    What is computed for it alone may be undefined, or overflow, where the rest is not: then it is
    needed. Nodes of one label are of one operation of the file, such as a log-softmax, which has a
    value for any scores.
    """
    alone = _ancestors(graph, place) - _ancestors(graph, kept)
    nodes = [graph.nodes[at] for at in alone]
    return all(_label(node) == label or isinstance(node.op, Constant) for node in nodes)


def _ancestors(graph: Graph, place: int) -> set[int]:
    """A node, the input, and all that the node is computed of."""
    found = {0, place}
    for at in range(place, 0, -1):
        if at in found:
            found.update(graph.nodes[at].inputs)
    return found


def _label(node: Node) -> str:
    """The name of the file's value that a node was made for."""
    return node.name.partition("#")[0]


def _ending_in(graph: Graph, place: int) -> Graph:
    """The network that ends in the value at ``place``, flattened."""
    order = sorted(_ancestors(graph, place))
    new = {old: i for i, old in enumerate(order)}
    kept = [graph.nodes[old] for old in order]
    nodes = [Node(n.name, n.op, tuple(new[i] for i in n.inputs), n.shape) for n in kept]
    shape = (graph.outputs,)
    if nodes[-1].shape != shape:
        flat = Reshape(shape)
        nodes.append(Node(f"{nodes[-1].name}/flat", flat, (len(nodes) - 1,), shape))
    return Graph(tuple(nodes))
