"""Optimised bounds of attention: valid wherever planes stand, and better than without."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.networks import attention
from verify_pipeline.bounds import (
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    StopRule,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    optimise,
    optimise_intermediate,
)
from verify_pipeline.bounds.memory import pairs
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import MatMul, Relu
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
COUNT = 3
STEPS = OptimiseSettings(iterations=8)


@pytest.fixture(scope="module")
def problem() -> tuple[Graph, Box, Specification, NodeBounds]:
    graph, generator = attention().to(F64), torch.Generator().manual_seed(1)
    centre = torch.randn(COUNT, 3, 4, generator=generator, dtype=F64)
    box = Box(centre - 0.2, centre + 0.2)
    spec = Specification.margins(torch.tensor([0, 1, 2]), 3).to(F64)
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    return graph, box, spec, bounds


def samples(box: Box, count: int = 300) -> Tensor:
    shares = torch.rand(count, *box.lower.shape, dtype=F64).round(decimals=1)
    return torch.lerp(box.lower, box.upper, shares).clamp(box.lower, box.upper)


def least_margins(graph: Graph, box: Box, spec: Specification) -> Tensor:
    values = [spec.values(graph(x)) for x in samples(box)]
    return torch.stack(values).amin(0)


Problem = tuple[Graph, Box, Specification, NodeBounds]


def test_optimised_planes_lift_the_bounds_and_hold(problem: Problem) -> None:
    graph, box, spec, bounds = problem
    never = StopRule(torch.full((COUNT,), torch.inf))
    usual = crown_margins(graph, box, spec, bounds).lower
    slopes_only, _ = optimise(graph, box, spec, bounds, replace(STEPS, lr_planes=0.0), until=never)
    found, multipliers = optimise(graph, box, spec, bounds, STEPS, until=never)
    assert (found.lower >= slopes_only.lower - 1e-9).float().mean() > 0.8
    assert (found.lower - slopes_only.lower).mean() > 0.01
    assert (slopes_only.lower >= usual - 1e-9).all()
    assert (found.lower <= least_margins(graph, box, spec)).all()
    again = crown_margins(graph, box, spec, bounds, multipliers)
    torch.testing.assert_close(again.lower, found.lower)


@pytest.mark.parametrize("position", [0.0, 1.0, -7.0, 9.0, None])
def test_any_positions_hold(problem: Problem, position: float | None) -> None:
    graph, box, spec, bounds = problem
    _, found = optimise(graph, box, spec, bounds, replace(STEPS, iterations=0))
    alpha = {
        place: torch.rand_like(value) if position is None else torch.full_like(value, position)
        for place, value in found.alpha.items()
    }
    lower = crown_margins(graph, box, spec, bounds, Multipliers(alpha, {})).lower
    assert (lower <= least_margins(graph, box, spec)).all()


def test_planes_that_are_held_stay_where_they_start(problem: Problem) -> None:
    graph, box, spec, bounds = problem
    _, start = optimise(graph, box, spec, bounds, STEPS, until=StopRule(torch.full((COUNT,), 9e9)))
    held = replace(STEPS, lr_planes=0.0)
    found, kept = optimise(graph, box, spec, bounds, held, start=start)
    products = [p for p, node in enumerate(graph.nodes) if isinstance(node.op, MatMul)]
    assert len(products) == 4
    for place in products:
        assert torch.equal(kept.alpha[place], start.alpha[place])
    assert (found.lower >= crown_margins(graph, box, spec, bounds, start).lower - 1e-9).all()


def test_optimised_bounds_of_neurons_are_tighter_and_hold(problem: Problem) -> None:
    graph, box, spec, bounds = problem
    found = optimise_intermediate(graph, box, bounds, STEPS, MemoryBudget())
    values = [graph.values(x) for x in samples(box, 100)]
    narrower = 0.0
    for place in bounds.lower:
        seen = torch.stack([value[place] for value in values])
        assert (seen >= found.lower[place]).all()
        assert (seen <= found.upper[place]).all()
        assert (found.lower[place] >= bounds.lower[place] - 1e-12).all()
        assert (found.upper[place] <= bounds.upper[place] + 1e-12).all()
        narrower += float((found.lower[place] - bounds.lower[place]).sum())
    assert narrower > 0.1
    lifted = (
        crown_margins(graph, box, spec, found).lower - crown_margins(graph, box, spec, bounds).lower
    )
    assert lifted.mean() > 0


def test_factors_of_nearly_linear_products_are_left_alone(problem: Problem) -> None:
    graph, box, spec, _ = problem
    tiny = Box(box.center - 1e-4, box.center + 1e-4)
    start = interval_bounds(graph, tiny)
    found = crown_intermediate(graph, tiny, start, MemoryBudget())
    assert torch.equal(found.lower[1], start.lower[1])
    last = [p for p, node in enumerate(graph.nodes) if isinstance(node.op, Relu)][-1]
    below = graph.nodes[last].inputs[0]
    assert (found.lower[below] >= start.lower[below]).all()
    assert (crown_margins(graph, tiny, spec, found).lower <= spec.values(graph(tiny.center))).all()


def test_pairs_are_counted() -> None:
    # of each block 3 x 4 x 3 products for the scores and 3 x 3 x 4 for the mixture
    assert pairs(attention()) == 2 * (36 + 36)
