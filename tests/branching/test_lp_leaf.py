"""Linear programs over decided domains: exact, and never trusting the solver."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from tests.networks import mlp
from tests.outward import assert_just_below
from verify_pipeline.bounds import NodeBounds, Splits, interval_bounds
from verify_pipeline.branching.exact import lp_leaf as leaf_module
from verify_pipeline.branching.exact.lp_leaf import Polytope, lp_leaf
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
    assert_just_below(leaf.lower, [-0.25])
    assert leaf.points is not None
    assert leaf.points.item() == pytest.approx(0.0, abs=1e-7)


def test_a_stable_activation_needs_no_split() -> None:
    assert_just_below(solve(0.5, 2, [0, 0]).lower, [0.25])


@pytest.mark.parametrize("slope", [0.01, 0.2, 0.3, 0.7])
def test_a_slope_is_not_rounded_to_float32(slope: float) -> None:
    builder = GraphBuilder((1,))
    scaled = builder.add(Linear(torch.tensor([[1.0]])), 0)
    builder.add(LeakyRelu(slope), scaled)
    graph = builder.build().to(F64)
    box = Box(torch.tensor([[-2.0]], dtype=F64), torch.tensor([[-1.0]], dtype=F64))
    leaf = lp_leaf(graph, box, SPEC, NodeBounds({1: box.lower}, {1: box.upper}), {})
    assert_just_below(leaf.lower, [-2 * slope], within=1e-13)


def test_an_open_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="not decided"):
        solve(-1, 2, [1, 0])


def test_splits_that_meet_in_one_point_leave_that_point() -> None:
    # x >= 0 and -x >= 0 leave x = 0 only.
    leaf = solve(-1, 2, [1, 1])
    assert_just_below(leaf.lower, [-0.25], within=1e-9)


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


def _answering(monkeypatch: pytest.MonkeyPatch, answer: Callable[[Polytope], torch.Tensor]) -> None:
    """Let the solver return these multipliers, whatever it is asked."""

    def minimise(polytope: Polytope, row: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return polytope.upper, answer(polytope)

    monkeypatch.setattr(leaf_module, "_minimise", minimise)


@pytest.mark.parametrize("size", [0.0, 1e-300, 0.5, 1.0, 1e6, 1e300, -1.0, math.inf, math.nan])
@pytest.mark.parametrize("signs", [[1, -1], [-1, 1], [1, 1], [-1, -1]])
def test_a_lying_solver_cannot_raise_the_bound(
    monkeypatch: pytest.MonkeyPatch, size: float, signs: list[int]
) -> None:
    _answering(monkeypatch, lambda polytope: torch.full_like(polytope.offset, size))
    # -0.25, the value at 0, is the minimum of each of these domains
    assert solve(-1, 2, signs).lower.item() <= -0.25


def _decided(seed: int) -> tuple[Graph, Box, Specification, NodeBounds, Splits, torch.Tensor]:
    """A random network, split everywhere as at a point; and points that obey the splits."""
    graph = mlp(seed, 3, (5, 4), outputs=2, gain=1.0).to(F64)
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(5000, 3, dtype=F64, generator=generator) * 2 - 1
    points[:2500] = points[:2500].round()
    box = Box(-torch.ones(1, 3, dtype=F64), torch.ones(1, 3, dtype=F64))
    bounds, values = interval_bounds(graph, box), graph.values(points)
    splits: Splits = {}
    obeys = torch.ones(len(points), dtype=torch.bool)
    for place, node in enumerate(graph.nodes):
        if isinstance(node.op, Relu):
            z = values[node.inputs[0]]
            side = torch.where(z[-1] > 0, 1, -1)
            splits[place] = side.to(torch.int8).unsqueeze(0)
            # clearly: the values are rounded
            obeys &= (z * side > 1e-12).all(1)
    spec = Specification(
        torch.randn(1, 3, 2, dtype=F64, generator=generator), torch.full((1, 3), 0.5, dtype=F64)
    )
    return graph, box, spec, bounds, splits, points[obeys]


@pytest.mark.parametrize("spread", [0.1, 1.0, 1e3])
def test_any_multipliers_bound_from_below(monkeypatch: pytest.MonkeyPatch, spread: float) -> None:
    generator = torch.Generator().manual_seed(0)
    _answering(
        monkeypatch,
        lambda polytope: spread * torch.randn(len(polytope.offset), dtype=F64, generator=generator),
    )
    for seed in range(10):
        graph, box, spec, bounds, splits, points = _decided(seed)
        assert len(points) > 0
        leaf = lp_leaf(graph, box, spec, bounds, splits)
        # a domain that has points is never empty, and its bound is below their margins
        margins = graph(points) @ spec.rows[0].T + spec.offsets[0]
        assert bool((margins >= leaf.lower).all())


def test_the_solvers_multipliers_reach_the_least_margin() -> None:
    for seed in range(10):
        graph, box, spec, bounds, splits, points = _decided(seed)
        leaf = lp_leaf(graph, box, spec, bounds, splits)
        margins = graph(points) @ spec.rows[0].T + spec.offsets[0]
        assert leaf.points is not None
        reached = (graph(leaf.points) @ spec.rows[0].T + spec.offsets[0]).diagonal()
        assert bool((margins >= leaf.lower).all())
        # the solver's points obey the splits up to its tolerance
        torch.testing.assert_close(leaf.lower, reached, rtol=0, atol=1e-6)
