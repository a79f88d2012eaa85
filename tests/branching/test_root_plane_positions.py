"""Positions of products' planes in a search: those that bring something, and no wrong verdict."""

from __future__ import annotations

import pytest
import torch

from tests.branching.searching import search
from verify_pipeline.bounds import (
    MemoryBudget,
    OptimiseSettings,
    StopRule,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    needed_places,
    optimise,
)
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.improve.root_plane_positions import with_planes
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, Mul, Relu, Slice
from verify_pipeline.problem import Box, Specification, Status

F64 = torch.float64


def gated() -> Graph:
    """``relu(W x)`` times ``V x``, and once more a product that is linear: by a constant."""
    generator = torch.Generator().manual_seed(3)

    def linear(out: int, into: int) -> Linear:
        return Linear(torch.randn(out, into, generator=generator), None)

    b = GraphBuilder((4,))
    active = b.add(Relu(), b.add(linear(5, 4), 0))
    gate = b.add(Mul(), active, b.add(linear(5, 4), 0))
    one = b.add(Linear(torch.zeros(5, 1), torch.ones(5)), b.add(Slice(0, 0, 1), 0))
    return b.build(b.add(linear(1, 5), b.add(Mul(), gate, one))).to(F64)


def instances(nudge: float) -> tuple[SearchInstances, float]:
    """One instance whose sampled least margin is ``nudge``, and its bound at the root."""
    graph, centre = gated(), torch.full((1, 4), 0.3, dtype=F64)
    box = Box(centre - 0.4, centre + 0.4)
    points = torch.lerp(box.lower, box.upper, torch.rand(20000, 4, dtype=F64).round(decimals=1))
    least = float(graph(points).min())
    spec = Specification(torch.ones(1, 1, 1, dtype=F64), torch.full((1, 1), nudge - least).double())
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    bounds = bounds.only(needed_places(graph))
    root = float(crown_margins(graph, box, spec, bounds).lower)
    return SearchInstances(graph, box, spec, bounds), root


def test_positions_that_bring_nothing_are_left_out() -> None:
    exact, _ = instances(0.5)
    graph = exact.graph
    never = StopRule(torch.full((1,), torch.inf))
    _, start = optimise(
        graph, exact.box, exact.spec, exact.bounds, OptimiseSettings(iterations=20), until=never
    )
    gate, constant = [p for p, node in enumerate(graph.nodes) if isinstance(node.op, Mul)]
    assert {gate, constant} <= start.alpha.keys()
    assert with_planes(exact, start).planes.keys() == {gate}
    assert with_planes(exact, None).planes == {}


@pytest.mark.parametrize("nudge", [0.3, 0.05, -0.05])
def test_a_search_with_planes_is_right(nudge: float) -> None:
    exact, root = instances(nudge)
    assert root < 0
    start = optimise(exact.graph, exact.box, exact.spec, exact.bounds, OptimiseSettings())[1]
    settings = SearchSettings(batch=64, max_domains=300)
    (found,) = search(exact, settings, start=start)
    if nudge < 0:
        assert found.status is not Status.VERIFIED
    elif found.status is Status.VERIFIED:
        assert found.bound is not None
        assert 0 < found.bound <= nudge
    else:
        assert found.status is Status.UNKNOWN
        assert found.bound is None or found.bound <= 0
