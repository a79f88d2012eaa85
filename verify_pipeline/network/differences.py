"""Softmax written with the differences of its scores, for bounds.

Output i is ``1 / Σ_j exp(x_j - x_i)``: it depends on differences alone, and the bounds of a
difference, asked for as one functional, are narrower than the difference of two scores' bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, Op, Softmax, Transpose

MOST_SCORES = 5
"""The longest axis that is rewritten: K scores have ``K (K - 1) / 2`` differences, 2 K of 5."""


@dataclass(frozen=True, eq=False)
class SoftmaxOfDifferences(Op):
    """Softmax of K scores ``x`` over the last axis, given as their differences.

    The input's last axis holds ``x_j - x_i`` of all pairs ``i < j`` in the order of
    ``torch.triu_indices``, ``K (K - 1) / 2`` of them; the value's last axis is K long.

    Attributes:
        scores: K.
    """

    scores: int

    def __call__(self, *inputs: Tensor) -> Tensor:
        return self.one_against_all(inputs[0], -inputs[0]).softmax(-1).diagonal(dim1=-2, dim2=-1)

    def one_against_all(self, above: Tensor, below: Tensor) -> Tensor:
        """Rows i and columns j of ``N x *W x K x K``; 0 on the diagonal.

        Args:
            above: ``N x *W x K(K-1)/2``, what stands at ``i < j``.
            below: what stands at ``(j, i)``, likewise.
        """
        i, j = torch.triu_indices(self.scores, self.scores, 1, device=above.device)
        matrix = above.new_zeros(*above.shape[:-1], self.scores, self.scores)
        matrix[..., i, j], matrix[..., j, i] = above, below
        return matrix


def with_score_differences(graph: Graph) -> Graph:
    """A graph of the same function whose short softmaxes take differences of their scores.

    The same graph if it has none of at most :data:`MOST_SCORES` scores.
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
    """Softmax over ``axis`` of the value at ``source``, in nodes of which the last has ``name``."""
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
