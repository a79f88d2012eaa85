"""Bounds of a domain's own neurons: they hold in it where its row is small, and help the search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.branching.searching import NUDGES, QUICK, check_against_oracle, root_bounds, run
from verify_pipeline.bounds import OptimiseSettings, needed_places
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.improve import cutoff_on_neurons as narrowing_module
from verify_pipeline.branching.improve.cutoff_on_neurons import NeuronCutoff, gain_of_splits, narrow
from verify_pipeline.branching.search.root import plant
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import LEVEL, Domains, split

F64 = torch.float64


def exactly(case: Any) -> SearchInstances:
    bounds = root_bounds(case.graph, case.box).only(needed_places(case.graph))
    return SearchInstances(case.graph.to(F64), case.box.to(F64), case.spec.to(F64), bounds)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every domain is narrowed before it is split; how many were, batch by batch."""
    counts: list[int] = []

    def counted(bounder: Bounder, domains: Domains) -> Domains:
        counts.append(len(domains))
        return narrow(bounder, domains)

    monkeypatch.setattr(narrowing_module, "ENOUGH", -1.0)
    monkeypatch.setattr(narrowing_module, "narrow", counted)
    return counts


@pytest.mark.parametrize(("kind", "seed"), [("mlp", 0), ("mlp", 1), ("conv", 0), ("conv", 1)])
def test_every_domain_narrowed_gets_the_oracles_verdict(
    kind: str, seed: int, always: list[int], make_case: Any, make_mlp: Any, make_conv: Any
) -> None:
    graph = make_mlp(seed) if kind == "mlp" else make_conv(seed)
    case = make_case(graph, 8, seed, NUDGES)
    hasty = replace(QUICK, domain=OptimiseSettings(iterations=1), descent=0)
    check_against_oracle(case, run(case, hasty))
    assert sum(always) > 0


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_at_the_inputs_of_a_domain_with_a_small_row(
    seed: int, make_case: Any, make_mlp: Any
) -> None:
    graph = make_mlp(seed, hidden=(8, 8, 8))
    case = make_case(graph, 6, seed, (0.2,))
    exact = exactly(case)
    roots = plant(exact, None, 64)
    bounder = Bounder(roots.open_rows, exact.to(torch.float32), exact)
    domains = roots.domains
    for column in (0, 1):
        domains = split(domains, torch.full((len(domains),), column))
    domains = bounder.bound(domains, OptimiseSettings(iterations=10)).domains
    domains = domains[domains.lower < 0]
    found = narrow(bounder, domains)
    assert bool((found.lower >= domains.lower).all())
    again = narrow(bounder, found)
    assert bool((again.below >= found.below).all() and (again.above <= found.above).all())
    before, looked_at = bounder.view(exact, domains), 0
    after = bounder.view(exact, again)
    assert bool(again.limited.all())
    assert not bool(again.without_limits().limited.any())
    margins = after.margins().lower[:, 0]
    for d in range(len(again)):
        box = before.box[d : d + 1]
        x = box.lower + 2 * box.radius * torch.rand(20000, *graph.input_shape, dtype=F64)
        values = exact.graph.values(x)
        row = before.spec[d : d + 1].values(values[-1])[:, 0]
        inside = row <= LEVEL
        for place, sides in before.splits.items():
            z = values[exact.graph.nodes[place].inputs[0]]
            inside &= (sides[d : d + 1] * z >= 0).flatten(1).all(1)
        looked_at += int(inside.sum())
        for place in after.bounds.lower:
            z = values[place][inside]
            assert bool((z >= after.bounds.lower[place][d : d + 1] - 1e-9).all())
            assert bool((z <= after.bounds.upper[place][d : d + 1] + 1e-9).all())
        # ... and so does the margin's bound that is made of them
        assert bool((row[inside] >= margins[d] - 1e-9).all())
    if seed in (0, 1):
        assert looked_at > 0


def test_what_is_closed_is_proved_above_the_level_only(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(0), 4, 0, (0.1,))
    exact = exactly(case)
    roots = plant(exact, None, 64)
    bounder = Bounder(roots.open_rows, exact.to(torch.float32), exact)
    domains = roots.domains
    crossed = replace(
        domains,
        below=domains.below.index_fill(1, torch.tensor([0]), 0.25),
        above=domains.above.index_fill(1, torch.tensor([0]), -0.25),
    )
    bounded = bounder.bound(crossed, OptimiseSettings(iterations=1))
    assert bounded.confirmed.tolist() == [LEVEL] * len(domains)


def test_bounds_of_neurons_are_rounded_outward(
    monkeypatch: pytest.MonkeyPatch, make_case: Any, make_mlp: Any
) -> None:
    def found(exact: Any, fast: Any, inner: Any, gamma: torch.Tensor, *more: Any) -> torch.Tensor:
        low, high = (torch.full_like(half, 0.1, dtype=F64) for half in gamma.chunk(2, 1))
        return torch.cat([low, -7 * high], 1)

    monkeypatch.setattr(narrowing_module, "lower_below_cutoff", found)
    exact = exactly(make_case(make_mlp(0), 4, 0, (0.1,)))
    roots = plant(exact, None, 64)
    bounder = Bounder(roots.open_rows, exact.to(torch.float32), exact)
    narrowed = narrow(bounder, roots.domains)
    # float32 has 0.1 a little above, and 0.7 a little below
    below, above = narrowed.below[narrowed.limited], narrowed.above[narrowed.limited]
    assert float(below.double().amax()) == pytest.approx(0.1)
    assert float(below.double().amax()) < 0.1
    assert float(above.double().amin()) == pytest.approx(0.7)
    assert float(above.double().amin()) > 0.7


