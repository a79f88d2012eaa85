"""Descents from the bounds' corners: whose turn it is, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from tests.branching.searching import exactly, roots_of
from verify_pipeline.attacks import falsify as falsify_module
from verify_pipeline.branching.evaluate.corner_attack import PER_DESCENT, DescentTurns, descend
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Specification


def test_descents_lead_below_the_corners(make_case: Any, make_conv: Callable[[int], Graph]) -> None:
    case = make_case(make_conv(1), 24, 1, (1.0,))
    bounder, domains = roots_of(exactly(case))
    view = bounder.view(bounder.fast, domains)
    corners = view.margins().corners(view.box)[:, 0]
    points = descend(bounder.fast, domains.instance, view.spec, corners, 40)
    assert bool(case.box[domains.instance].contains(points).all())
    start = view.spec.values(view.graph(corners))
    end = view.spec.values(view.graph(points))
    assert bool((end <= start).all())
    assert bool(((start > 0) & (end < 0.9 * start)).any())


def test_a_descent_is_one_round_to_its_last_step(
    make_case: Any, make_conv: Callable[[int], Graph], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(make_conv(1), 24, 1, (1.0,))
    bounder, domains = roots_of(exactly(case))
    spec, counts = bounder.view(bounder.fast, domains).spec, list[int]()
    easy = Specification(spec.rows, spec.offsets + 100)  # nothing breaks it
    honest = falsify_module._descent

    def counted(graph: Graph, each: Any) -> tuple[Tensor, Tensor]:
        counts.append(len(each))
        return honest(graph, each)

    monkeypatch.setattr(falsify_module, "_descent", counted)
    corners = case.box.lower[domains.instance].float()
    descend(bounder.fast, domains.instance, easy, corners, 12)
    assert counts == [len(domains)] * 13


def test_the_worst_domain_of_each_instance_has_its_turn(
    make_case: Any, make_conv: Callable[[int], Graph]
) -> None:
    _, domains = roots_of(exactly(make_case(make_conv(1), 24, 1, (1.0,))))
    concerned = domains.instance.unique().tolist()
    turns, rounds = DescentTurns(24), 0
    seen: list[int] = []
    while len(seen) < len(concerned):
        chosen = turns.next(domains)
        for d in chosen.tolist():
            own = domains.instance == domains.instance[d]
            assert float(domains.lower[d]) == float(domains.lower[own].min())
        seen, rounds = [*seen, *domains.instance[chosen].tolist()], rounds + 1
        assert len(seen) <= 1 + rounds * len(domains) / PER_DESCENT
    assert rounds > 1  # not everyone's turn comes at once
    assert sorted(seen[: len(concerned)]) == concerned


def test_of_nothing_nobody_is_chosen(make_case: Any, make_conv: Callable[[int], Graph]) -> None:
    bounder, domains = roots_of(exactly(make_case(make_conv(1), 6, 1, (1.0,))))
    view, nothing = bounder.view(bounder.fast, domains[:0]), domains[:0]
    assert len(DescentTurns(6).next(nothing)) == 0
    points = descend(bounder.fast, nothing.instance, view.spec, view.box.lower, 40)
    assert len(points) == 0


def test_no_steps_stay_where_they_are(make_case: Any, make_conv: Callable[[int], Graph]) -> None:
    bounder, domains = roots_of(exactly(make_case(make_conv(1), 6, 1, (1.0,))))
    view = bounder.view(bounder.fast, domains)
    corners = view.margins().corners(view.box)[:, 0]
    assert len(corners) > 0
    assert descend(bounder.fast, domains.instance, view.spec, corners, 0).equal(corners)
