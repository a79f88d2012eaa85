"""Counted work: multiplications by hand."""

from __future__ import annotations

import torch

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.limits.cost import SPEED, crown_cost, seconds_of, walk_cost
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, Conv2d, Elementwise, Linear, Relu, Reshape


def network() -> Graph:
    """Nodes: 1 convolution, 2 ReLU, 3 their sum, 4 flat, 5 linear, 6 tanh, 7 linear, 8 ReLU."""
    builder = GraphBuilder((1, 3, 3))
    conv = builder.add(Conv2d(torch.ones(2, 1, 2, 2)), 0)
    joined = builder.add(Add(), conv, builder.add(Relu(), conv))
    hidden = builder.add(Linear(torch.ones(3, 8)), builder.add(Reshape((8,)), joined))
    last = builder.add(Linear(torch.ones(2, 3)), builder.add(Elementwise("tanh"), hidden))
    builder.add(Relu(), last)
    return builder.build()


def test_a_walk_passes_every_operation_before_a_node_once() -> None:
    graph = network()
    conv = 2 * 2 * 2 * 4
    assert walk_cost(graph, 1) == conv
    assert walk_cost(graph, 2) == conv + 8
    assert walk_cost(graph, 5) == 3 * 8 + 8 + 8 + 8 + conv
    assert walk_cost(graph, 7) == 2 * 3 + 3 + walk_cost(graph, 5)


def test_neurons_cost_both_their_bounds_where_they_matter() -> None:
    """Those of the first layer cost nothing: intervals bound it exactly."""
    lower = {1: -torch.ones(2, 2, 2, 2), 5: -torch.ones(2, 3), 7: -torch.ones(2, 2)}
    upper = {1: torch.ones(2, 2, 2, 2), 5: torch.ones(2, 3), 7: torch.ones(2, 2)}
    lower[7][1, 0] = 0.5  # active: a ReLU needs no better bounds
    lower[5][1, 1] = 0.5  # tanh does
    upper[5][1, 0] = -1.0  # a point
    graph = network()
    found = crown_cost(graph, NodeBounds(lower, upper))
    before_tanh, before_relu = 2 * walk_cost(graph, 5), 2 * walk_cost(graph, 7)
    assert found.tolist() == [3 * before_tanh + 2 * before_relu, 2 * before_tanh + before_relu]


def test_seconds_are_of_a_nominal_speed() -> None:
    assert seconds_of(SPEED["cpu"] * 3, torch.device("cpu")) == 3.0
