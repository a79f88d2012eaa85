"""A network without its softmax orders its outputs as the network does."""

from collections.abc import Callable

import pytest
import torch

from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    Elementwise,
    Linear,
    Relu,
    Reshape,
    Softmax,
    Sub,
    Sum,
)
from verify_pipeline.network.outputs import without_order_keeping_end


def network(*end: Callable[[GraphBuilder, int], int]) -> Graph:
    """Two layers and an end, 3 inputs to 4 outputs."""
    torch.manual_seed(3)
    b = GraphBuilder((3,))
    x = b.add(Relu(), b.add(Linear(torch.randn(5, 3), torch.randn(5)), 0))
    x = b.add(Linear(torch.randn(4, 5), torch.randn(4)), x)
    for step in end:
        x = step(b, x)
    return b.build(x)


def softmax(b: GraphBuilder, x: int) -> int:
    return b.add(Softmax(len(b.shape(x)) - 1), x)


def less_common(b: GraphBuilder, x: int) -> int:
    """As a file's log-softmax is read: its nodes have the names of its one output."""
    total = b.add(Sum((0,)), b.add(Elementwise("exp"), x, name="y"), name="y#2")
    return b.add(Sub(), x, b.add(Elementwise("log"), total, name="y#3"), name="y#4")


def plus_common(b: GraphBuilder, x: int) -> int:
    return b.add(Add(), b.add(Sum((0,)), x), x)


def row(b: GraphBuilder, x: int) -> int:
    return b.add(Reshape((1, 4)), x)


def flat(b: GraphBuilder, x: int) -> int:
    return b.add(Reshape((4,)), x)


def sigmoid(b: GraphBuilder, x: int) -> int:
    return b.add(Elementwise("sigmoid"), x)


ENDS = {
    "softmax": (softmax,),
    "softmax in a row": (row, softmax, flat),
    "log-softmax": (less_common,),
    "sigmoid, softmax": (sigmoid, softmax),
}


def spelled_out(b: GraphBuilder, x: int) -> int:
    """As ``less_common`` of several nodes of a file, whose exponential may overflow."""
    total = b.add(Sum((0,)), b.add(Elementwise("exp"), x))
    return b.add(Sub(), x, b.add(Elementwise("log"), total))


def exponential(b: GraphBuilder, x: int) -> int:
    return b.add(Elementwise("exp"), x)


@pytest.mark.parametrize("end", [plus_common, spelled_out, exponential])
def test_what_may_overflow_alone_is_needed(end: Callable[[GraphBuilder, int], int]) -> None:
    graph = network(end)
    assert without_order_keeping_end(graph) is graph


@pytest.mark.parametrize("name", ENDS)
def test_order_is_kept(name: str) -> None:
    graph = network(*ENDS[name])
    cut = without_order_keeping_end(graph)
    assert len(cut.nodes) < len(graph.nodes)
    x = torch.randn(200, 3)
    assert torch.equal(cut(x).argsort(1), graph(x).argsort(1))
    plain = network()
    assert torch.equal(cut(x), plain(x))
    assert cut.outputs == 4


def square(b: GraphBuilder, x: int) -> int:
    return b.add(Elementwise("square"), x)


def across(b: GraphBuilder, x: int) -> int:
    """A softmax over another axis than that of the outputs."""
    return b.add(Reshape((4,)), b.add(Softmax(0), b.add(Reshape((1, 4)), x)))


def of_two(b: GraphBuilder, x: int) -> int:
    return b.add(Reshape((4,)), b.add(Softmax(1), b.add(Reshape((2, 2)), x)))


def from_common(b: GraphBuilder, x: int) -> int:
    return b.add(Sub(), b.add(Sum((0,)), x), x)


@pytest.mark.parametrize("step", [square, across, of_two, from_common, flat])
def test_other_ends_stay(step: Callable[[GraphBuilder, int], int]) -> None:
    graph = network(step)
    assert without_order_keeping_end(graph) is graph
