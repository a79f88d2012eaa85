"""When the neurons' bounds are optimised, and that it changes no verdict."""

from __future__ import annotations

import torch

from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    crown_intermediate,
    interval_bounds,
)
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.improve import optimise_at_root as tightening_module
from verify_pipeline.branching.improve.optimise_at_root import RootOptimisation, optimised_at_root
from verify_pipeline.branching.search.root import plant
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, Relu
from verify_pipeline.problem import Box, Specification

SETTINGS = SearchSettings(
    tighten=OptimiseSettings(iterations=9), domain=OptimiseSettings(iterations=4)
)


def plan() -> RootOptimisation:
    """Two instances: 3 unstable neurons of the second layer in one, none in the other."""
    neurons = Neurons((2, 4), (1, 3), ((2,), (4,)))
    lower = {1: -torch.ones(2, 2), 3: torch.tensor([[-1.0, -1.0, -1.0, 1.0], [1.0] * 4])}
    upper = {1: torch.ones(2, 2), 3: torch.full((2, 4), 2.0)}
    return RootOptimisation(neurons, NodeBounds(lower, upper), 2, SETTINGS)


def test_the_expected_cost_counts_both_bounds_of_unstable_neurons_in_domains() -> None:
    made = plan()
    assert made.functionals.tolist() == [6, 0]
    expected = 6 * (10 / 5) * tightening_module.FUNCTIONAL_SHARE
    assert torch.allclose(made.expected, torch.tensor([expected, 0.0]))


def test_an_instance_is_worth_it_once_as_many_domains_were_bounded() -> None:
    made = plan()
    expected = float(made.expected[0])
    assert not made.worthwhile(torch.tensor([0.9 * expected, 100.0])).any()
    assert made.worthwhile(torch.tensor([expected, 100.0])).tolist() == [True, False]
    assert not made.worthwhile(torch.tensor([9 * expected, 100.0])).any()  # not twice


def test_without_steps_nobody_is_worth_it() -> None:
    settings = SearchSettings(tighten=OptimiseSettings(iterations=0))
    neurons = Neurons((2, 4), (1, 3), ((2,), (4,)))
    lower = {1: -torch.ones(1, 2), 3: -torch.ones(1, 4)}
    upper = {1: torch.ones(1, 2), 3: torch.ones(1, 4)}
    made = RootOptimisation(neurons, NodeBounds(lower, upper), 1, settings)
    assert not made.worthwhile(torch.tensor([1e9])).any()


def network() -> Graph:
    torch.manual_seed(1)
    builder, place, width = GraphBuilder((3,)), 0, 3
    for size in (8, 8, 8):
        place = builder.add(Linear(torch.randn(size, width) / width**0.5), place)
        place, width = builder.add(Relu(), place), size
    builder.add(Linear(torch.randn(2, width)), place)
    return builder.build()


def test_tightened_bounds_lie_inside_and_hold_and_leave_the_others_alone() -> None:
    graph = network().to(torch.float64)
    box = Box.around(torch.rand(2, 3, dtype=torch.float64), 0.4)
    spec = Specification.margins(torch.tensor([0, 1]), 2, torch.float64)
    budget = MemoryBudget()
    before = crown_intermediate(graph, box, interval_bounds(graph, box), budget)
    exact = SearchInstances(graph, box, spec, before)
    bounder = Bounder(plant(exact, None, 8).open_rows, exact.to(torch.float32), exact)
    after = optimised_at_root(bounder, torch.tensor([True, False]), SETTINGS)
    narrower = False
    samples = box.lower[:1] + 2 * box.radius[:1] * torch.rand(4000, 3, dtype=torch.float64)
    values = graph.values(samples)
    for place, lower in after.exact.bounds.lower.items():
        upper = after.exact.bounds.upper[place]
        assert bool((lower >= before.lower[place]).all() and (upper <= before.upper[place]).all())
        assert torch.equal(lower[1], before.lower[place][1])
        assert torch.equal(upper[1], before.upper[place][1])
        assert bool((values[place] >= lower[0] - 1e-9).all())
        assert bool((values[place] <= upper[0] + 1e-9).all())
        narrower |= bool((upper - lower < 0.99 * (before.upper[place] - before.lower[place])).any())
    assert narrower
    assert bool((after.open_rows.live <= bounder.open_rows.live).all())


def test_without_time_the_bounds_stay_as_they_are() -> None:
    graph = network().to(torch.float64)
    box = Box.around(torch.rand(1, 3, dtype=torch.float64), 0.4)
    spec = Specification.margins(torch.tensor([0]), 2, torch.float64)
    before = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    exact = SearchInstances(graph, box, spec, before)
    bounder = Bounder(plant(exact, None, 8).open_rows, exact.to(torch.float32), exact)
    after = optimised_at_root(bounder, torch.tensor([True]), SETTINGS, lambda: False)
    for place, lower in after.exact.bounds.lower.items():
        assert torch.equal(lower, before.lower[place])
        assert torch.equal(after.exact.bounds.upper[place], before.upper[place])


def test_the_time_allowed_leaves_every_instance_half_of_what_it_has() -> None:
    made = plan()
    made.functionals = torch.tensor([6, 2])
    both = torch.tensor([True, True])
    # the first pays 6/8 of all seconds: 2 of its 4 are 8/3 together
    assert abs(made.allowed(both, torch.tensor([4.0, 100.0])) - 8 / 3) < 1e-6
