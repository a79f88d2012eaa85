"""Which neurons inside a network need tighter bounds than intervals."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from verify_pipeline.bounds.floating_point import Interval
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.bounds.relaxations.relaxed_graph import (
    is_affine,
)
from verify_pipeline.bounds.types import NodeBounds
from verify_pipeline.network.differences import SoftmaxOfDifferences
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import (
    Gather,
    LeakyRelu,
    LinearOp,
    MatMul,
    Mul,
    Pad,
    Relu,
    Reshape,
    Scale,
    Slice,
    Softmax,
    Transpose,
    size,
)

# If the error of a product's relaxation is at most this share of the product's range, tighter
# bounds of its factors gain nothing.
_WORTH_TIGHTENING = 0.02


def nearly_linear_products(graph: Graph, start: NodeBounds) -> set[int]:
    """Indices of products that are nearly linear over the bounds of their factors.

    The relaxation error is the product of the factors' radii, a second-order term.

    Args:
        graph: the network.
        start: bounds of some nodes. Products of other nodes are left out.
    """
    found = set()
    for place, node in enumerate(graph.nodes):
        if isinstance(node.op, MatMul | Mul) and all(i in start.lower for i in node.inputs):
            intervals = [(start.lower[i], start.upper[i]) for i in node.inputs]
            error = node.op(*((upper - lower) / 2 for lower, upper in intervals))
            lower, upper = enclose(node.op, *intervals)
            radius = ((upper - lower) / 2).flatten(1).sum(1)
            if bool((error.flatten(1).sum(1) <= _WORTH_TIGHTENING * radius).all()):
                found.add(place)
    return found


def needed_neurons(graph: Graph, known_well: Collection[int] = ()) -> dict[int, bool]:
    """Nodes whose bounds determine relaxations and whose intervals are loose.

    Args:
        graph: the network.
        known_well: indices of nonlinear nodes whose relaxations need no better bounds.

    Returns:
        Index of a node -> whether only its neurons of undetermined sign matter.
    """
    exact = _exact_by_interval(graph)
    asked: dict[int, bool] = {}
    for place, node in enumerate(graph.nodes):
        if is_affine(node.op) or place in known_well:
            continue
        for i in node.inputs:
            only_signs = isinstance(node.op, (Relu, LeakyRelu))
            while isinstance(graph.nodes[i].op, (Relu, LeakyRelu)):
                # bounds of a ReLU's value follow from bounds of its input
                i = graph.nodes[i].inputs[0]
                only_signs = False
            source = graph.nodes[i].op
            shares = isinstance(source, (Softmax, SoftmaxOfDifferences))
            if i not in exact and (is_affine(source) or shares):
                asked[i] = asked.get(i, True) and only_signs
    return asked


def are_loose(only_signs: bool, interval: Interval) -> Tensor:
    """Neurons for which tighter bounds may help, ``N x *V`` booleans.

    Args:
        only_signs: True: neurons whose sign is undetermined; False: all that are not constant.
        interval: their bounds, ``N x *V`` each.
    """
    lower, upper = interval
    return (lower < 0) & (upper > 0) if only_signs else lower < upper


def _exact_by_interval(graph: Graph) -> set[int]:
    """Indices of nodes whose intervals are exact, because at most one layer before them mixes."""
    boxes, exact = {0}, {0}
    for place, node in enumerate(graph.nodes[1:], 1):
        op, source = node.op, node.inputs[0]
        if not isinstance(op, LinearOp):
            continue
        each_alone = isinstance(op, (Scale, Reshape, Transpose, Pad, Slice)) and size(
            node.shape
        ) <= size(graph.nodes[source].shape)
        if source in boxes and (each_alone or isinstance(op, Pad)):
            boxes.add(place)
        if source in boxes or (source in exact and (each_alone or isinstance(op, (Pad, Gather)))):
            exact.add(place)
    return exact
