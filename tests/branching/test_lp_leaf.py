"""Linear programs over decided domains: exact, and never trusting the solver."""

from __future__ import annotations

import math

import pytest
import torch

from verify_pipeline.bounds import NodeBounds, Splits
from verify_pipeline.branching.exact import lp_leaf as leaf_module
from verify_pipeline.branching.exact.lp_leaf import Polytope, dual_bound, lp_leaf
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import LeakyRelu, Linear, Relu
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
SPEC = Specification(torch.ones(1, 1, 1, dtype=F64), torch.zeros(1, 1, dtype=F64))


def absolute_value() -> Graph:
    """f(x) = |x| - 0.25; activation at place 2."""
    builder = GraphBuilder((1,))
    both = builder.add(Linear(torch.tensor([[1.0], [-1.0]])), 0)
    active = builder.add(Relu(), both)
    builder.add(Linear(torch.tensor([[1.0, 1.0]]), torch.tensor([-0.25])), active)
    return builder.build().to(F64)


def solve(low: float, high: float, signs: list[int]) -> leaf_module.Leaf:
    box = Box(torch.tensor([[low]], dtype=F64), torch.tensor([[high]], dtype=F64))
    bounds = NodeBounds(
        {1: torch.tensor([[low, -high]], dtype=F64)}, {1: torch.tensor([[high, -low]], dtype=F64)}
    )
    splits: Splits = {2: torch.tensor([signs], dtype=torch.int8)}
    return lp_leaf(absolute_value(), box, SPEC, bounds, splits)


def test_the_least_value_lies_where_the_splits_meet() -> None:
    leaf = solve(-1, 2, [1, -1])  # x >= 0: x - 0.25
    assert leaf.lower.item() == pytest.approx(-0.25, abs=1e-12)
    assert leaf.points is not None
    assert leaf.points.item() == pytest.approx(0.0, abs=1e-7)


def test_a_stable_activation_needs_no_split() -> None:
    assert solve(0.5, 2, [0, 0]).lower.item() == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize("slope", [0.01, 0.2, 0.3, 0.7])
def test_a_slope_is_not_rounded_to_float32(slope: float) -> None:
    builder = GraphBuilder((1,))
    scaled = builder.add(Linear(torch.tensor([[1.0]])), 0)
    builder.add(LeakyRelu(slope), scaled)
    graph = builder.build().to(F64)
    box = Box(torch.tensor([[-2.0]], dtype=F64), torch.tensor([[-1.0]], dtype=F64))
    leaf = lp_leaf(graph, box, SPEC, NodeBounds({1: box.lower}, {1: box.upper}), {})
    assert leaf.lower.item() == pytest.approx(-2 * slope, abs=1e-14)


def test_an_open_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="not decided"):
        solve(-1, 2, [1, 0])


def test_splits_that_meet_in_one_point_leave_that_point() -> None:
    # x >= 0 and -x >= 0 leave x = 0 only.
    leaf = solve(-1, 2, [1, 1])
    assert leaf.lower.item() == pytest.approx(-0.25, abs=1e-9)


def test_contradicting_splits_are_empty() -> None:
    builder = GraphBuilder((1,))
    both = builder.add(
        Linear(torch.tensor([[1.0], [-1.0]]), torch.tensor([-0.1, -0.1])), 0
    )  # x >= 0.1 and x <= -0.1
    active = builder.add(Relu(), both)
    builder.add(Linear(torch.tensor([[1.0, 1.0]])), active)
    box = Box(torch.tensor([[-1.0]], dtype=F64), torch.tensor([[1.0]], dtype=F64))
    bounds = NodeBounds(
        {1: torch.tensor([[-1.1, -1.1]], dtype=F64)}, {1: torch.tensor([[0.9, 0.9]], dtype=F64)}
    )
    leaf = lp_leaf(
        builder.build().to(F64), box, SPEC, bounds, {2: torch.ones(1, 2, dtype=torch.int8)}
    )
    assert leaf.lower.item() == math.inf
    assert leaf.points is None


def test_any_multipliers_bound_from_below() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        matrix = torch.randn(4, 3, dtype=F64, generator=generator)
        offset = torch.rand(4, dtype=F64, generator=generator)
        row = torch.randn(3, dtype=F64, generator=generator)
        polytope = Polytope(-torch.ones(3, dtype=F64), torch.ones(3, dtype=F64), matrix, offset)
        samples = torch.rand(5000, 3, dtype=F64, generator=generator) * 2 - 1
        inside = samples[((samples @ matrix.T + offset) >= 0).all(1)]
        multipliers = torch.randn(4, dtype=F64, generator=generator)
        bound = dual_bound(polytope, row, 0.5, multipliers)
        assert bool(((inside @ row + 0.5) >= bound - 1e-12).all())


def test_a_lying_solver_cannot_raise_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = solve(-1, 2, [1, -1]).lower.item()

    def lie(polytope: Polytope, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return polytope.upper, torch.full_like(polytope.offset, 1e6)

    monkeypatch.setattr(leaf_module, "_minimise", lie)
    assert solve(-1, 2, [1, -1]).lower.item() <= honest
