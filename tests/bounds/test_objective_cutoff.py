"""Bounds of neurons where a margin is at most zero: they hold there, and there only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.networks import residual_mlp
from tests.networks_by_hand import at_least_one
from verify_pipeline.bounds import (
    MarginProblem,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    clamp_to_splits,
    interval_bounds,
    lower_below_cutoff,
)
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Linear
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
ASCENT = OptimiseSettings(iterations=10, lr_alpha=0.3, lr_beta=0.1, decay=0.9)


def by_hand() -> tuple[Graph, Box]:
    """``f = relu(z) - 1`` of ``z = x - 1``, for x in [0, 4]."""
    return at_least_one(), Box(torch.zeros(1, 1, dtype=F64), torch.full((1, 1), 4.0, dtype=F64))


def problem(graph: Graph, box: Box, offset: float, splits: dict[int, Tensor]) -> MarginProblem:
    row = torch.zeros(1, 1, graph.outputs, dtype=F64)
    row[..., 0] = 1
    spec = Specification(row, torch.tensor([[offset]], dtype=F64))
    return MarginProblem(graph, box, spec, interval_bounds(graph, box), splits)


def rounded(exact: MarginProblem) -> MarginProblem:
    single = torch.float32
    moved = exact.graph.to(single), exact.box.to(single), exact.spec.to(single)
    return MarginProblem(*moved, exact.bounds.to(single), exact.splits)


def both_sides(graph: Graph, place: int) -> dict[int, Tensor]:
    size = graph.nodes[place].shape[0]
    one = torch.eye(size, dtype=F64)
    return {place: torch.cat([one, -one]).unsqueeze(0)}


def test_a_ramp_by_hand() -> None:
    """The upper line of the ReLU is ``3 (z + 1) / 4``, so f <= 0 leaves z <= 1 and no less.

    The bound is ``min over z in [-1, 3] of -z + γ (α z - 1)`` with the lower line ``α z``: at α = 1
    and γ = 1 it is -1, and z = 1 attains f = 0.
    """
    graph, box = by_hand()
    exact = problem(graph, box, 0.0, {})
    gamma = torch.full((1, 2), 0.5, dtype=F64)
    many = OptimiseSettings(iterations=200, lr_alpha=0.1, decay=0.98)
    found = lower_below_cutoff(
        exact, rounded(exact), both_sides(graph, 1), gamma, many, Multipliers({}, {})
    )
    assert float(found[0, 0]) == pytest.approx(-1.0, abs=1e-6)
    assert float(found[0, 1]) == pytest.approx(-1.0, abs=0.02)
    assert float(found[0, 1]) <= -1.0 + 1e-12


@pytest.mark.parametrize("seed", range(6))
def test_bounds_hold_where_the_margin_is_small_and_the_splits_hold(seed: int) -> None:
    torch.manual_seed(seed)
    graph = residual_mlp(seed).to(F64)
    box = Box.around(torch.rand(1, 3, dtype=F64), 0.6, clip=None)
    x = box.lower + 2 * box.radius * torch.rand(20000, 3, dtype=F64)
    values = graph.values(x)
    # a third of the points has such a margin
    offset = -float(values[-1][:, 0].quantile(0.33))
    first = 2
    side = torch.zeros(1, 8, dtype=torch.int8)
    neuron = int(((values[1] > 0).double().mean(0) - 0.5).abs().argmin())
    side[0, neuron] = 1
    exact = problem(graph, box, offset, {first: side})
    watched = (values[-1][:, 0] + offset <= 0) & (values[1][:, neuron] >= 0)
    assert int(watched.sum()) > 50
    gained = 0.0
    for place in [p for p, n in enumerate(graph.nodes[1:-1], 1) if isinstance(n.op, Linear)]:
        inner = both_sides(graph, place)
        rows = inner[place].shape[1]
        gamma = torch.full((1, rows), 0.5, dtype=F64)
        start = Multipliers({}, {})
        found = lower_below_cutoff(exact, rounded(exact), inner, gamma, ASCENT, start)[0]
        below, above = found[: rows // 2], -found[rows // 2 :]
        assert bool((values[place][watched] >= below - 1e-9).all())
        assert bool((values[place][watched] <= above + 1e-9).all())
        cut = clamp_to_splits(exact.bounds, graph, exact.splits)
        gained += float((below - cut.lower[place]).clamp(min=0).sum())
        gained += float((cut.upper[place] - above).clamp(min=0).sum())
        outside = values[-1][:, 0] + offset > 0
        if seed == 0 and place > 6:
            # the bounds say nothing of other inputs
            assert not bool((values[place][outside] <= above + 1e-9).all())
    assert gained > 0.1


def test_bounds_that_do_not_exist_prove_nothing() -> None:
    graph, box = by_hand()
    exact = problem(graph, box, 0.0, {})
    nothing = torch.full((1, 1), torch.inf, dtype=F64)
    bounds = NodeBounds({**exact.bounds.lower, 1: -nothing}, {**exact.bounds.upper, 1: nothing})
    exact = MarginProblem(graph, box, exact.spec, bounds, {})
    gamma = torch.ones(1, 2, dtype=F64)
    found = lower_below_cutoff(
        exact, rounded(exact), both_sides(graph, 1), gamma, ASCENT, Multipliers({}, {})
    )
    assert bool((found <= torch.tensor([-1.0, -1.0], dtype=F64) + 1e-9).all())