def limited_to_the_centre(exact: SearchInstances) -> tuple[Bounder, Domains]:
    """Roots of whose neurons is claimed that they are about what they are at the box's centre."""
    roots = plant(exact, None, 64)
    neurons, open_rows = roots.open_rows.neurons, roots.open_rows
    values = exact.graph.values(exact.box.center[open_rows.instance])
    sources = dict(zip(neurons.places, neurons.sources, strict=True))
    at_center = neurons.flatten({p: values[s] for p, s in sources.items()}, len(open_rows))
    known = open_rows.compress(roots.domains.open_row, at_center).float()
    limited = replace(roots.domains, below=known - 1e-3, above=known + 1e-3)
    return Bounder(open_rows, exact.to(torch.float32), exact), limited


def test_a_bound_that_rests_on_what_is_known_of_a_domain_is_the_level_at_most(
    make_case: Any, make_mlp: Any
) -> None:
    bounder, limited = limited_to_the_centre(exactly(make_case(make_mlp(0), 4, 0, (0.1,))))
    bounded = bounder.bound(limited, OptimiseSettings(iterations=1))
    assert float(bounded.domains.lower.max()) > 0.01
    assert float(bounded.confirmed.max()) == LEVEL


def test_what_is_known_of_a_domain_does_not_generalise(make_case: Any, make_mlp: Any) -> None:
    bounder, limited = limited_to_the_centre(exactly(make_case(make_mlp(0), 4, 0, (0.1,))))
    assert bool((limited.lower <= 0).all())
    closed = split(limited, torch.zeros(len(limited), dtype=torch.long))
    assert bool((bounder.view(bounder.exact, closed).margins().lower > 0.01).any())
    believed = torch.full((len(closed),), 0.5, dtype=F64)
    splits, bounds = bounder.generalise(closed, believed)
    free = bounder.generalise(closed.without_limits(), believed)
    assert splits.equal(free[0])
    assert bounds.equal(free[1])


def test_the_gain_of_splits_by_hand() -> None:
    """Both children gain 1: g = 1. Gains of 1 and 2: x + x^2 = 1 for x = 2^(-1/g)."""
    assert gain_of_splits(torch.tensor([1.0, 1.0])) == pytest.approx(1.0, abs=1e-5)
    golden = 2 / (1 + 5**0.5)
    expected = -1 / torch.tensor(golden).log2().item()
    assert gain_of_splits(torch.tensor([1.0, 2.0])) == pytest.approx(expected, abs=1e-5)
    assert gain_of_splits(torch.zeros(4)) == 0.0
    assert gain_of_splits(torch.zeros(0)) == 0.0


def test_what_brings_nothing_is_not_gone_on_with(
    monkeypatch: pytest.MonkeyPatch, make_case: Any, make_mlp: Any
) -> None:
    tried: list[int] = []

    def idle(bounder: Bounder, domains: Domains) -> Domains:
        tried.append(len(domains))
        return domains

    monkeypatch.setattr(narrowing_module, "narrow", idle)
    case = make_case(make_mlp(0), 4, 0, (0.1,))
    exact = exactly(case)
    roots = plant(exact, None, 64)
    bounder = Bounder(roots.open_rows, exact.to(torch.float32), exact)
    one = replace(roots.domains[:1], lower=torch.tensor([-0.1]))
    plan = NeuronCutoff(len(roots.open_rows), SearchSettings())
    for _ in range(10):
        plan.narrowed(bounder, one)
    assert tried == [1] * narrowing_module.TRIES


def test_without_the_room_the_search_goes_on(
    monkeypatch: pytest.MonkeyPatch, make_case: Any, make_mlp: Any
) -> None:
    tried: list[int] = []

    def full(bounder: Bounder, domains: Domains) -> Domains:
        tried.append(len(domains))
        raise MemoryError

    monkeypatch.setattr(narrowing_module, "narrow", full)
    case = make_case(make_mlp(0), 8, 0, NUDGES)
    check_against_oracle(case, run(case, replace(QUICK, descent=0)))
    assert len(tried) == 1  # and does not try again


def test_ever_more_are_done_step_by_step(
    monkeypatch: pytest.MonkeyPatch, make_case: Any, make_mlp: Any
) -> None:
    counts: list[int] = []

    def watched(bounder: Bounder, domains: Domains) -> Domains:
        counts.append(len(domains))
        return domains

    monkeypatch.setattr(narrowing_module, "narrow", watched)
    monkeypatch.setattr(narrowing_module, "ENOUGH", -1.0)
    exact = exactly(make_case(make_mlp(0), 4, 0, (0.1,)))
    roots = plant(exact, None, 64)
    bounder = Bounder(roots.open_rows, exact.to(torch.float32), exact)
    many = roots.domains[torch.zeros(20, dtype=torch.long)]
    plan = NeuronCutoff(len(roots.open_rows), SearchSettings())
    for _ in range(4):
        plan.narrowed(bounder, many)
    assert counts == [4, 8, 16, 20]
