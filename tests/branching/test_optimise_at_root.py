"""When the neurons' bounds are optimised, and that it changes no verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.searching import Asked, exactly, meter_of, roots_of
from verify_pipeline.bounds import NodeBounds, OptimiseSettings
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.improve import optimise_at_root as root_module
from verify_pipeline.branching.improve.optimise_at_root import RootOptimisation
from verify_pipeline.branching.limits import cost
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, Relu
from verify_pipeline.problem import Box, Specification

SETTINGS = SearchSettings(
    tighten=OptimiseSettings(iterations=9), domain=OptimiseSettings(iterations=4)
)


def plan(second: tuple[float, ...] = (1.0,) * 4, **changed: Any) -> RootOptimisation:
    """Two instances: 3 unstable neurons of the second layer in one, none in the other.

    Args:
        second: lower bounds of the second layer's neurons in the other instance.
        **changed: settings.
    """
    builder = GraphBuilder((2,))
    first = builder.add(Relu(), builder.add(Linear(torch.ones(2, 2)), 0))
    builder.add(Linear(torch.ones(1, 4)), builder.add(Relu(), builder.add(_four(), first)))
    lower = {1: -torch.ones(2, 2), 3: torch.tensor([[-1.0, -1.0, -1.0, 1.0], list(second)])}
    upper = {1: torch.ones(2, 2), 3: torch.full((2, 4), 2.0)}
    box = Box(-torch.ones(2, 2), torch.ones(2, 2))
    spec = Specification(torch.ones(2, 1, 1), torch.zeros(2, 1))
    exact = SearchInstances(builder.build(), box, spec, NodeBounds(lower, upper))
    settings = SearchSettings(domain=SETTINGS.domain, **{"tighten": SETTINGS.tighten} | changed)
    return RootOptimisation(Neurons.of(exact.graph), exact, settings)


def _four() -> Linear:
    return Linear(torch.ones(4, 2))


@pytest.fixture
def optimised(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[bool], float]]:
    """Whose bounds are optimised, and until when; nothing else happens."""
    seen: list[tuple[list[bool], float]] = []

    def note(
        self: RootOptimisation, bounder: Bounder, chosen: Tensor, until: float, meter: Meter
    ) -> Bounder:
        seen.append((chosen.tolist(), until))
        return bounder

    monkeypatch.setattr(RootOptimisation, "_optimised", note)
    return seen


def steps(made: RootOptimisation, instance: list[int], times: int, meter: Meter) -> None:
    bounder: Any = None
    for _ in range(times):
        assert made.after(bounder, torch.tensor(instance), meter) is bounder


def still() -> float:
    return 0.0


def test_the_expected_cost_counts_both_bounds_of_unstable_neurons_in_domains() -> None:
    made = plan()
    expected = 6 * (10 / 5) * cost.OF_A_DOMAIN
    assert torch.allclose(made.expected, torch.tensor([expected, 0.0]))


def test_an_instance_is_worth_it_once_as_many_domains_were_bounded(
    optimised: list[tuple[list[bool], float]],
) -> None:
    made, meter = plan(), meter_of(2, clock=still)
    before = math.ceil(float(made.expected[0]) / 2)  # of whose splits each bounds two
    steps(made, [0], before, meter)
    steps(made, [1], 50, meter)
    assert optimised == []
    steps(made, [0], 1, meter)
    assert [chosen for chosen, _ in optimised] == [[True, False]]
    steps(made, [0, 1], 50, meter)
    assert len(optimised) == 1  # not twice


def test_nobody_is_worth_it_whose_turn_it_is_not(
    optimised: list[tuple[list[bool], float]],
) -> None:
    made, meter = plan(), meter_of(2, clock=still)
    steps(made, [0] * 50, 1, meter)
    steps(made, [1], 3, meter)
    assert optimised == []


def test_without_steps_nobody_is_worth_it(optimised: list[tuple[list[bool], float]]) -> None:
    none = OptimiseSettings(iterations=0)
    steps(plan(tighten=none), [0, 1], 50, meter_of(2, clock=still))
    assert optimised == []


def test_networks_that_multiply_activations_are_left_alone(
    optimised: list[tuple[list[bool], float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root_module, "pairs", lambda graph: 1)
    steps(plan(), [0, 1], 50, meter_of(2, clock=still))
    assert optimised == []


def test_the_time_allowed_leaves_every_instance_half_of_what_it_has(
    optimised: list[tuple[list[bool], float]],
) -> None:
    made = plan((-1.0, 1.0, 1.0, 1.0))
    steps(made, [0] * 50 + [1] * 50, 2, meter_of(2, [4.0, 100.0], still))
    ((chosen, until),) = optimised
    assert chosen == [True, True]
    # the first pays 6/8 of all seconds: 2 of its 4 are 8/3 together
    assert until == pytest.approx(8 / 3)


def network() -> Graph:
    torch.manual_seed(1)
    builder, place, width = GraphBuilder((3,)), 0, 3
    for size in (8, 8, 8):
        place = builder.add(Linear(torch.randn(size, width) / width**0.5), place)
        place, width = builder.add(Relu(), place), size
    builder.add(Linear(torch.randn(2, width)), place)
    return builder.build()


def asked(count: int) -> Asked:
    box = Box.around(torch.rand(count, 3, generator=torch.Generator().manual_seed(0)), 0.4)
    return Asked(network(), box, Specification.margins(torch.arange(count), 2))


def test_optimised_bounds_lie_inside_and_hold_and_leave_the_others_alone() -> None:
    exact = exactly(asked(2))
    bounder, _ = roots_of(exact)
    before, graph, box = exact.bounds, exact.graph, exact.box
    made = RootOptimisation(bounder.open_rows.neurons, exact, SETTINGS)
    after = made._optimised(bounder, torch.tensor([True, False]), math.inf, meter_of(2))
    narrower = False
    samples = box.lower[:1] + 2 * box.radius[:1] * torch.rand(4000, 3, dtype=torch.float64)
    values = graph.values(samples)
    for place, lower in after.exact.bounds.lower.items():
        upper = after.exact.bounds.upper[place]
        assert bool((lower >= before.lower[place]).all() and (upper <= before.upper[place]).all())
        assert torch.equal(lower[1], before.lower[place][1])
        assert torch.equal(upper[1], before.upper[place][1])
        assert bool((values[place] >= lower[0]).all())
        assert bool((values[place] <= upper[0]).all())
        narrower |= bool((upper - lower < 0.99 * (before.upper[place] - before.lower[place])).any())
    assert narrower
    assert bool((after.open_rows.live <= bounder.open_rows.live).all())
    fast = after.exact.bounds.to(torch.float32)
    for place, lower in after.fast.bounds.lower.items():
        assert lower.equal(fast.lower[place])


def test_without_time_the_bounds_stay_as_they_are() -> None:
    exact = exactly(asked(1))
    bounder, _ = roots_of(exact)
    made = RootOptimisation(bounder.open_rows.neurons, exact, SETTINGS)
    after = made._optimised(bounder, torch.tensor([True]), -math.inf, meter_of(1))
    for place, lower in after.exact.bounds.lower.items():
        assert torch.equal(lower, exact.bounds.lower[place])
        assert torch.equal(after.exact.bounds.upper[place], exact.bounds.upper[place])
