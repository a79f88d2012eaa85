"""Short walks end at late layers: their bounds hold, and functionals that pass by are refused."""

from __future__ import annotations

import pytest
import torch

from tests.networks import conv_mlp
from tests.networks_by_hand import chain, linear
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    late_margins,
)
from verify_pipeline.bounds.linear.backward import lower_bounds, of_margins
from verify_pipeline.bounds.linear.crown import late_bottlenecks
from verify_pipeline.bounds.relaxations.relaxed_graph import linearise
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, Linear, Relu
from verify_pipeline.problem import Box, Specification

F64 = torch.float64


def residual() -> Graph:
    """Linear 1, ReLU 2, linear 3, sum 4 of 1 and 3, ReLU 5, linear 6."""
    b = GraphBuilder((2,))
    first = b.add(Linear(torch.tensor([[1.0, 1.0], [1.0, -1.0]])), 0)
    branch = b.add(Linear(torch.tensor([[1.0, 0.0], [0.0, 2.0]])), b.add(Relu(), first))
    joined = b.add(Relu(), b.add(Add(), first, branch))
    return b.build(b.add(Linear(torch.tensor([[1.0, 1.0]])), joined)).to(F64)


def asked(graph: Graph, offset: float) -> tuple[Box, Specification, NodeBounds]:
    box = Box(torch.zeros(1, 2, dtype=F64), torch.ones(1, 2, dtype=F64))
    one = torch.ones(1, 1, 1, dtype=F64)
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    return box, Specification(one, offset * one[0]), bounds


def test_every_path_passes_through_a_bottleneck() -> None:
    assert list(late_bottlenecks(residual())) == [5, 4, 1]
    assert list(
        late_bottlenecks(chain((2,), linear([[1, 2], [3, 4]]), Relu(), linear([[1, 1]])))
    ) == [
        2,
        1,
    ]


def test_a_short_walk_by_hand() -> None:
    """The sum lies in [0, 4] and [-1, 3]; its ReLUs' outputs in [0, 4] and [0, 3]; f >= 0."""
    graph = residual()
    box, spec, _ = asked(graph, 0.25)
    bounds = interval_bounds(graph, box)
    assert bounds.lower[4].tolist() == [pytest.approx([0, -1])]
    assert float(late_margins(graph, box, spec, bounds)) == pytest.approx(0.25)


@pytest.mark.parametrize("end", [2, 3])
def test_functionals_that_pass_by_the_end_are_refused(end: int) -> None:
    graph = residual()
    box, spec, bounds = asked(graph, 0.0)
    there = Box(bounds.lower[end], bounds.upper[end])
    with pytest.raises(ValueError, match=f"functionals of node 6 pass by node {end}"):
        lower_bounds(linearise(graph, box, bounds), there, of_margins(graph, spec), end=end)


@pytest.mark.parametrize("end", [1, 4, 5])
def test_a_walk_may_end_at_every_bottleneck(end: int) -> None:
    graph = residual()
    box, spec, bounds = asked(graph, 0.0)
    there = Box(bounds.lower[end], bounds.upper[end])
    linear_graph = linearise(graph, box, bounds)
    found = lower_bounds(linear_graph, there, of_margins(graph, spec), end=end).lower
    assert float(found) <= 1e-12  # the exact minimum, at x = 0
    assert float(found) >= -1.5


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_and_some_are_as_good_as_those_of_whole_walks(seed: int) -> None:
    layers = [(4, 3, 1, 0), (6, 4, 2, 0)]
    graph = conv_mlp(seed, (1, 8, 8), layers, (24, 24), outputs=4, bias=0.25).to(F64)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(20, 1, 8, 8, dtype=F64, generator=generator)
    box = Box.around(images, torch.linspace(0, 0.1, 20, dtype=F64).view(-1, 1, 1, 1))
    spec = Specification.margins(graph(images).argmax(1), 4, F64)
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    short = late_margins(graph, box, spec, bounds)
    points = box.lower + (box.upper - box.lower) * torch.rand(200, 20, 1, 8, 8, dtype=F64)
    margins = torch.stack([spec.values(graph(each)) for each in points]).amin(0)
    assert bool((short <= margins).all())
    whole = crown_margins(graph, box, spec, bounds).lower
    assert 0 < int((short > 0).sum()) <= int((whole > 0).sum())


def test_without_bounds_of_late_values_nothing_is_known() -> None:
    graph = residual()
    box, spec, bounds = asked(graph, 9.0)
    infinite = NodeBounds(
        {place: torch.full_like(value, -torch.inf) for place, value in bounds.lower.items()},
        {place: torch.full_like(value, torch.inf) for place, value in bounds.upper.items()},
    )
    assert float(late_margins(graph, box, spec, infinite)) == -torch.inf
    crossed = NodeBounds(bounds.upper, bounds.lower)
    assert float(late_margins(graph, box, spec, crossed)) == -torch.inf
