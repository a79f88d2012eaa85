"""Max pooling written with ReLU computes the same, and is bounded no worse where it is split."""

from __future__ import annotations

import pytest
import torch

from tests.networks_by_hand import chain
from verify_pipeline.bounds import (
    MemoryBudget,
    Splits,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    optimise,
)
from verify_pipeline.bounds.types import OptimiseSettings
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.maxima import greater_of, without_max_pooling
from verify_pipeline.network.ops import Add, Conv2d, Linear, MaxPool2d, Relu, Reshape, Sub
from verify_pipeline.problem import Box, Specification

POOLS = {
    "plain": MaxPool2d((2, 2), (2, 2)),
    "overlapping": MaxPool2d((3, 2), (1, 2)),
    "padded": MaxPool2d((3, 3), (2, 2), (1, 1)),
    "dilated": MaxPool2d((2, 2), (1, 1), (0, 0), (2, 3)),
    "ceiling": MaxPool2d((2, 2), (2, 2), (0, 0), (1, 1), True),
    "padded ceiling": MaxPool2d((3, 2), (2, 3), (1, 1), (1, 1), True),
    "one": MaxPool2d((1, 1), (2, 2)),
}


def network(pool: MaxPool2d) -> Graph:
    torch.manual_seed(5)
    b = GraphBuilder((1, 7, 8))
    x = b.add(pool, b.add(Conv2d(torch.randn(2, 1, 3, 3), torch.randn(2), (1, 1), (1, 1)), 0))
    x = b.add(Reshape((torch.Size(b.shape(x)).numel(),)), x)
    x = b.add(Relu(), b.add(Linear(torch.randn(5, *b.shape(x)) / 3, torch.randn(5)), x))
    return b.build(b.add(Linear(torch.randn(3, 5)), x))


@pytest.mark.parametrize("name", POOLS)
def test_the_function_is_the_same(name: str) -> None:
    graph = network(POOLS[name])
    rewritten = without_max_pooling(graph)
    assert not any(isinstance(node.op, MaxPool2d) for node in rewritten.nodes)
    x = torch.randn(20, 1, 7, 8)
    torch.testing.assert_close(rewritten(x), graph(x))
    for node, value in zip(rewritten.nodes, rewritten.values(x), strict=True):
        assert tuple(value.shape[1:]) == node.shape


def test_a_graph_without_max_pooling_is_left_alone() -> None:
    graph = chain((2,), Relu())
    assert without_max_pooling(graph) is graph


@pytest.mark.parametrize("name", ["plain", "padded"])
def test_splitting_every_comparison_makes_the_bounds_exact(name: str) -> None:
    graph = without_max_pooling(network(POOLS[name])).to(torch.float64)
    point = torch.rand(1, 1, 7, 8, dtype=torch.float64)
    box = Box.around(point, 0.05)
    spec = Specification.margins(torch.tensor([1]), 3, torch.float64)
    bounds = interval_bounds(graph, box)
    bounds = crown_intermediate(graph, box, bounds, MemoryBudget(bytes=1 << 22))
    values = graph.values(point)
    splits: Splits = {
        place: torch.where(values[node.inputs[0]] >= 0, 1, -1).to(torch.int8)
        for place, node in enumerate(graph.nodes)
        if isinstance(node.op, Relu)
    }
    found, _ = optimise(graph, box, spec, bounds, OptimiseSettings(iterations=5), splits)
    # within the linear piece of the point the bound is a linear function's: at the point it is met
    at_point = (found.coefficients * point.unsqueeze(1)).flatten(2).sum(2) + found.constants
    plain = crown_margins(graph, box, spec, bounds, splits=splits)
    at_plain = (plain.coefficients * point.unsqueeze(1)).flatten(2).sum(2) + plain.constants
    torch.testing.assert_close(at_plain, spec.values(values[-1]))
    assert (at_point <= at_plain + 1e-9).all()


@pytest.mark.parametrize("name", POOLS)
def test_intervals_are_those_of_the_pooling(name: str) -> None:
    graph = network(POOLS[name]).to(torch.float64)
    rewritten = without_max_pooling(graph)
    box = Box.around(torch.rand(2, 1, 7, 8, dtype=torch.float64), 0.1)
    for bounds in ("lower", "upper"):
        expected = getattr(interval_bounds(graph, box), bounds)[len(graph.nodes) - 1]
        found = getattr(interval_bounds(rewritten, box), bounds)[len(rewritten.nodes) - 1]
        torch.testing.assert_close(found, expected)


def test_crown_is_tighter_than_of_the_pooling_whole() -> None:
    graph = network(POOLS["plain"]).to(torch.float64)
    box = Box.around(torch.rand(4, 1, 7, 8, dtype=torch.float64), 0.1)
    spec = Specification.margins(torch.tensor([0, 1, 2, 0]), 3, torch.float64)
    lower = []
    for each in (graph, without_max_pooling(graph)):
        bounds = interval_bounds(each, box)
        bounds = crown_intermediate(each, box, bounds, MemoryBudget(bytes=1 << 22))
        lower.append(crown_margins(each, box, spec, bounds).lower)
    assert lower[1].mean() > lower[0].mean()


def test_other_sums_are_no_maxima() -> None:
    b = GraphBuilder((2,))
    gap = b.add(Sub(), 0, b.add(Linear(torch.eye(2)), 0))
    relu = b.add(Relu(), gap)
    graph = b.build(b.add(Add(), b.add(Add(), 0, relu), b.add(Add(), 1, relu)))
    kinds = {p: greater_of(graph, p) for p in range(len(graph.nodes))}
    assert [p for p, pair in kinds.items() if pair is not None] == [5]
    assert kinds[5] == (0, 1)
