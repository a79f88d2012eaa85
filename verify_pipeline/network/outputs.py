"""Final layers that keep the order of the outputs, such as a softmax.

Keras classifiers often end in a softmax. Its inputs already decide which class wins, and bounds of
these inputs are far more useful than bounds of probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import (
    Add,
    Constant,
    Elementwise,
    Op,
    Reshape,
    Softmax,
    Sub,
    size,
)

INCREASING = frozenset({"sigmoid", "tanh", "softplus", "erf", "atan"})
"""Functions that increase strictly and, in floating point, saturate at a limit. The exponential is
not included, because it overflows."""


@dataclass(frozen=True, eq=False)
class Beginning:
    """A network without final layers that keep the order of its outputs.

    The order is kept in exact arithmetic. In floating point, outputs may tie where these layers
    saturate.

    Attributes:
        graph: the network, ``N x *X`` to ``N x K``.
        name: name of the node that is its output.
        saturates: whether functions of single outputs are left out. Two outputs can saturate at the
            same limit, while a softmax alone keeps the greatest output apart from the others.
        only_softmax: whether nothing but a softmax is left out, and no elements are rounded.
    """

    graph: Graph
    name: str
    saturates: bool
    only_softmax: bool


def beginning(graph: Graph) -> Beginning | None:
    """The network without final layers that keep the order of its outputs.

    Output a exceeds output b exactly where it does so for ``graph``. The result is only valid for
    comparing outputs with each other, because values and differences change.

    Args:
        graph: the network, ``N x *X`` to ``N x K``.

    Returns:
        The network without these layers; None if there are none.
    """
    place, found = len(graph.nodes) - 1, 0
    left_out: list[Op] = []
    while place:
        before = _same_order(graph, place)
        if not before:
            break
        op = graph.nodes[place].op
        if not isinstance(op, Reshape):
            found = before
            left_out.append(op)
        place = before
    if not found:
        return None
    saturates = any(isinstance(op, Elementwise) for op in left_out)
    only_softmax = len(left_out) == 1 and isinstance(left_out[0], Softmax)
    return Beginning(_ending_in(graph, found), graph.nodes[found].name, saturates, only_softmax)


def without_order_keeping_end(graph: Graph) -> Graph:
    """The graph of :func:`beginning`; ``graph`` itself if nothing can be left out."""
    begun = beginning(graph)
    return graph if begun is None else begun.graph


def _same_order(graph: Graph, place: int) -> int:
    """The index of an earlier node with K elements in the same order as at ``place``; 0: none."""
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
            kept, shift = node.inputs  # all outputs are shifted by the same number
        case Add() if size(shapes[0]) == 1 and size(shapes[1]) == count:
            shift, kept = node.inputs
        case _:
            return 0
    return kept if _has_a_value(graph, shift, kept, _label(node)) else 0


def _has_a_value(graph: Graph, place: int, kept: int, label: str) -> bool:
    """Whether the value at ``place`` is defined wherever the value at ``kept`` is.

    Nodes that only ``place`` depends on could be undefined or overflow, and then must not be left
    out. Nodes with the same label stem from one operation of the file, such as a log-softmax, which
    is defined for all scores.
    """
    alone = _ancestors(graph, place) - _ancestors(graph, kept)
    nodes = [graph.nodes[at] for at in alone]
    return all(_label(node) == label or isinstance(node.op, Constant) for node in nodes)


def _ancestors(graph: Graph, place: int) -> set[int]:
    """The indices of the node, of the input, and of all nodes on which the node depends."""
    found = {0, place}
    for at in range(place, 0, -1):
        if at in found:
            found.update(graph.nodes[at].inputs)
    return found


def _label(node: Node) -> str:
    """The name of the value in the file for which the node was made."""
    return node.name.partition("#")[0]


def _ending_in(graph: Graph, place: int) -> Graph:
    """The network whose output is the flattened value of node ``place``."""
    order = sorted(_ancestors(graph, place))
    new = {old: i for i, old in enumerate(order)}
    kept = [graph.nodes[old] for old in order]
    nodes = [Node(n.name, n.op, tuple(new[i] for i in n.inputs), n.shape) for n in kept]
    shape = (graph.outputs,)
    if nodes[-1].shape != shape:
        flat = Reshape(shape)
        nodes.append(Node(f"{nodes[-1].name}/flat", flat, (len(nodes) - 1,), shape))
    return Graph(tuple(nodes))
