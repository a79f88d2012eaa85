"""Domains looked at only where their bound is not above zero: closed where nothing is left."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.test_deadlines import Watch
from verify_pipeline.bounds import (
    MemoryBudget,
    OptimiseSettings,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    needed_places,
)
from verify_pipeline.bounds.intermediate import tighten as intermediate_module
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounded, Bounder
from verify_pipeline.branching.improve.cutoff_on_box import (
    Anew,
    BoxCutoff,
    activations,
    contracted,
    everything,
)
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.relu_split import search
from verify_pipeline.branching.search.root import plant
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


def planted(exact: SearchInstances, anew: Anew = activations) -> tuple[Bounder, Domains, Tensor]:
    """The root's domain after a try, and its bound."""
    roots = plant(exact, None, 1)
    bounder = Bounder(roots.open_rows, exact.to(torch.float32), exact)
    return bounder, *contracted(bounder, roots.domains, SETTINGS, anew, 4)


def slack() -> float:
    """What the root's bound lies below the sampled least margin."""
    return -root_bound(instances(0.0)[0])


def test_a_domain_that_lacks_little_is_closed_and_one_that_lacks_much_is_not() -> None:
    _, _, little = planted(instances(0.97 * slack())[0])
    assert float(little) == LEVEL
    exact, _ = instances(0.05 * slack())
    _, _, much = planted(exact)
    assert root_bound(exact) <= float(much) <= 0


@pytest.mark.parametrize("anew", [activations, everything])
@pytest.mark.parametrize("nudge", [-0.2, 0.0, 1e-7])
def test_a_domain_with_a_counterexample_is_never_closed(nudge: float, anew: Anew) -> None:
    exact, points = instances(nudge * slack())
    bounder, _, found = planted(exact, anew)
    assert float(found) <= max(nudge * slack(), 0.0)
    # nor are parts of it that hold points which break the specification
    roots = plant(exact, None, 1)
    values = exact.graph.values(points)
    margins = values[-1][:, 0] + exact.spec.offsets[0, 0]
    columns = torch.arange(0, roots.domains.splits.shape[1], 3)
    children = split(roots.domains[torch.zeros_like(columns)], columns)
    _, lower = contracted(bounder, children, SETTINGS, anew, 2)
    sides = bounder.open_rows.splits(children)
    for child in range(len(children)):
        obeys = torch.ones(len(points), dtype=torch.bool)
        for place, side in sides.items():
            below = values[exact.graph.nodes[place].inputs[0]]
            obeys &= (side[child] * below >= 0).flatten(1).all(1)
        if obeys.any():
            assert float(lower[child]) <= max(float(margins[obeys].min()), 0.0) + LEVEL


@pytest.mark.parametrize("anew", [activations, everything])
def test_what_is_learned_of_neurons_holds_where_the_margin_is_at_most_zero(anew: Anew) -> None:
    exact, points = instances(-0.3 * slack())
    bounder, domain, _ = planted(exact, anew)
    values = exact.graph.values(points)
    broken = values[-1][:, 0] + exact.spec.offsets[0, 0] <= LEVEL
    assert 0 < int(broken.sum()) < len(points)
    assert bool(domain.limited.all())
    bounds = bounder.view(bounder.exact, domain).bounds
    for source in bounder.open_rows.neurons.sources:
        assert (values[source][broken] >= bounds.lower[source] - 1e-9).all()
        assert (values[source][broken] <= bounds.upper[source] + 1e-9).all()
    free = bounder.view(bounder.exact, domain.without_limits()).bounds
    for source in bounder.open_rows.neurons.sources:
        assert free.lower[source].equal(exact.bounds.lower[source])
        assert (bounds.upper[source] <= free.upper[source]).all()


