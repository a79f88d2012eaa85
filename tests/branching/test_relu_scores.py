"""Scores of ReLUs against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.evaluate.relu_scores import scores
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Add, LeakyRelu, Linear, Op, Relu, Scale


def score_of(activation: Op, lower: float, upper: float, arriving: float) -> tuple[float, float]:
    """Of one neuron with the constant 0.5 under it."""
    builder = GraphBuilder((1,))
    builder.add(activation, builder.add(Linear(torch.ones(1, 1), torch.tensor([0.5])), 0))
    graph = builder.build()
    bounds = NodeBounds({1: torch.tensor([[lower]])}, {1: torch.tensor([[upper]])})
    arrives = {2: torch.tensor([[arriving]])}
    babsr, intercept = scores(graph, Neurons.of(graph), bounds, arrives)
    return babsr.item(), intercept.item()


def test_a_relu_that_lowers_the_bound() -> None:
    # Upper line 0.75 z + 0.75; relaxed: -(0.75 * 0.5) - 0.75 = -1.125; active: -0.5; inactive: 0.
    babsr, intercept = score_of(Relu(), -1.0, 3.0, -1.0)
    assert babsr == pytest.approx(-0.5 + 1.125)
    assert intercept == pytest.approx(0.75)


def test_a_relu_that_raises_the_bound_has_no_intercept() -> None:
    # Relaxed: 2 * 0.75 * 0.5 = 0.75; the worse child adds 0.
    babsr, intercept = score_of(Relu(), -1.0, 3.0, 2.0)
    assert babsr == pytest.approx(0.75)
    assert intercept == 0


def test_a_leaky_relu_loses_less() -> None:
    # Slope 0.5: chord (3 + 0.5) / 4 = 0.875, offset (0.5 - 0.875) * -1 = 0.375.
    babsr, intercept = score_of(LeakyRelu(0.5), -1.0, 3.0, -1.0)
    assert intercept == pytest.approx(0.375)
    assert babsr == pytest.approx(min(-0.5, -0.25) + 0.875 * 0.5 + 0.375)


@pytest.mark.parametrize(("lower", "upper"), [(0.0, 3.0), (0.5, 3.0), (-2.0, 0.0), (-2.0, -1.0)])
def test_a_stable_neuron_has_nothing_to_gain(lower: float, upper: float) -> None:
    assert score_of(Relu(), lower, upper, -1.0) == (0.0, 0.0)


def test_constants_pass_affine_operations_and_stop_at_activations() -> None:
    builder = GraphBuilder((1,))
    first = builder.add(Linear(torch.ones(1, 1), torch.tensor([5.0])), 0)
    active = builder.add(Relu(), first)
    second = builder.add(Linear(torch.ones(1, 1), torch.tensor([0.25])), active)
    scaled = builder.add(Scale(torch.tensor([2.0]), torch.tensor([1.0])), second)
    builder.add(Relu(), builder.add(Add(), scaled, scaled))  # 2 * (2 * 0.25 + 1) = 3
    graph = builder.build()
    bounds = NodeBounds(
        {1: torch.tensor([[1.0]]), 5: torch.tensor([[-1.0]])},
        {1: torch.tensor([[2.0]]), 5: torch.tensor([[1.0]])},
    )
    arriving = {2: torch.tensor([[1.0]]), 6: torch.tensor([[1.0]])}
    babsr, _ = scores(graph, Neurons.of(graph), bounds, arriving)
    assert babsr.tolist() == [[0.0, pytest.approx(0.5 * 3.0)]]


def test_what_a_bound_does_not_depend_on_has_nothing_to_gain() -> None:
    builder = GraphBuilder((1,))
    first = builder.add(Relu(), builder.add(Linear(torch.ones(2, 1)), 0))
    builder.add(Relu(), builder.add(Linear(torch.ones(1, 2)), first))
    graph = builder.build()
    bounds = NodeBounds(
        {1: -torch.ones(1, 2), 3: -torch.ones(1, 1)}, {1: torch.ones(1, 2), 3: torch.ones(1, 1)}
    )
    babsr, intercept = scores(graph, Neurons.of(graph), bounds, {4: torch.tensor([[-1.0]])})
    assert babsr.tolist() == [[0.0, 0.0, pytest.approx(0.5)]]
    assert intercept.tolist() == [[0.0, 0.0, pytest.approx(0.5)]]
