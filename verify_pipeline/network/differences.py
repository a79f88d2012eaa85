"""Softmax as a function of the differences of its scores, which gives tighter bounds.

Output i is ``1 / Σ_j exp(x_j - x_i)``, so it depends only on differences. A difference that is
bounded as one functional has tighter bounds than the difference of two bounded scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, Op, Softmax, Transpose

MOST_SCORES = 5
"""The greatest number of scores for which softmax is rewritten.

K scores have ``K (K - 1) / 2`` differences, which is 2 K for K = 5.
"""


@dataclass(frozen=True, eq=False)
class SoftmaxOfDifferences(Op):
    """Softmax over the last axis of K scores ``x``, which are given by their differences.

    The last axis of the input holds the ``K (K - 1) / 2`` differences ``x_j - x_i`` of all pairs
    ``i < j``, in the order of ``torch.triu_indices``. The last axis of the value has length K.

    Attributes:
        scores: K.
    """

    scores: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.one_against_all(inputs[0], -inputs[0]).softmax(-1).diagonal(dim1=-2, dim2=-1)

    def one_against_all(self, above: Tensor, below: Tensor) -> Tensor:
        """Arrange values of pairs as matrices ``N x *W x K x K`` with 0 on the diagonal.

        Args:
            above: entries (row i, column j) of the pairs ``i < j``, ``N x *W x K(K-1)/2``.
            below: entries (row j, column i) of the same pairs, likewise.
        """
        i, j = torch.triu_indices(self.scores, self.scores, 1, device=above.device)
        matrix = above.new_zeros(*above.shape[:-1], self.scores, self.scores)
        matrix[..., i, j], matrix[..., j, i] = above, below
        return matrix


def with_score_differences(graph: Graph) -> Graph:
    """Rewrite each softmax of at most :data:`MOST_SCORES` scores as a function of differences.

    Returns:
        A graph of the same function; ``graph`` itself if it has no such softmax.
    """
    if not any(_is_short(graph, place) for place in range(len(graph.nodes))):
        return graph
    builder = GraphBuilder(graph.input_shape, graph.nodes[0].name, graph.dtype)
    new_place = [0]
    for place, node in enumerate(graph.nodes[1:], 1):
        inputs = tuple(new_place[i] for i in node.inputs)
        if isinstance(node.op, Softmax) and _is_short(graph, place):
            new_place.append(_softmax(builder, node.op.axis, inputs[0], node.name))
        else:
            new_place.append(builder.add(node.op, *inputs, name=node.name))
    return builder.build(new_place[-1])


def _is_short(graph: Graph, place: int) -> bool:
    node = graph.nodes[place]
    return isinstance(node.op, Softmax) and 2 <= node.shape[node.op.axis] <= MOST_SCORES


def _softmax(builder: GraphBuilder, axis: int, source: int, name: str) -> int:
    """Add a softmax over ``axis`` of node ``source``; its last node is called ``name``.

    Returns:
        The index of the last node.
    """
    order = list(range(len(builder.shape(source))))
    order[axis], order[-1] = order[-1], order[axis]
    swap = Transpose(tuple(order))
    last = axis == len(order) - 1
    if not last:
        source = builder.add(swap, source, name=f"{name}/scores")
    scores = builder.shape(source)[-1]
    one = torch.eye(scores, dtype=builder.dtype)
    first, second = torch.triu_indices(scores, scores, 1)
    gaps = builder.add(Linear(one[second] - one[first]), source, name=f"{name}/differences")
    softmax = SoftmaxOfDifferences(scores)
    if last:
        return builder.add(softmax, gaps, name=name)
    shares = builder.add(softmax, gaps, name=f"{name}/shares")
    return builder.add(swap, shares, name=name)
