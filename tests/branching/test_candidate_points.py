"""Candidate counterexamples: in the box, in float32, and really breaking the specification."""

from __future__ import annotations

import math

import torch

from tests.branching.searching import Asked, exactly
from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.evaluate.candidate_points import Evaluated, evaluate, representable
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Elementwise, Linear, Sub
from verify_pipeline.problem import Box, Specification

F64 = torch.float64


def test_casts_that_leave_the_box_are_moved_back_inside() -> None:
    generator = torch.Generator().manual_seed(0)
    lower = torch.rand(200, 5, dtype=F64, generator=generator)
    box = Box(lower, lower + torch.rand(200, 5, dtype=F64, generator=generator))
    for corner in (box.lower, box.upper):
        assert not bool(box.contains(corner.float().double()).all())
        moved = representable(corner, box)
        assert moved.dtype is torch.float32
        assert bool(box.contains(moved.double()).all())
        assert torch.allclose(moved.double(), corner, atol=1e-6)


def instances(width: float) -> SearchInstances:
    """f(x) = x over [1/3 - width, 1/3 + width], which has to exceed 1/3."""
    builder = GraphBuilder((1,))
    builder.add(Linear(torch.ones(1, 1)), 0)
    third = torch.full((1, 1), 1 / 3, dtype=F64)
    spec = Specification(torch.ones(1, 1, 1, dtype=F64), -third)
    box = Box(third - width, third + width)
    return SearchInstances(builder.build().to(F64), box, spec, NodeBounds({}, {}))


def check(width: float, point: float) -> bool:
    exact = instances(width)
    points = torch.full((1, 1), point, dtype=F64)
    found = evaluate(exact.to(torch.float32), exact, torch.zeros(1, dtype=torch.int64), points)
    return bool(found.breaks)


def test_a_point_below_breaks_and_a_point_above_does_not() -> None:
    assert check(0.1, 0.3)
    assert not check(0.1, 0.4)


def test_a_point_outside_is_no_counterexample() -> None:
    assert not check(0.01, 0.0)


def test_a_box_without_a_float32_number_has_no_counterexample() -> None:
    assert not check(0.0, 1 / 3)


def test_a_point_that_is_not_a_number_is_no_counterexample() -> None:
    assert not check(0.1, math.nan)


def test_what_breaks_in_float64_alone_is_no_counterexample_of_a_float32_file() -> None:
    """``(1 + 2^-11) x - w w x + 2^-25`` at 1: w^2 is ``1 + 2^-11 + 2^-24``, less in float32."""
    builder, w = GraphBuilder((1,)), 1 + 2**-12
    rising = builder.add(Linear(torch.tensor([[1 + 2**-11]])), 0)
    once = builder.add(Linear(torch.tensor([[w]])), 0)
    builder.add(Sub(), rising, builder.add(Linear(torch.tensor([[w]])), once))
    box = Box(torch.tensor([[0.5]]), torch.tensor([[1.0]]))
    spec = Specification(torch.ones(1, 1, 1), torch.tensor([[2.0**-25]]))
    exact = exactly(Asked(builder.build(), box, spec))
    point, zero = torch.ones(1, 1, dtype=F64), torch.zeros(1, dtype=torch.long)
    of_float32 = evaluate(exact.to(torch.float32), exact, zero, point)
    assert float(of_float32.margins) < 0
    assert not bool(of_float32.breaks)
    found = evaluate(exact, exact, zero, point)
    assert bool(found.breaks)
    assert found.points.dtype is F64


def test_of_each_instance_the_worst_point_is_handed_on() -> None:
    points = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    margins = torch.tensor([-1.0, -2.0, -3.0, 1.0])
    breaks = torch.tensor([True, True, False, False])
    found = Evaluated(points, margins, breaks, torch.ones(4, dtype=torch.bool))
    worst = found.worst(torch.tensor([7, 7, 7, 5]))
    assert {n: x.item() for n, x in worst.items()} == {7: 2.0}


def test_what_is_not_defined_is_told_apart() -> None:
    builder = GraphBuilder((1,))
    builder.add(Elementwise("log"), 0)
    box = Box(torch.tensor([[-1.0]], dtype=F64), torch.tensor([[1.0]], dtype=F64))
    spec = Specification(torch.ones(1, 1, 1, dtype=F64), torch.zeros(1, 1, dtype=F64))
    exact = SearchInstances(builder.build().to(F64), box, spec, NodeBounds({}, {}))
    points = torch.tensor([[-0.5], [0.5]], dtype=F64)
    found = evaluate(exact, exact, torch.zeros(2, dtype=torch.long), points)
    assert found.defined.tolist() == [False, True]
    assert found.breaks.tolist() == [False, True]
