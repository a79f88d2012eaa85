"""A neuron's own network computes the neuron, and bounds it as the whole network does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from verify_pipeline.bounds import MemoryBudget, interval_bounds
from verify_pipeline.bounds.intermediate.receptive_field import receptive_field
from verify_pipeline.bounds.intermediate.tighten import crown_intermediate
from verify_pipeline.bounds.intermediate.windows import Windows
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.maxima import without_max_pooling
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Elementwise,
    LeakyRelu,
    Linear,
    MaxPool2d,
    Op,
    Relu,
    Reshape,
    Scale,
    Sub,
    size,
)
from verify_pipeline.problem import Box

F64 = torch.float64


def conv(
    out: int, into: int, kernel: int, stride: int = 1, padding: int = 0, **more: Any
) -> Conv2d:
    weight = torch.randn(out, into // more.get("groups", 1), kernel, kernel)
    return Conv2d(weight / kernel, torch.randn(out), (stride,) * 2, (padding,) * 2, **more)


def stack() -> Graph:
    b = GraphBuilder((2, 18, 16))
    x = b.add(Scale(torch.rand(2, 1, 1) + 0.5, torch.randn(2, 1, 1)), 0)
    x = b.add(Relu(), b.add(conv(4, 2, 3, 2, 1), x))
    x = b.add(LeakyRelu(0.25), b.add(conv(4, 4, 3, 1, 1, groups=2), x))
    return b.build(b.add(conv(2, 4, 2, dilation=(2, 2)), x))


def without_activations() -> Graph:
    b = GraphBuilder((1, 20, 20))
    x = b.add(conv(3, 1, 3, 1, 1), b.add(Scale(torch.ones(1), torch.ones(1)), 0))
    x = b.add(AvgPool2d((2, 2), (2, 2), (1, 1)), b.add(conv(3, 3, 3, 1, 1), x))
    x = b.add(Relu(), b.add(conv(4, 3, 3, 1, 1), x))
    return b.build(b.add(conv(2, 4, 3, 1, 1), x))


def branches() -> Graph:
    b = GraphBuilder((2, 16, 17))
    x = b.add(Relu(), b.add(conv(3, 2, 3, 1, 1), 0))
    wide = b.add(Relu(), b.add(conv(3, 3, 3, 2, 1), x))
    wide = b.add(conv(3, 3, 3, 1, 1), wide)
    narrow = b.add(conv(3, 3, 1, 2), x)
    y = b.add(Elementwise("sigmoid"), b.add(Sub(), b.add(Add(), wide, narrow), narrow))
    wide = b.add(Elementwise("gelu"), wide)
    return b.build(b.add(conv(3, 6, 3, 1, 1), b.add(Concat(0), y, wide)))


def pooled() -> Graph:
    b = GraphBuilder((2, 17, 17))
    x = b.add(MaxPool2d((2, 2), (2, 2)), b.add(conv(3, 2, 3, 1, 1), 0))
    x = b.add(MaxPool2d((3, 2), (1, 1)), b.add(conv(2, 3, 3, 1, 1), x))
    return without_max_pooling(b.build(b.add(conv(2, 2, 2), x)))


def extended(graph: Graph, before: Sequence[Op], after: Sequence[Op]) -> Graph:
    """The network between operations of one input each."""
    builder, place = GraphBuilder(graph.input_shape, dtype=F64), 0
    for op in before:
        place = builder.add(op, place)
    places = [place]
    for node in graph.nodes[1:]:
        places.append(builder.add(node.op, *(places[i] for i in node.inputs)))
    place = places[-1]
    for op in after:
        place = builder.add(op, place)
    return builder.build(place)


@pytest.mark.parametrize("make", [stack, without_activations, branches, pooled])
def test_bounds_are_those_of_the_whole_network(make: Callable[[], Graph]) -> None:
    """Behind a dense layer, which is the identity here, every neuron sees the whole input."""
    torch.manual_seed(3)
    graph = make().to(F64)
    # one more ReLU, so that the last plane is asked for
    after = Relu(), Reshape((size(graph.nodes[-1].shape),))
    inputs = size(graph.input_shape)
    dense = Reshape((inputs,)), Linear(torch.eye(inputs, dtype=F64)), Reshape(graph.input_shape)
    local, whole = extended(graph, (), after), extended(graph, dense, after)
    for place in range(1, len(graph.nodes)):
        assert receptive_field(local, place) is not None
        assert receptive_field(whole, place + len(dense)) is None

    box = Box.around(torch.rand(3, *graph.input_shape, dtype=F64), 0.05)
    start, budget = interval_bounds(local, box), MemoryBudget(bytes=1 << 20)
    found = crown_intermediate(local, box, start, budget)
    expected = crown_intermediate(whole, box, interval_bounds(whole, box), MemoryBudget())
    moved = 0
    for place in range(1, len(graph.nodes)):
        for one, other in ((found.lower, expected.lower), (found.upper, expected.upper)):
            same = other[place + len(dense)]
            # sums over the whole network allow for the rounding of more terms
            torch.testing.assert_close(one[place], same, atol=1e-10, rtol=0)
        moved += int((found.lower[place] > start.lower[place] + 1e-9).sum())
    assert moved > 0


def test_windows_are_cut_with_zeros_outside() -> None:
    plane = torch.arange(12.0).view(1, 1, 3, 4)
    view = Windows(extent=(2, 3), step=(2, 1), start=(-1, -1))
    which, y, x = torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0, 3])
    cut = view.cut(plane, (2, 4), which, y, x)
    assert cut[0, 0].tolist() == [[0, 0, 0], [0, 0, 1]]
    assert cut[1, 0].tolist() == [[6, 7, 0], [10, 11, 0]]


def test_views_grow_through_convolutions() -> None:
    view = Windows().through((3, 3), (2, 2), (1, 1), (1, 1))
    assert view == Windows((3, 3), (2, 2), (-1, -1))
    assert view.through((2, 3), (1, 2), (0, 1), (2, 1)) == Windows((5, 7), (2, 4), (-1, -3))
    assert view.union(Windows((1, 1), (2, 2), (0, 4))) == Windows((3, 6), (2, 2), (-1, -1))
    assert view.union(Windows((1, 1), (1, 1), (0, 0))) is None


def test_what_is_not_local_is_left_whole() -> None:
    b = GraphBuilder((1, 30, 30))
    x = b.add(MaxPool2d((2, 2), (2, 2)), b.add(Relu(), b.add(conv(2, 1, 3, 1, 1), 0)))
    y = b.add(Relu(), b.add(conv(2, 2, 3, 1, 1), x))
    y = b.add(Linear(torch.randn(4, 15)), y)
    graph = b.build(y)
    assert receptive_field(graph, 4) is None
    assert receptive_field(graph, len(graph.nodes) - 1) is None
    assert receptive_field(graph, 1) is not None


def test_a_view_of_nearly_everything_is_not_cut_out() -> None:
    b = GraphBuilder((1, 4, 4))
    x = b.add(Relu(), b.add(conv(2, 1, 3, 1, 1), 0))
    graph = b.build(b.add(conv(2, 2, 3, 1, 1), x))
    assert receptive_field(graph, 3) is None
