"""Bounds of tiny networks against values worked out by hand."""

from __future__ import annotations

import torch

from tests.networks_by_hand import chain, linear, two_neurons
from tests.outward import assert_just_above, assert_just_below
from verify_pipeline.bounds import (
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    Splits,
    StopRule,
    clamp_to_splits,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    interval_margins,
    optimise,
    optimise_intermediate,
    relu_coefficients,
)
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import LeakyRelu, MaxPool2d, Relu, Reshape
from verify_pipeline.problem import Box, Specification

BOX = Box(-torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64))
BUDGET = MemoryBudget(bytes=1 << 20)
TWO_NEURONS = two_neurons()
RELU = 2


def rows(*values: float) -> Specification:
    """One row ``values · f``."""
    matrix = torch.tensor([[values]], dtype=torch.float64)
    return Specification(matrix, torch.zeros(1, 1, dtype=torch.float64))


def split(first: int, second: int) -> Splits:
    return {RELU: torch.tensor([[first, second]], dtype=torch.int8)}


def crown(graph: Graph, spec: Specification, **more: object) -> float:
    bounds = interval_bounds(graph, BOX)
    return crown_margins(graph, BOX, spec, bounds, **more).lower.item()  # type: ignore[arg-type]


def test_intervals_of_two_neurons() -> None:
    bounds = interval_bounds(TWO_NEURONS, BOX)
    assert_just_below(bounds.lower[1], [[-2.0, -2.0]])
    assert_just_above(bounds.upper[RELU], [[2.0, 2.0]])
    assert_just_below(interval_margins(TWO_NEURONS, BOX, rows(1.0)), [[0.0]])
    assert_just_below(interval_margins(TWO_NEURONS, BOX, rows(-1.0)), [[-4.0]])


def test_the_upper_line_of_two_neurons() -> None:
    # y <= (z1 + z2) / 2 + 2 = x1 + 2, which is 3 at most
    found = crown_margins(TWO_NEURONS, BOX, rows(-1.0), interval_bounds(TWO_NEURONS, BOX))
    assert_just_below(found.lower, [[-3.0]])
    torch.testing.assert_close(
        found.coefficients, torch.tensor([[[-1.0, 0.0]]]).double(), rtol=0, atol=1e-14
    )
    assert_just_below(found.constants, [[-2.0]])
    assert found.corners(BOX).tolist()[0][0][0] == 1.0


def test_the_lower_line_follows_alpha() -> None:
    # at equal areas the adaptive slope is 0, so y >= 0; with α = (1, 0), y >= x1 + x2 >= -2
    assert_just_below(crown(TWO_NEURONS, rows(1.0)), 0.0)
    alpha = Multipliers({RELU: torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)}, {})
    assert_just_below(crown(TWO_NEURONS, rows(1.0), multipliers=alpha), -2.0)
    half = Multipliers({RELU: torch.full((1, 1, 2), 0.5, dtype=torch.float64)}, {})
    assert_just_below(crown(TWO_NEURONS, rows(1.0), multipliers=half), -1.0)  # y >= x1


def test_splits_make_neurons_linear() -> None:
    for sign, sides, expected in (
        (-1.0, (1, 1), -2.0),  # y = 2 x1
        (-1.0, (-1, 0), -2.0),  # y <= (x1 - x2)/2 + 1
        (-1.0, (1, 0), -3.0),  # y <= 3 x1/2 + x2/2 + 1
        (1.0, (-1, -1), 0.0),  # y = 0
        (1.0, (1, 1), -2.0),  # y = 2 x1
    ):
        found = crown(TWO_NEURONS, rows(sign), splits=split(*sides))
        assert_just_below(found, expected)


def test_beta_charges_points_that_break_the_split() -> None:
    # where z1 >= 0 and z2 <= 0, y = z1; minus β z1 is (1 - β)(x1 + x2), at least -2 |1 - β|
    for beta, expected in ((0.0, -2.0), (0.5, -1.0), (1.0, 0.0), (2.0, -2.0)):
        value = torch.tensor([[[beta, 0.0]]], dtype=torch.float64)
        multipliers = Multipliers({}, {RELU: value})
        found = crown(TWO_NEURONS, rows(1.0), multipliers=multipliers, splits=split(1, -1))
        assert_just_below(found, expected)
    # a neuron that is not split is never charged
    free = Multipliers({}, {RELU: torch.full((1, 1, 2), 3.0, dtype=torch.float64)})
    assert_just_below(crown(TWO_NEURONS, rows(1.0), multipliers=free, splits=split(0, 0)), 0.0)


def test_ascent_finds_the_beta_worked_out_above() -> None:
    bounds = interval_bounds(TWO_NEURONS, BOX)
    settings = OptimiseSettings(iterations=60, lr_beta=0.1, decay=0.95)
    found, multipliers = optimise(
        TWO_NEURONS, BOX, rows(1.0), bounds, settings, split(1, -1), until=StopRule(torch.ones(1))
    )
    assert abs(found.lower.item()) < 0.02
    assert abs(multipliers.beta[RELU][0, 0, 0].item() - 1) < 0.01


def test_ascent_stops_when_time_is_up_and_its_answer_holds() -> None:
    bounds = interval_bounds(TWO_NEURONS, BOX)
    settings = OptimiseSettings(iterations=60, lr_beta=0.1, decay=0.95)
    steps: list[int] = []

    def climbed(seconds: int) -> float:
        steps.clear()

        def has_time() -> bool:
            steps.append(len(steps))
            return len(steps) <= seconds

        until = StopRule(torch.ones(1), has_time)
        found, multipliers = optimise(
            TWO_NEURONS, BOX, rows(1.0), bounds, settings, split(1, -1), until=until
        )
        again = crown(TWO_NEURONS, rows(1.0), multipliers=multipliers, splits=split(1, -1))
        assert again == found.lower.item()
        return again

    start, middle, end = (climbed(seconds) for seconds in (0, 5, 60))
    assert start < middle < end
    climbed(5)
    assert len(steps) == 6


