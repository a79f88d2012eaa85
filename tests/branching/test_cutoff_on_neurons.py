"""Bounds of a domain's own neurons: they hold in it where its row is small, and help the search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.branching.searching import (
    NUDGES,
    QUICK,
    check_against_oracle,
    exactly,
    meter_of,
    roots_of,
    run,
)
from verify_pipeline.bounds import OptimiseSettings
from verify_pipeline.branching.config.search_settings import CutoffSettings, SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.improve import cutoff_on_neurons as cutoff_module
from verify_pipeline.branching.improve.cutoff_on_neurons import (
    NeuronCutoff,
    bound_below_cutoff,
    gain_of_splits,
)
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import LEVEL, Domains, split

F64 = torch.float64
ALWAYS = replace(QUICK, cutoff=CutoffSettings(enough=-1.0))
"""Neurons of every domain are bounded before it is split."""


def watched(monkeypatch: pytest.MonkeyPatch, does: Any = bound_below_cutoff) -> list[int]:
    """How many domains' neurons were bounded, batch by batch; ``does`` it instead."""
    counts: list[int] = []

    def counted(bounder: Bounder, domains: Domains, settings: CutoffSettings) -> Domains:
        counts.append(len(domains))
        found: Domains = does(bounder, domains, settings)
        return found

    monkeypatch.setattr(cutoff_module, "bound_below_cutoff", counted)
    return counts


def idle(bounder: Bounder, domains: Domains, settings: CutoffSettings) -> Domains:
    return domains


def narrow(bounder: Bounder, domains: Domains) -> Domains:
    return bound_below_cutoff(bounder, domains, CutoffSettings())


@pytest.mark.parametrize(("kind", "seed"), [("mlp", 0), ("mlp", 1), ("conv", 0), ("conv", 1)])
def test_every_domain_narrowed_gets_the_oracles_verdict(
    kind: str,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    make_case: Any,
    make_mlp: Any,
    make_conv: Any,
) -> None:
    counts = watched(monkeypatch)
    graph = make_mlp(seed) if kind == "mlp" else make_conv(seed)
    case = make_case(graph, 8, seed, NUDGES)
    hasty = replace(ALWAYS, domain=OptimiseSettings(iterations=1), descent=0)
    check_against_oracle(case, run(case, hasty))
    assert sum(counts) > 0


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_at_the_inputs_of_a_domain_with_a_small_row(
    seed: int, make_case: Any, make_mlp: Any
) -> None:
    graph = make_mlp(seed, hidden=(8, 8, 8))
    case = make_case(graph, 6, seed, (0.2,))
    exact = exactly(case)
    bounder, domains = roots_of(exact)
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
    bounder, domains = roots_of(exact)
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

    monkeypatch.setattr(cutoff_module, "lower_below_cutoff", found)
    exact = exactly(make_case(make_mlp(0), 4, 0, (0.1,)))
    narrowed = narrow(*roots_of(exact))
    # float32 has 0.1 a little above, and 0.7 a little below
    below, above = narrowed.below[narrowed.limited], narrowed.above[narrowed.limited]
    assert float(below.double().amax()) == pytest.approx(0.1)
    assert float(below.double().amax()) < 0.1
    assert float(above.double().amin()) == pytest.approx(0.7)
    assert float(above.double().amin()) > 0.7


def limited_to_the_centre(exact: SearchInstances) -> tuple[Bounder, Domains]:
    """Roots of whose neurons is claimed that they are about what they are at the box's centre."""
    bounder, roots = roots_of(exact)
    neurons, open_rows = bounder.open_rows.neurons, bounder.open_rows
    values = exact.graph.values(exact.box.center[open_rows.instance])
    sources = dict(zip(neurons.places, neurons.sources, strict=True))
    at_center = neurons.flatten({p: values[s] for p, s in sources.items()}, values[0])
    known = open_rows.compress(roots.open_row, at_center).float()
    return bounder, replace(roots, below=known - 1e-3, above=known + 1e-3)


def test_a_bound_that_rests_on_what_is_known_of_a_domain_is_the_level_at_most(
    make_case: Any, make_mlp: Any
) -> None:
    bounder, limited = limited_to_the_centre(exactly(make_case(make_mlp(0), 4, 0, (0.1,))))
    bounded = bounder.bound(limited, OptimiseSettings(iterations=1))
    assert float(bounded.domains.lower.max()) > 0.01
    assert float(bounded.confirmed.max()) == LEVEL


def test_a_leaf_rests_on_nothing_but_its_splits(make_case: Any, make_mlp: Any) -> None:
    bounder, limited = limited_to_the_centre(exactly(make_case(make_mlp(0), 4, 0, (0.1,))))
    signs = torch.where(limited.below + limited.above >= 0, 1, -1).to(torch.int8)
    leaf = replace(limited, splits=signs)[:1]
    assert bounder.leaf(leaf).lower.equal(bounder.leaf(leaf.without_limits()).lower)
    assert float(bounder.leaf(leaf).lower) > LEVEL or bounder.leaf(leaf).points is not None


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
    tried = watched(monkeypatch, idle)
    bounder, domains = roots_of(exactly(make_case(make_mlp(0), 4, 0, (0.1,))))
    one = replace(domains[:1], lower=torch.tensor([-0.1]))
    plan = NeuronCutoff(len(domains), bounder.exact.graph, SearchSettings())
    for _ in range(10):
        plan.improved(bounder, one, meter_of(4))
    assert tried == [1] * CutoffSettings().tries


def test_without_the_room_the_search_goes_on(
    monkeypatch: pytest.MonkeyPatch, make_case: Any, make_mlp: Any
) -> None:
    def full(bounder: Bounder, domains: Domains, settings: CutoffSettings) -> Domains:
        raise MemoryError

    tried = watched(monkeypatch, full)
    case = make_case(make_mlp(0), 8, 0, NUDGES)
    check_against_oracle(case, run(case, replace(QUICK, descent=0)))
    assert len(tried) == 1  # and does not try again


def test_ever_more_are_done_step_by_step(
    monkeypatch: pytest.MonkeyPatch, make_case: Any, make_mlp: Any
) -> None:
    counts = watched(monkeypatch, idle)
    bounder, domains = roots_of(exactly(make_case(make_mlp(0), 4, 0, (0.1,))))
    many = domains[torch.zeros(20, dtype=torch.long)]
    plan = NeuronCutoff(len(domains), bounder.exact.graph, ALWAYS)
    for _ in range(4):
        plan.improved(bounder, many, meter_of(4))
    assert counts == [4, 8, 16, 20]


def test_it_is_charged_as_work_to_whom_it_is_for(make_case: Any, make_mlp: Any) -> None:
    bounder, domains = roots_of(exactly(make_case(make_mlp(0), 4, 0, (0.1,))))
    meter, settings = meter_of(4), CutoffSettings()
    NeuronCutoff(len(domains), bounder.exact.graph, QUICK).improved(bounder, domains[:1], meter)
    work = meter._books.work
    assert float(work[domains.instance[0]]) == settings.steps / (QUICK.domain.iterations + 1)
    assert int((work > 0).sum()) == 1
