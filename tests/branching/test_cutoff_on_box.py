"""Domains looked at only where their bound is not above zero: closed where nothing is left."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from tests.branching.searching import (
    Watch,
    contracted,
    meter_of,
    roots_of,
    search,
    slowly,
)
from verify_pipeline.bounds import (
    MemoryBudget,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    needed_places,
)
from verify_pipeline.bounds.intermediate import tighten as intermediate_module
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounded, Bounder
from verify_pipeline.branching.improve.cutoff_on_box import (
    BoxCutoff,
    Rebound,
    activations,
    everything,
)
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import LEVEL, Domains, split
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, MatMul, Relu, Reshape, Softmax, Transpose
from verify_pipeline.problem import Box, Specification, Status

F64 = torch.float64
SETTINGS = SearchSettings()


def attention() -> Graph:
    """A block of attention over three tokens between two layers of ReLUs; float64."""
    generator = torch.Generator().manual_seed(5)

    def linear(out: int, into: int) -> Linear:
        return Linear(torch.randn(out, into, generator=generator) / into**0.5, None)

    b = GraphBuilder((3, 4))
    x = b.add(linear(4, 6), b.add(Relu(), b.add(linear(6, 4), 0)))
    queries, keys, values = (b.add(linear(4, 4), x) for _ in range(3))
    scores = b.add(MatMul(), queries, b.add(Transpose((1, 0)), keys))
    x = b.add(MatMul(), b.add(Softmax(1), scores), values)
    x = b.add(linear(4, 6), b.add(Relu(), b.add(linear(6, 4), x)))
    return b.build(b.add(linear(1, 12), b.add(Reshape((12,)), x))).to(F64)


def instances(nudge: float) -> tuple[SearchInstances, Tensor]:
    """One instance whose sampled least margin is ``nudge``; and the points sampled."""
    generator = torch.Generator().manual_seed(1)
    graph, centre = attention(), torch.randn(1, 3, 4, generator=generator, dtype=F64)
    box = Box(centre - 0.15, centre + 0.15)
    shares = torch.rand(20000, 3, 4, generator=generator, dtype=F64).round()
    points = torch.lerp(box.lower, box.upper, shares).clamp(box.lower, box.upper)
    offset = (nudge - graph(points).min()).view(1, 1)
    spec = Specification(torch.ones(1, 1, 1, dtype=F64), offset)
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    return SearchInstances(graph, box, spec, bounds.only(needed_places(graph))), points


def root_bound(exact: SearchInstances) -> float:
    return float(crown_margins(exact.graph, exact.box, exact.spec, exact.bounds).lower)


def planted(
    exact: SearchInstances, rebound: Rebound = activations
) -> tuple[Bounder, Domains, Tensor]:
    """The root's domain after a try, and its bound."""
    bounder, domains = roots_of(exact)
    return bounder, *contracted(bounder, domains, rebound, 4)


def slack() -> float:
    """What the root's bound lies below the sampled least margin."""
    return -root_bound(instances(0.0)[0])


def test_a_domain_that_lacks_little_is_closed_and_one_that_lacks_much_is_not() -> None:
    _, _, little = planted(instances(0.97 * slack())[0])
    assert float(little) == LEVEL
    exact, _ = instances(0.05 * slack())
    _, _, much = planted(exact)
    assert root_bound(exact) <= float(much) <= 0


@pytest.mark.parametrize("rebound", [activations, everything])
@pytest.mark.parametrize("nudge", [-0.2, 0.0, 1e-7])
def test_a_domain_with_a_counterexample_is_never_closed(nudge: float, rebound: Rebound) -> None:
    exact, points = instances(nudge * slack())
    bounder, _, found = planted(exact, rebound)
    assert float(found) <= max(nudge * slack(), 0.0)
    # nor are parts of it that hold points which break the specification
    _, roots = roots_of(exact)
    values = exact.graph.values(points)
    margins = values[-1][:, 0] + exact.spec.offsets[0, 0]
    columns = torch.arange(0, roots.splits.shape[1], 3)
    children = split(roots[torch.zeros_like(columns)], columns)
    _, lower = contracted(bounder, children, rebound, 2)
    sides = bounder.open_rows.splits(children)
    for child in range(len(children)):
        obeys = torch.ones(len(points), dtype=torch.bool)
        for place, side in sides.items():
            below = values[exact.graph.nodes[place].inputs[0]]
            obeys &= (side[child] * below >= 0).flatten(1).all(1)
        if obeys.any():
            assert float(lower[child]) <= max(float(margins[obeys].min()), 0.0) + LEVEL