def test_coefficients_at_relus() -> None:
    found = relu_coefficients(TWO_NEURONS, BOX, rows(-2.0), interval_bounds(TWO_NEURONS, BOX))
    assert {place: value.tolist() for place, value in found.items()} == {RELU: [[[-2.0, -2.0]]]}


def test_leaky_relu_has_its_own_lines() -> None:
    graph = chain((1,), linear([[2]], [1]), LeakyRelu(0.5), linear([[1]]))
    box = Box(BOX.lower[:, :1], BOX.upper[:, :1])
    bounds = interval_bounds(graph, box)
    # z = 2x + 1 in [-1, 3]; chord from (-1, -1/2) to (3, 3): slope 7/8, y <= 7/8 z + 3/8
    above = crown_margins(graph, box, rows(-1.0), bounds)
    torch.testing.assert_close(-above.coefficients.item(), 7 / 4)
    torch.testing.assert_close(-above.constants.item(), 7 / 8 + 3 / 8)
    # below: slope 1 (adaptive, 3 > 1) or, with α = 0, 1/2
    assert_just_below(crown_margins(graph, box, rows(1.0), bounds).lower, [[-1.0]])
    flat = Multipliers({2: torch.zeros(1, 1, 1, dtype=torch.float64)}, {})
    assert_just_below(crown_margins(graph, box, rows(1.0), bounds, flat).lower, [[-0.5]])


def test_max_pooling_takes_the_element_that_must_win_or_a_constant() -> None:
    graph = chain((1, 1, 4), MaxPool2d((1, 2), (1, 2)), Reshape((2,)))
    lower = torch.tensor([[[[0.0, 2.0, 0.0, 1.0]]]], dtype=torch.float64)
    box = Box(lower, torch.tensor([[[[1.0, 3.0, 5.0, 2.0]]]], dtype=torch.float64))
    bounds = interval_bounds(graph, box)
    sure = crown_margins(graph, box, rows(-1.0, 0.0), bounds)
    assert sure.coefficients.flatten().tolist() == [0.0, -1.0, 0.0, 0.0]
    assert_just_below(sure.lower, [[-3.0]])
    open_below = crown_margins(graph, box, rows(0.0, 1.0), bounds)
    assert open_below.coefficients.flatten().tolist() == [0.0, 0.0, 0.0, 1.0]
    open_above = crown_margins(graph, box, rows(0.0, -1.0), bounds)
    assert open_above.coefficients.flatten().tolist() == [0.0, 0.0, 0.0, 0.0]
    assert_just_below(open_above.lower, [[-5.0]])


def three_layers() -> Graph:
    """``z = relu(x1 + x2) - relu(x1 - x2)``, ``y = relu(z)``."""
    first, second = linear([[1, 1], [1, -1]]), linear([[1, -1], [0, 1]])
    return chain((2,), first, Relu(), second, Relu(), linear([[1, 0], [0, 1]]))


def test_intermediate_bounds_of_unstable_neurons_only() -> None:
    graph = three_layers()
    start = interval_bounds(graph, BOX)
    found = crown_intermediate(graph, BOX, start, BUDGET)
    # z1: at most (x1 + x2)/2 + 1 (α = 0 below) <= 2 = the interval's; z2 is stable and left alone
    assert_just_above(found.upper[3], [[2.0, 2.0]])
    assert_just_below(found.lower[3], [[-2.0, 0.0]])
    # with α = 1/2 below: (x1 + x2)/2 + 1 - (x1 - x2)/2 = x2 + 1; no less than 2 either, but with a
    # box that keeps x1 + x2 >= 0 it is: relu(x1 + x2) is linear
    box = Box(torch.tensor([[0.5, -0.5]]).double(), torch.tensor([[1.0, 1.0]]).double())
    start = interval_bounds(graph, box)
    settings = OptimiseSettings(iterations=40, lr_alpha=0.1)
    best = optimise_intermediate(graph, box, start, settings, BUDGET)
    # z1 = x1 + x2 - relu(x1 - x2) <= x1 + x2 - α (x1 - x2): 2 at most; >= x1 + x2 - chord
    assert_just_above(best.upper[3][0, 0], 2.0, within=1e-9)
    chord = 1.5 / 2.0  # x1 - x2 in [-1/2, 3/2], offset 3/8
    expected = 0.5 * (1 - chord) - 0.5 * (1 + chord) - 0.375
    least = max(expected, start.lower[3][0, 0].item())
    assert_just_below(best.lower[3][0, 0], least, within=1e-9)


def test_clamping_reports_contradictions() -> None:
    bounds = interval_bounds(TWO_NEURONS, BOX)
    clamped = clamp_to_splits(bounds, TWO_NEURONS, split(1, -1))
    least, most = float(bounds.lower[1][0, 1]), float(bounds.upper[1][0, 0])
    assert clamped.lower[1].tolist() == [[0.0, least]]
    assert clamped.upper[1].tolist() == [[most, 0.0]]
    assert_just_below(bounds.lower[1], [[-2.0, -2.0]])
    assert not clamped.empty().any()
    stable = NodeBounds({1: torch.ones(1, 2)}, {1: torch.full((1, 2), 2.0)})
    assert clamp_to_splits(stable, TWO_NEURONS, split(0, -1)).empty().tolist() == [True]
    assert clamp_to_splits(stable, TWO_NEURONS, split(1, 0)).empty().tolist() == [False]
