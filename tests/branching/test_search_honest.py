"""The search on networks done by hand: ties, wrong bounds, and what it cannot decide."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.branching.searching import (
    NUDGES,
    QUICK,
    Instances,
    check_against_oracle,
    root_bounds,
    run,
)
from verify_pipeline.branching.evaluate import bounder as bounding_module
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.relu_split import search
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Elementwise, Linear, Relu
from verify_pipeline.problem import Reason, Status


def test_too_optimistic_float32_bounds_verify_nothing_wrongly(
    make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = bounding_module.optimise

    def lie(*args: Any, **kwargs: Any) -> Any:
        margins, multipliers = honest(*args, **kwargs)
        return replace(margins, lower=margins.lower.abs() + 1), multipliers

    monkeypatch.setattr(bounding_module, "optimise", lie)
    case = make_case(make_mlp(5, 3, (6, 5)), 16, 5, NUDGES)
    check_against_oracle(case, run(case))


def test_bounds_that_are_not_numbers_are_no_good_news(
    make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = bounding_module.optimise

    def nothing(*args: Any, **kwargs: Any) -> Any:
        margins, multipliers = honest(*args, **kwargs)
        return replace(margins, lower=torch.full_like(margins.lower, math.nan)), multipliers

    monkeypatch.setattr(bounding_module, "optimise", nothing)
    case = make_case(make_mlp(6, 3, (5,)), 8, 6, NUDGES)
    check_against_oracle(case, run(case))


def test_a_tie_is_not_verified() -> None:
    [end] = run(Instances(2, [0.0]))
    assert end.status is Status.FALSIFIED


def test_margins_on_either_side_of_a_tie_are_told_apart() -> None:
    above, below = run(Instances(3, [1e-4, -1e-4]))
    assert above.status is Status.VERIFIED
    assert above.bound == pytest.approx(1e-4, rel=1e-3)
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
    root = root_bounds(instances.graph, instances.box)
    root.upper[1][1, 0] = math.inf
    found = list(
        search(
            instances.graph,
            instances.box,
            instances.spec,
            root,
            QUICK,
            Deadlines.alone(torch.full((2,), 1e6)),
        )
    )
    ends = {f.instance: f for f in found}
    assert ends[1].reason is Reason.NOT_FINITE
    assert ends[0].status is Status.VERIFIED


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
