"""Descents from the bounds' corners: whose turn it is, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from verify_pipeline.bounds import MemoryBudget, crown_intermediate, interval_bounds
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.evaluate.corner_attack import SHARE, CornerAttack
from verify_pipeline.branching.search.root import plant
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import Domains
from verify_pipeline.network.graph import Graph

F64 = torch.float64


def planted(case: Any) -> tuple[Bounder, Domains]:
    graph, box = case.graph.to(F64), case.box.to(F64)
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    exact = SearchInstances(graph, box, case.spec.to(F64), bounds)
    roots = plant(exact, None, 64)
    return Bounder(roots.open_rows, exact.to(torch.float32), exact), roots.domains


def corners_of(bounder: Bounder, domains: Domains) -> Tensor:
    view = bounder.view(bounder.fast, domains)
    return view.margins().corners(view.box)[:, 0]


def test_descents_lead_below_the_corners(make_case: Any, make_conv: Callable[[int], Graph]) -> None:
    case = make_case(make_conv(1), 24, 1, (1.0,))
    bounder, domains = planted(case)
    view, corners = bounder.view(bounder.fast, domains), corners_of(bounder, domains)
    instance, points = CornerAttack(40, 24).everywhere(bounder, domains, corners)
    assert torch.equal(instance, bounder.open_rows.instance)
    assert bool(case.box[instance].contains(points).all())
    start = view.spec.values(view.graph(corners))
    end = view.spec.values(view.graph(points))
    assert bool((end <= start).all())
    assert bool(((start > 0) & (end < 0.9 * start)).any())


def test_the_worst_domain_of_each_instance_has_its_turn(
    make_case: Any, make_conv: Callable[[int], Graph]
) -> None:
    bounder, domains = planted(make_case(make_conv(1), 24, 1, (1.0,)))
    corners = corners_of(bounder, domains)
    concerned = bounder.open_rows.instance[domains.open_row].unique().tolist()
    pursuit, seen, rounds = CornerAttack(1, 24), [], 0
    while len(seen) < len(concerned):
        instance, _ = pursuit.in_turn(bounder, domains, corners)
        seen, rounds = [*seen, *instance.tolist()], rounds + 1
        assert len(seen) <= 1 + rounds * len(domains) / SHARE
    assert rounds > 1  # not everyone's turn comes at once
    assert sorted(seen[: len(concerned)]) == concerned


def test_no_steps_are_no_work(make_case: Any, make_conv: Callable[[int], Graph]) -> None:
    bounder, domains = planted(make_case(make_conv(1), 6, 1, (1.0,)))
    for pursue in (CornerAttack(0, 6).everywhere, CornerAttack(0, 6).in_turn):
        instance, points = pursue(bounder, domains, corners_of(bounder, domains))
        assert len(instance) == len(points) == 0
