"""Shallow walks: bounds of neurons from bounds of a layer shortly before them.

If all paths to a neuron lead through one value, bounds of that value are a box from which the
neuron can be bounded, as from the input's. The backward walk to it costs a part of the whole walk.
Its bounds are looser, but most neurons need no more than a sign. (GPUPoly stops walks early for the
same reason: Müller et al. 2021, arXiv:2007.10868.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds.intermediate.receptive_field import receptive_field
from verify_pipeline.bounds.linear.walk_cost import walk_cost
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph, is_affine
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Constant, Input, Relu
from verify_pipeline.problem import Box

# A shallow walk of more than this share of the whole walk's cost is not worth its repetition.
_WORTHWHILE = 0.6

# Shallow walks are tried on one in so many neurons before the others are asked.
_ONE_IN = 16


@dataclass(frozen=True, eq=False)
class Tail:
    """The part of a network between a ReLU and a later node that depends on it alone.

    Attributes:
        graph: its input is the ReLU's value, its last node the later node.
        cut: index of the ReLU in the whole network.
        share: cost of a walk through the tail, as a share of the whole walk's.
        places: index of each node behind the ReLU in the whole network -> its index in ``graph``.
    """

    graph: Graph
    cut: int
    share: float
    places: Mapping[int, int]

    def of(
        self, linear: LinearGraph, lower: Mapping[int, Tensor], upper: Mapping[int, Tensor]
    ) -> tuple[LinearGraph, Box]:
        """The relaxed tail, and the box of the ReLU's values.

        Args:
            linear: the relaxed network.
            lower: by index in the whole network.
            upper: likewise.
        """
        relaxations = {
            self.places[place]: relaxation
            for place, relaxation in linear.relaxations.items()
            if place in self.places
        }
        return LinearGraph(self.graph, relaxations), Box(lower[self.cut], upper[self.cut])

    def pays(self, asked: int, stable: int) -> bool:
        """Whether shallow walks save more than they cost, after a sample of them.

        Args:
            asked: neurons of the sample.
            stable: those of them whose sign a shallow walk has shown.
        """
        return stable > self.share * asked


def shallow_tail(graph: Graph, place: int) -> Tail | None:
    """The shortest tail that ends with ``place`` and holds a nonlinear node.

    Returns:
        None if there is none, or if a walk through it costs nearly as much as the whole walk.
    """
    for cut in range(place - 1, 0, -1):
        if not isinstance(graph.nodes[cut].op, Relu):
            continue
        nodes = _nodes_between(graph, cut, place)
        if nodes is None or all(is_affine(graph.nodes[i].op) for i in nodes):
            continue
        tail = _tail(graph, cut, nodes)
        share = _cost(tail, len(tail.nodes) - 1) / _cost(graph, place)
        places = {old: new for new, old in enumerate(nodes, 1)}
        return Tail(tail, cut, share, places) if share <= _WORTHWHILE else None
    return None


def sample_of(mask: Tensor) -> Tensor:
    """Every sixteenth of the neurons that a mask ``N x *V`` selects, the first one among them."""
    chosen = mask.flatten().nonzero().flatten()[::_ONE_IN]
    sample = torch.zeros_like(mask)
    sample.view(-1)[chosen] = True
    return sample


def _nodes_between(graph: Graph, cut: int, place: int) -> list[int] | None:
    """The nodes behind ``cut`` that ``place`` depends on, itself included, in order.

    None if it depends on others that are not constant.
    """
    needed = {place}
    for current in range(place, cut, -1):
        if current not in needed or isinstance(graph.nodes[current].op, Constant):
            continue
        if min(graph.nodes[current].inputs) < cut:
            return None
        needed |= set(graph.nodes[current].inputs)
    return sorted(needed - {cut})


def _tail(graph: Graph, cut: int, nodes: list[int]) -> Graph:
    """These nodes as a network whose input is the value of ``cut``."""
    local = {old: new for new, old in enumerate(nodes, 1)}
    first = graph.nodes[cut]
    kept = [Node(first.name, Input(), (), first.shape)]
    for node in (graph.nodes[old] for old in nodes):
        # what is not behind the cut is read by constants, which take no value from it
        kept.append(replace(node, inputs=tuple(local.get(i, 0) for i in node.inputs)))
    return Graph(tuple(kept))


def _cost(graph: Graph, place: int) -> int:
    """The cost of a walk back from one neuron, through its receptive field if that is small."""
    field = receptive_field(graph, place)
    if field is None:
        return walk_cost(graph, place)
    return walk_cost(field.graph, len(field.graph.nodes) - 1)
