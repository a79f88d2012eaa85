"""Boxes cut by a half-space: bounds over them hold on the part, and are tighter if they can be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.networks import mlp
from tests.outward import assert_just_below
from verify_pipeline.bounds import (
    HalfspaceBox,
    MemoryBudget,
    RelaxedBounds,
    crown_activations,
    crown_intermediate,
    interval_bounds,
    needed_places,
)
from verify_pipeline.bounds.linear.backward import concretise
from verify_pipeline.network.ops import Relu
from verify_pipeline.problem import Box

F64 = torch.float64


def corner() -> HalfspaceBox:
    """``[-1, 1]²`` where ``x + y <= -1``."""
    ones = torch.ones(1, 2, dtype=F64)
    return HalfspaceBox(-ones, ones, ones, torch.ones(1, dtype=F64))


def test_a_half_space_bounds_by_hand() -> None:
    coefficients = torch.tensor([[[-1.0, 0.0], [1.0, 0.0], [1.0, 1.0]]], dtype=F64)
    found = concretise(coefficients, torch.zeros(1, 3, dtype=F64), corner()).lower[0]
    # x is at most 0 there; below, the half-space takes nothing away
    assert -0.1 < found[0] <= 0
    assert_just_below(found[1:], [-1.0, -2.0])


@pytest.mark.parametrize("offset", [-0.5, 0.3, 1.2, 50.0])
def test_bounds_over_a_part_hold_there_and_lose_nothing(offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    lower = torch.randn(3, 2, 4, generator=generator, dtype=F64)
    box = Box(lower, lower + torch.rand(3, 2, 4, generator=generator, dtype=F64))
    normal = torch.randn(3, 2, 4, generator=generator, dtype=F64)
    at_center = (normal * box.center).flatten(1).sum(1)
    part = HalfspaceBox(box.lower, box.upper, normal, offset - at_center)
    coefficients = torch.randn(3, 6, 2, 4, generator=generator, dtype=F64)
    constants = torch.randn(3, 6, generator=generator, dtype=F64)
    found = concretise(coefficients, constants, part)
    assert (found.lower >= concretise(coefficients, constants, box).lower - 1e-12).all()
    shares = torch.rand(4000, 1, 2, 4, dtype=F64).round(decimals=1)
    points = torch.lerp(box.lower, box.upper, shares)
    inside = (points * normal).flatten(2).sum(2) + part.offset <= 0
    values = torch.einsum("nsxy,pnxy->pns", coefficients, points) + constants
    below = values < found.lower
    assert not bool((below & inside.unsqueeze(2)).any())
    linear = torch.einsum("nsxy,pnxy->pns", found.coefficients, points) + found.constants
    assert (linear <= values)[inside].all()


def test_neurons_are_bounded_anew_over_a_part() -> None:
    graph, center = mlp(2, 6, outputs=1, gain=1.0).to(F64), torch.full((1, 6), 0.1, dtype=F64)
    box = Box(center - 0.3, center + 0.3)
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    known = RelaxedBounds.of(graph, bounds.only(needed_places(graph)))
    points: Tensor = box.lower + 0.6 * torch.rand(20000, 6, dtype=F64).round(decimals=1)
    values = graph.values(points)
    # at most 1.1 of 3.6 above the least sum of the inputs
    limit = float(box.lower.sum()) + 1.1
    part = HalfspaceBox(
        box.lower, box.upper, torch.ones_like(center), torch.tensor([-limit], dtype=F64)
    )
    places = [place for place, node in enumerate(graph.nodes) if isinstance(node.op, Relu)]
    asked = {place: torch.ones(1, 8, dtype=torch.bool) for place in places}
    found = crown_activations(graph, part, known, asked, MemoryBudget())
    inside = points.sum(1) <= limit
    gained = 0.0
    for place in places:
        source = graph.nodes[place].inputs[0]
        lower, upper = found.lower[source], found.upper[source]
        assert (values[source][inside] >= lower).all()
        assert (values[source][inside] <= upper).all()
        gained += float((bounds.upper[source] - bounds.lower[source] - (upper - lower)).sum())
    assert 0 < int(inside.sum()) < len(points)
    assert gained > 0.05
    nobody = {place: torch.zeros(1, 8, dtype=torch.bool) for place in places}
    same = crown_activations(graph, part, known, nobody, MemoryBudget())
    assert all(same.lower[p].equal(known.lower[p]) for p in known.lower)
