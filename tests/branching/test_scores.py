"""Branching scores against values worked out by hand."""

from __future__ import annotations

import pytest
import torch

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.evaluate.relu_scores import (
    Scores,
    best_babsr,
    best_candidate,
    best_of_layers,
    best_overall,
    lifts_both,
    scores,
)
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Add, LeakyRelu, Linear, Op, Relu, Scale


def score_of(activation: Op, lower: float, upper: float, arriving: float) -> tuple[float, float]:
    """Of one neuron with the constant 0.5 under it."""
    builder = GraphBuilder((1,))
    builder.add(activation, builder.add(Linear(torch.ones(1, 1), torch.tensor([0.5])), 0))
    graph = builder.build()
    bounds = NodeBounds({1: torch.tensor([[lower]])}, {1: torch.tensor([[upper]])})
    found = scores(graph, Neurons.of(graph), bounds, {2: torch.tensor([[arriving]])})
    return found.babsr.item(), found.intercept.item()


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
    found = scores(graph, Neurons.of(graph), bounds, arriving)
    assert found.babsr.tolist() == [[0.0, pytest.approx(0.5 * 3.0)]]


SCORE = Scores(torch.tensor([[5.0, 4.0, 3.0, 9.0]]), torch.tensor([[0.0, 1.0, 2.0, 9.0]]))
ALLOWED = torch.tensor([[True, True, True, False]])
LAYER = torch.tensor([[0, 0, 1, 1]])


def test_what_is_not_allowed_is_not_chosen() -> None:
    assert best_babsr(SCORE, ALLOWED, LAYER, 3).tolist() == [[0]]
    assert best_overall(SCORE, ALLOWED, LAYER, 2).tolist() == [[0, 1, 2, 1]]
    assert best_of_layers(SCORE, ALLOWED, LAYER, 1).tolist() == [[0, 2, 1, 2]]


def test_too_few_candidates_are_repeated() -> None:
    one = torch.tensor([[False, True, False, False]])
    assert best_overall(SCORE, one, LAYER, 3).tolist() == [[1] * 6]
    assert best_of_layers(SCORE, one, LAYER, 1).tolist() == [[1, 1, 1, 1]]


def test_what_both_children_gain_decides() -> None:
    columns = torch.tensor([[7, 4, 9]])
    before = torch.tensor([-4.0])
    even, uneven, closing = [-2.0, -2.0], [-3.9, 0.0], [-2.8, 5.0]  # 1/4, 1/40, 3/10 of 1
    assert best_candidate(torch.tensor([[even, uneven, closing]]), columns, before).tolist() == [9]
    assert best_candidate(torch.tensor([[even, uneven, uneven]]), columns, before).tolist() == [7]
    # what a child is above zero does not count, and where one gains nothing the other decides
    higher, idle, worse = [-2.0, 9.0], [-4.0, -1.0], [-5.0, -2.0]
    assert best_candidate(torch.tensor([[idle, worse, higher]]), columns, before).tolist() == [9]
    assert best_candidate(torch.tensor([[worse, idle, worse]]), columns, before).tolist() == [4]


def test_bounds_that_are_infinite_are_no_gain() -> None:
    lower = torch.tensor([[[-torch.inf, -1.0], [-3.0, -3.0]]] * 2)
    before = torch.tensor([-4.0, -torch.inf])
    columns = torch.tensor([[7, 4], [7, 4]])
    assert best_candidate(lower, columns, before)[0] == 4


def test_both_children_are_lifted_by_a_thousandth_of_what_is_lacking_or_more() -> None:
    before = torch.tensor([-4.0, -4.0, -4.0, -4.0])
    lower = torch.tensor(
        [
            [[-3.99, -3.99], [0.0, -4.0]],  # 1/400 each
            [[-3.999, -3.0], [0.0, -4.0]],  # 1/4000, and nothing
            [[-4.0, 2.0], [-torch.inf, -1.0]],
            [[torch.nan, -1.0], [torch.nan, torch.nan]],
        ]
    )
    assert lifts_both(lower, before).tolist() == [True, False, False, False]
