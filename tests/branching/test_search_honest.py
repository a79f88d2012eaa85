"""The search on networks done by hand: ties, wrong bounds, and what it cannot decide."""

from __future__ import annotations

import math
from dataclasses import replace
from time import perf_counter
from typing import Any

import pytest
import torch

from tests.branching.searching import (
    NUDGES,
    QUICK,
    Instances,
    by_graph,
    check_against_oracle,
    in_order,
    query_of,
    run,
)
from verify_pipeline.bounds import Multipliers, OptimiseSettings, crown_margins, optimise
from verify_pipeline.branching.evaluate import bounder as bounding_module
from verify_pipeline.branching.search import relu_split as relu_module
from verify_pipeline.branching.search.portfolio import relu_search
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Elementwise, Linear, Relu
from verify_pipeline.problem import Reason, Status


def test_too_optimistic_float32_bounds_verify_nothing_wrongly(
    make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = optimise

    def lie(*args: Any, **kwargs: Any) -> Any:
        margins, multipliers = honest(*args, **kwargs)
        return replace(margins, lower=margins.lower.abs() + 1), multipliers

    monkeypatch.setattr(bounding_module, "optimise", lie)
    case = make_case(make_mlp(5, 3, (6, 5)), 16, 5, NUDGES)
    check_against_oracle(case, run(case))


def test_bounds_that_are_not_numbers_are_no_good_news(
    make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = optimise

    def nothing(*args: Any, **kwargs: Any) -> Any:
        margins, multipliers = honest(*args, **kwargs)
        return replace(margins, lower=torch.full_like(margins.lower, math.nan)), multipliers

    monkeypatch.setattr(bounding_module, "optimise", nothing)
    case = make_case(make_mlp(6, 3, (5,)), 8, 6, NUDGES)
    check_against_oracle(case, run(case))


def test_a_leaf_that_holds_no_input_is_closed() -> None:
    """``relu(x - 0.1) + relu(-x - 0.1)``: at no input are both active, and 0.05 is its minimum."""
    builder = GraphBuilder((1,))
    both = builder.add(Linear(torch.tensor([[1.0], [-1.0]]), torch.tensor([-0.1, -0.1])), 0)
    builder.add(Linear(torch.ones(1, 2)), builder.add(Relu(), both))
    instances = Instances(1, [0.05])
    instances.graph = builder.build()
    none = OptimiseSettings(iterations=0)
    start = Multipliers({2: torch.ones(1, 1, 2)}, {})
    plain = replace(QUICK, root=none, domain=none)
    [end] = run(instances, plain, start=start)
    assert end.subproblems > 3  # both were split
    assert end.status is Status.VERIFIED
    assert end.bound == pytest.approx(0.05)


def test_a_tie_is_not_verified() -> None:
    [end] = run(Instances(2, [0.0]))
    assert end.status is Status.FALSIFIED


def test_margins_on_either_side_of_a_tie_are_told_apart() -> None:
    above, below = run(Instances(3, [1e-4, -1e-4]))
    assert above.status is Status.VERIFIED
    assert above.bound is not None
    assert 1e-4 <= above.bound * 1.001 <= 1.002e-4
    assert below.status is Status.FALSIFIED


def test_a_smooth_network_is_left_undecided_rather_than_guessed() -> None:
    builder = GraphBuilder((1,))  # relu(σ(x) - 0.5) minus itself, by two sigmoids
    twice = builder.add(Linear(torch.ones(2, 1)), 0)
    smooth = builder.add(Elementwise("sigmoid"), twice)
    shifted = builder.add(Linear(torch.eye(2), torch.tensor([-0.5, -0.5])), smooth)
    builder.add(Linear(torch.tensor([[1.0, -1.0]])), builder.add(Relu(), shifted))
    instances = Instances(1, [1e-3])
    instances.graph = builder.build()
    [end] = run(instances)
    assert end.status is Status.UNKNOWN
    assert end.reason is Reason.EXHAUSTED


def test_bounds_that_are_not_finite_are_reported() -> None:
    instances = Instances(2, [1.0, 1.0])
    query = query_of(instances)
    query.root.upper[1][1, 0] = math.inf
    decisions = relu_search(query, QUICK, by_graph(query.spec, query.graph), perf_counter).run()
    finite, infinite = in_order(decisions, 2)
    assert infinite.reason is Reason.NOT_FINITE
    assert finite.status is Status.VERIFIED


def test_an_infinite_row_at_the_root_stays_open(
    make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where bounds of the instance's other rows are finite."""
    honest = crown_margins

    def overflowing(*arguments: Any) -> Any:
        found = honest(*arguments)
        lower = found.lower.clone()
        lower[torch.arange(len(lower)), lower.argmin(1)] = torch.inf
        return replace(found, lower=lower)

    monkeypatch.setattr(relu_module, "crown_margins", overflowing)
    case = make_case(make_mlp(0), 12, 0, NUDGES)
    check_against_oracle(case, run(case))


def test_no_instance_is_no_work() -> None:
    assert run(Instances(2, [])) == []


def test_an_affine_network_is_decided_by_its_corners() -> None:
    instances = Instances(2, [0.5, 2.5])
    builder = GraphBuilder((2,))
    builder.add(Linear(torch.ones(1, 2)), 0)  # the sum of two numbers in [-1, 1], at least -2
    instances.graph = builder.build()
    below, above = run(instances)
    assert below.status is Status.FALSIFIED
    assert above.status is Status.VERIFIED
    assert above.bound == pytest.approx(0.5)


def test_stable_networks_need_no_split() -> None:
    builder = GraphBuilder((1,))
    active = builder.add(Relu(), builder.add(Linear(torch.ones(1, 1), torch.tensor([2.0])), 0))
    builder.add(Linear(torch.ones(1, 1)), active)  # x + 2 >= 1
    instances = Instances(1, [0.0, -1.5])
    instances.graph = builder.build()
    above, below = run(instances)
    assert above.status is Status.VERIFIED
    assert below.status is Status.FALSIFIED
