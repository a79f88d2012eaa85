"""Softmax written with differences of scores: the same function, narrower and valid bounds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests import networks
from tests.networks_by_hand import chain
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    StopRule,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    optimise,
    optimise_intermediate,
)
from verify_pipeline.bounds.floating_point import greatest
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.bounds.relaxations.softmax import shares_of_differences
from verify_pipeline.network.differences import (
    MOST_SCORES,
    SoftmaxOfDifferences,
    with_score_differences,
)
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import (
    Relu,
    Softmax,
)
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
COUNT = 4


def attention(tokens: int = 3) -> Graph:
    """Two blocks, the second with softmax over the other axis."""
    return networks.attention(axes=(1, 0), tokens=tokens).to(F64)


def boxes(radius: float) -> Box:
    generator = torch.Generator().manual_seed(1)
    centre = torch.randn(COUNT, 3, 4, generator=generator, dtype=F64)
    return Box(centre - radius, centre + radius)


def samples(box: Box, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    shares = torch.rand(count, *box.lower.shape, dtype=F64, generator=generator).round(decimals=1)
    return torch.lerp(box.lower, box.upper, shares).clamp(box.lower, box.upper)


def test_the_function_is_the_same() -> None:
    graph = attention()
    rewritten = with_score_differences(graph)
    x = samples(boxes(3.0), 20).flatten(0, 1)
    torch.testing.assert_close(rewritten(x), graph(x))
    assert not any(isinstance(node.op, Softmax) for node in rewritten.nodes)
    assert len({node.name for node in rewritten.nodes}) == len(rewritten.nodes)
    for node, value in zip(rewritten.nodes, rewritten.values(x), strict=True):
        assert tuple(value.shape[1:]) == node.shape


def test_long_softmaxes_and_none_are_left_alone() -> None:
    long, plain = attention(MOST_SCORES + 1), chain((2,), Relu())
    assert with_score_differences(long) is long
    assert with_score_differences(plain) is plain


def test_softmax_of_two_scores_by_hand() -> None:
    gap = torch.tensor([[math.log(3.0)]], dtype=F64)
    op = SoftmaxOfDifferences(2)
    torch.testing.assert_close(op(gap), torch.tensor([[0.25, 0.75]], dtype=F64))
    lower, upper = enclose(op, (-gap, gap))
    torch.testing.assert_close(lower, torch.tensor([[0.25, 0.25]], dtype=F64))
    torch.testing.assert_close(upper, torch.tensor([[0.75, 0.75]], dtype=F64))


@pytest.mark.parametrize("width", [0.0, 1e-9, 0.3, 4.0, 60.0, 900.0, torch.inf])
def test_planes_hold_whatever_the_coefficients(width: float) -> None:
    generator, op = torch.Generator().manual_seed(3), SoftmaxOfDifferences(4)
    i, j = torch.triu_indices(4, 4, 1)
    # scores within width / 4 of their centres have differences within width / 2 of theirs
    centre = torch.randn(5, 2, 4, generator=generator, dtype=F64)
    gap = centre[..., j] - centre[..., i]
    lower, upper = gap - width / 2, gap + width / 2
    relaxation = shares_of_differences(op, lower, upper, *enclose(op, (lower, upper)))
    coefficients = torch.randn(5, 7, 2, 4, generator=generator, dtype=F64)
    (pulled,), constants = relaxation.pull_back(coefficients, None)
    assert pulled is not None
    assert pulled.shape == (5, 7, 2, 6)
    if width == torch.inf:  # scores that may be NaN
        assert not torch.isfinite(constants).any()
        return
    assert torch.isfinite(constants).all()
    of_unit = relaxation.rounding([greatest((lower, upper)).flatten(1).amax(1)])
    lost = of_unit.unsqueeze(1) * coefficients.abs().flatten(2).sum(2)
    for _ in range(300):
        shares = torch.rand(5, 2, 4, generator=generator, dtype=F64).round(decimals=1)
        scores = centre + (shares - 0.5) * min(width, 1e3) / 2
        gaps = (scores[..., j] - scores[..., i]).clamp(lower, upper)
        value = (coefficients * op(gaps).unsqueeze(1)).flatten(2).sum(2)
        bound = (pulled * gaps.unsqueeze(1)).flatten(2).sum(2) + constants
        assert (bound - lost <= value).all()


Problem = tuple[Graph, Box, NodeBounds]


@pytest.fixture(scope="module", params=[0.05, 0.2, 1.0])
def problem(request: pytest.FixtureRequest) -> Problem:
    graph, box = with_score_differences(attention()), boxes(float(request.param))
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    return graph, box, bounds


def test_bounds_of_every_node_hold_and_optimised_ones_are_tighter(problem: Problem) -> None:
    graph, box, bounds = problem
    found = optimise_intermediate(
        graph, box, bounds, OptimiseSettings(iterations=5), MemoryBudget()
    )
    values = [graph.values(x) for x in samples(box, 200)]
    narrower = 0.0
    for place in bounds.lower:
        seen = torch.stack([value[place] for value in values])
        assert (seen >= found.lower[place]).all()
        assert (seen <= found.upper[place]).all()
        narrower += float((found.lower[place] - bounds.lower[place]).sum())
    assert narrower > 0


def test_margins_are_higher_than_with_scores_and_hold(problem: Problem) -> None:
    graph, box, bounds = problem
    spec = Specification.margins(torch.tensor([0, 1, 2, 0]), 3).to(F64)
    plain = attention()
    with_scores = crown_margins(
        plain,
        box,
        spec,
        crown_intermediate(plain, box, interval_bounds(plain, box), MemoryBudget()),
    ).lower
    usual = crown_margins(graph, box, spec, bounds).lower
    never = StopRule(torch.full((COUNT,), torch.inf))
    best, _ = optimise(graph, box, spec, bounds, OptimiseSettings(iterations=5), until=never)
    least = torch.stack([spec.values(graph(x)) for x in samples(box, 300)]).amin(0)
    assert (usual - with_scores).mean() > 0
    assert (best.lower >= usual - 1e-9).all()
    assert (best.lower <= least).all()