@pytest.mark.parametrize("rebound", [activations, everything])
def test_what_is_learned_of_neurons_holds_where_the_margin_is_at_most_zero(
    rebound: Rebound,
) -> None:
    exact, points = instances(-0.3 * slack())
    bounder, domain, _ = planted(exact, rebound)
    values = exact.graph.values(points)
    broken = values[-1][:, 0] + exact.spec.offsets[0, 0] <= LEVEL
    assert 0 < int(broken.sum()) < len(points)
    assert bool(domain.limited.all())
    bounds = bounder.view(bounder.exact, domain).bounds
    for source in bounder.open_rows.neurons.sources:
        assert (values[source][broken] >= bounds.lower[source]).all()
        assert (values[source][broken] <= bounds.upper[source]).all()
    free = bounder.view(bounder.exact, domain.without_limits()).bounds
    for source in bounder.open_rows.neurons.sources:
        assert free.lower[source].equal(exact.bounds.lower[source])
        assert (bounds.upper[source] <= free.upper[source]).all()


def test_no_round_begins_without_time_for_it() -> None:
    exact, _ = instances(0.97 * slack())
    bounder, domains = roots_of(exact)
    nothing = torch.full((1,), -torch.inf, dtype=F64)
    bounded = Bounded(domains, nothing, exact.box.lower)
    for seconds, closes in ((0.0, False), (1.0, True)):
        meter = meter_of(1, seconds, lambda: 0.0)
        found = BoxCutoff(1, exact.graph, SETTINGS).improved(bounder, bounded, meter)
        assert bool(found.confirmed > 0) is closes
        assert bool(found.domains.limited.any()) is closes


def test_what_a_batch_has_taken_counts_before_it_is_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch, seen = Watch(), []

    def asked(self: BoxCutoff, bounder: Bounder, bounded: Bounded, meter: Meter) -> Bounded:
        seen.append(meter.left.item())
        return bounded

    monkeypatch.setattr(Bounder, "bound", slowly(watch, 1.5, Bounder.bound))
    monkeypatch.setattr(BoxCutoff, "improved", asked)
    exact, _ = instances(0.97 * slack())
    found = list(search(exact, SETTINGS, 4.0, watch))
    assert seen[:2] == [2.5, 1.0]
    assert len(found) == 1


@pytest.mark.parametrize(("rebound", "seconds"), [(everything, 2.0), (activations, 1.0)])
def test_a_round_ends_where_the_time_does(
    monkeypatch: pytest.MonkeyPatch, rebound: Rebound, seconds: float
) -> None:
    """Neurons of a layer take a second: those of the other layers keep their bounds."""
    exact, points = instances(0.0)
    bounder, roots = roots_of(exact)
    watch, crown = Watch(), intermediate_module._Crown
    monkeypatch.setattr(crown, "solve", slowly(watch, 1.0, crown.solve))
    domain, _ = contracted(bounder, roots, rebound, 4, lambda: watch.now < seconds - 0.5)
    assert watch.now == seconds
    values = exact.graph.values(points)
    broken = values[-1][:, 0] + exact.spec.offsets[0, 0] <= LEVEL
    bounds = bounder.view(bounder.exact, domain).bounds
    for source in bounder.open_rows.neurons.sources:
        assert (values[source][broken] >= bounds.lower[source]).all()
        assert (values[source][broken] <= bounds.upper[source]).all()


def test_a_search_closes_domains_that_way_and_says_what_it_says_without() -> None:
    def run(nudge: float, settings: SearchSettings) -> tuple[Status, int]:
        exact, _ = instances(nudge * slack())
        (found,) = search(exact, settings, 2000.0, partial(next, map(float, itertools.count())))
        return found.status, found.subproblems

    with_it = [run(nudge, SETTINGS) for nudge in (0.95, -0.1)]
    without = [run(nudge, replace(SETTINGS, box_cutoff=None)) for nudge in (0.95, -0.1)]
    assert [status for status, _ in with_it] == [status for status, _ in without]
    assert with_it[0][0] is Status.VERIFIED
    assert with_it[1][0] is Status.FALSIFIED
    assert with_it[0][1] < without[0][1]
