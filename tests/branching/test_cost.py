"""Counted work: multiplications by hand."""

from __future__ import annotations

import torch

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.limits.cost import (
    SPEED,
    crown_cost,
    neurons_cost,
    seconds_of,
    walk_cost,
)
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, Conv2d, Elementwise, Linear, Relu, Reshape


def network() -> Graph:
    """Nodes: 1 convolution, 2 ReLU, 3 their sum, 4 flat, 5 linear, 6 tanh, 7 linear."""
    builder = GraphBuilder((1, 3, 3))
    conv = builder.add(Conv2d(torch.ones(2, 1, 2, 2)), 0)
    joined = builder.add(Add(), conv, builder.add(Relu(), conv))
    hidden = builder.add(Linear(torch.ones(3, 8)), builder.add(Reshape((8,)), joined))
    builder.add(Linear(torch.ones(2, 3)), builder.add(Elementwise("tanh"), hidden))
    return builder.build()


def test_a_walk_passes_every_operation_before_a_node_once() -> None:
    graph = network()
    conv = 2 * 2 * 2 * 4
    assert walk_cost(graph, 1) == conv
    assert walk_cost(graph, 2) == conv + 8
    assert walk_cost(graph, 5) == 3 * 8 + 8 + 8 + 8 + conv
    assert walk_cost(graph, 7) == 2 * 3 + 3 + walk_cost(graph, 5)


def two_layers() -> Graph:
    """Nodes: 1 linear, 2 ReLU, 3 linear, 4 ReLU, 5 linear, 6 tanh, 7 linear."""
    builder, place = GraphBuilder((2,)), 0
    for width, inputs, op in ((4, 2, Relu()), (3, 4, Relu()), (3, 3, Elementwise("tanh"))):
        place = builder.add(op, builder.add(Linear(torch.ones(width, inputs)), place))
    builder.add(Linear(torch.ones(2, 3)), place)
    return builder.build()


def test_neurons_cost_both_their_bounds_where_they_matter() -> None:
    """Intervals bound the first layer exactly; a stable ReLU and a point need no better bounds."""
    lower = {1: -torch.ones(2, 4), 3: -torch.ones(2, 3), 5: -torch.ones(2, 3)}
    upper = {place: -value for place, value in lower.items()}
    lower[3][1] = 0.5
    upper[5][1, 0] = -1.0
    graph = two_layers()
    both = 2 * 3 * walk_cost(graph, 3) + 2 * 3 * walk_cost(graph, 5)
    found = crown_cost(graph, NodeBounds(lower, upper))
    assert found.tolist() == [both, 2 * 2 * walk_cost(graph, 5)]


def test_neurons_that_may_matter_cost_a_walk_through_the_network() -> None:
    graph = two_layers()
    assert neurons_cost(graph) == 3 * walk_cost(graph, 3) + 3 * walk_cost(graph, 5)


def test_a_neuron_of_a_large_plane_costs_a_walk_through_its_receptive_field() -> None:
    """The second convolution sees 3 x 3 pixels of the first ReLU, which see 5 x 5 of the input."""
    builder = GraphBuilder((1, 20, 20))
    kernel = torch.ones(1, 1, 3, 3)
    first = builder.add(Relu(), builder.add(Conv2d(kernel, None, (1, 1), (1, 1)), 0))
    second = builder.add(Relu(), builder.add(Conv2d(kernel, None, (1, 1), (1, 1)), first))
    builder.add(Linear(torch.ones(2, 400)), builder.add(Reshape((400,)), second))
    one = 9 + 9 + 9 * 9
    assert neurons_cost(builder.build()) == 400 * one


def test_seconds_are_of_a_nominal_speed() -> None:
    assert seconds_of(SPEED["cpu"] * 3, torch.device("cpu")) == 3.0