def test_no_round_begins_without_time_for_it() -> None:
    exact, _ = instances(0.97 * slack())
    roots = plant(exact, None, 1)
    bounder = Bounder(roots.open_rows, exact.to(torch.float32), exact)
    nothing = torch.full((1,), -torch.inf, dtype=F64)
    bounded = Bounded(roots.domains, nothing, exact.box.lower)
    for seconds, closes in ((0.0, False), (1.0, True)):
        plan, left = BoxCutoff(1, SETTINGS, lambda: 0.0), torch.tensor([seconds])
        found, _ = plan.applied(bounder, bounded, left)
        assert bool(found.confirmed > 0) is closes
        assert bool(found.domains.limited.any()) is closes


def test_what_a_batch_has_taken_counts_before_it_is_charged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch, honest, seen = Watch(), Bounder.bound, []

    def slow(self: Bounder, domains: Domains, settings: OptimiseSettings) -> Bounded:
        watch.now += 1.5
        return honest(self, domains, settings)

    def asked(self: BoxCutoff, bounder: Bounder, bounded: Bounded, left: Tensor) -> Any:
        seen.append(left.item())
        return bounded, bounded.domains.open_row[:0]

    monkeypatch.setattr(Bounder, "bound", slow)
    monkeypatch.setattr(BoxCutoff, "applied", asked)
    exact, _ = instances(0.97 * slack())
    alone = Deadlines.alone(torch.tensor([4.0], dtype=F64))
    found = list(
        search(exact.graph, exact.box, exact.spec, exact.bounds, SETTINGS, alone, clock=watch)
    )
    assert seen[:2] == [2.5, 1.0]
    assert len(found) == 1


@pytest.mark.parametrize(("anew", "seconds"), [(everything, 2.0), (activations, 1.0)])
def test_a_round_ends_where_the_time_does(
    monkeypatch: pytest.MonkeyPatch, anew: Callable[..., Any], seconds: float
) -> None:
    """Neurons of a layer take a second: those of the other layers keep their bounds."""
    exact, points = instances(0.0)
    roots = plant(exact, None, 1)
    bounder = Bounder(roots.open_rows, exact.to(torch.float32), exact)
    now, honest = [0.0], intermediate_module._Crown.solve

    def slow(*args: Any) -> Tensor:
        now[0] += 1.0
        return honest(*args)

    monkeypatch.setattr(intermediate_module._Crown, "solve", slow)
    until = seconds - 0.5
    asked = partial(anew, has_time=lambda: now[0] < until)
    domain, _ = contracted(bounder, roots.domains, SETTINGS, asked, 4, lambda: now[0] < until)
    assert now[0] == seconds
    values = exact.graph.values(points)
    broken = values[-1][:, 0] + exact.spec.offsets[0, 0] <= LEVEL
    bounds = bounder.view(bounder.exact, domain).bounds
    for source in bounder.open_rows.neurons.sources:
        assert (values[source][broken] >= bounds.lower[source] - 1e-9).all()
        assert (values[source][broken] <= bounds.upper[source] + 1e-9).all()


def test_a_search_closes_domains_that_way_and_says_what_it_says_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(nudge: float) -> tuple[Status, int]:
        exact, _ = instances(nudge * slack())
        reads = itertools.count()
        (found,) = search(
            exact.graph,
            exact.box,
            exact.spec,
            exact.bounds,
            SETTINGS,
            Deadlines.alone(torch.tensor([2000.0], dtype=F64)),
            clock=lambda: float(next(reads)),
        )
        return found.status, found.domains

    with_it = [run(nudge) for nudge in (0.95, -0.1)]
    nobody = torch.empty(0, dtype=torch.long)
    monkeypatch.setattr(BoxCutoff, "applied", lambda self, bounder, some, left: (some, nobody))
    without = [run(nudge) for nudge in (0.95, -0.1)]
    assert [status for status, _ in with_it] == [status for status, _ in without]
    assert with_it[0][0] is Status.VERIFIED
    assert with_it[1][0] is Status.FALSIFIED
    assert with_it[0][1] < without[0][1]
