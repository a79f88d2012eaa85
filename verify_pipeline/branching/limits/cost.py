"""The cost of bounds, counted: it is the same on a busy machine and on an idle one.

Backward passes are counted in multiplications; a device's speed converts these to seconds.
Inside a search, work is counted in domains: bounding one domain counts 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.bounds.intermediate.needed_neurons import are_loose, needed_neurons
from verify_pipeline.bounds.intermediate.receptive_field import receptive_field
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Conv2d, Linear, MatMul, size

SPEED = {"cpu": 4e9, "cuda": 4e11}
"""Multiplications per second of backward passes, by device. One processor core was measured at 4e9
(convolutions) to 1.3e10 (linear layers)."""


OF_A_DOMAIN = 0.1
"""The cost of an ascent step for one neuron's bound, relative to a step for one domain's bound:
0.04 to 0.13 were measured on fully connected networks, small convolutional ones and ResNets."""


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


def crown_cost(graph: Graph, bounds: NodeBounds) -> Tensor:
    """Multiplications of CROWN bounds of all neurons that matter, ``N``.

    Counted are both bounds of each input of a nonlinear operation that intervals do not bound
    exactly. Inputs of ReLUs count only if they may have either sign.

    Args:
        graph: the network.
        bounds: bounds of the inputs of nonlinear operations, for ``N`` instances.
    """
    total = torch.zeros(len(bounds), dtype=torch.float64)
    for place, only_signs in needed_neurons(graph).items():
        if place in bounds.lower:
            interval = bounds.lower[place], bounds.upper[place]
            count = are_loose(only_signs, interval).flatten(1).sum(1).double().cpu()
            total += 2 * count * walk_cost(graph, place)
    return total


def neurons_cost(graph: Graph) -> int:
    """Multiplications of a CROWN bound of every neuron that may matter, each through what it reads.

    A neuron of a convolution is walked back through its receptive field where that is small.
    """
    total = 0
    for place in needed_neurons(graph):
        field = receptive_field(graph, place)
        inner, last = (graph, place) if field is None else (field.graph, len(field.graph.nodes) - 1)
        total += size(graph.nodes[place].shape) * walk_cost(inner, last)
    return total


def in_domains(functionals: Tensor, steps: int, settings: SearchSettings) -> Tensor:
    """The cost of optimised bounds of neurons, in domains of a search.

    Args:
        functionals: how many bounds, any shape.
        steps: ascent steps for each bound.
        settings: settings of the search; they determine the cost of a domain.
    """
    return functionals * (OF_A_DOMAIN * (steps + 1) / (settings.domain.iterations + 1))


def seconds_of(multiplications: float, device: torch.device) -> float:
    """About how many seconds so many multiplications take if nothing else runs."""
    return multiplications / SPEED.get(device.type, SPEED["cpu"])
