"""Bounds of networks drawn at random: layers, strides, branches, boxes and splits."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    OptimiseSettings,
    Splits,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    interval_margins,
    optimise,
    optimise_intermediate,
)
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Elementwise,
    LeakyRelu,
    Linear,
    MaxPool2d,
    Relu,
    Reshape,
    Scale,
)
from verify_pipeline.problem import Box, Specification

ACTIVATIONS = (Relu(), Relu(), LeakyRelu(0.3), Elementwise("tanh"))
BUDGET = MemoryBudget(bytes=1 << 18)
SETTINGS = OptimiseSettings(iterations=3)


def convolution(draw: st.DrawFn, b: GraphBuilder, x: int) -> int:
    channels, height, width = b.shape(x)
    groups = draw(st.sampled_from([1, channels]))
    out = groups * draw(st.integers(1, 2))
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    padding = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    weight = torch.randn(out, channels // groups, *kernel)
    fits = height + 2 * padding[0] >= kernel[0] and width + 2 * padding[1] >= kernel[1]
    if not fits:
        return x
    return b.add(Conv2d(weight, torch.randn(out), stride, padding, (1, 1), groups), x)


def block(draw: st.DrawFn, b: GraphBuilder, x: int) -> int:
    kind = draw(st.sampled_from(["conv", "conv", "residual", "concat", "scale", "max", "average"]))
    channels, height, width = b.shape(x)
    small = min(height, width) < 2
    if kind == "scale":
        return b.add(Scale(torch.randn(channels, 1, 1), torch.randn(channels, 1, 1)), x)
    if kind in ("max", "average") and not small:
        pool = MaxPool2d if kind == "max" else AvgPool2d
        return b.add(pool((2, 2), (2, 1), (1, 0)), x)
    if kind in ("residual", "concat"):
        same = Conv2d(torch.randn(channels, channels, 3, 3), None, (1, 1), (1, 1))
        branch = b.add(same, b.add(draw(st.sampled_from(ACTIVATIONS)), b.add(same, x)))
        return b.add(Add() if kind == "residual" else Concat(0), branch, x)
    return b.add(draw(st.sampled_from(ACTIVATIONS)), convolution(draw, b, x))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    torch.manual_seed(draw(st.integers(0, 2**31)))
    b = GraphBuilder((draw(st.integers(1, 2)), draw(st.integers(4, 9)), draw(st.integers(4, 9))))
    x = 0
    for _ in range(draw(st.integers(1, 4))):
        x = block(draw, b, x)
    x = b.add(Reshape((torch.Size(b.shape(x)).numel(),)), x)
    x = b.add(Linear(torch.randn(6, *b.shape(x)) / b.shape(x)[0] ** 0.5, torch.randn(6)), x)
    return b.build(b.add(Linear(torch.randn(3, 6)), b.add(Relu(), x))).to(torch.float64)


def samples(box: Box, count: int) -> Tensor:
    share = torch.rand(count, *box.lower.shape, dtype=torch.float64)
    share[: count // 2] = share[: count // 2].round()
    return (box.lower + (box.upper - box.lower) * share).clamp(box.lower, box.upper)


@given(graphs(), st.sampled_from([0.0, 0.01, 0.1, 0.5]))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_all_bounds_hold_for_samples(graph: Graph, epsilon: float) -> None:
    box = Box.around(torch.rand(2, *graph.input_shape, dtype=torch.float64), epsilon)
    spec = Specification.margins(torch.tensor([0, 2]), 3, torch.float64)
    start = interval_bounds(graph, box)
    crown = crown_intermediate(graph, box, start, BUDGET)
    best = optimise_intermediate(graph, box, start, SETTINGS, BUDGET)
    points = samples(box, 200)
    values = [v.unflatten(0, (200, 2)) for v in graph.values(points.flatten(0, 1))]
    for bounds in (start, crown, best):
        for place, value in enumerate(values):
            assert (value >= bounds.lower[place]).all()
            assert (value <= bounds.upper[place]).all()
    margins = torch.einsum("nsk,cnk->cns", spec.rows, values[-1])
    assert (margins >= interval_margins(graph, box, spec)).all()
    for bounds in (crown, best):
        assert (margins >= crown_margins(graph, box, spec, bounds).lower).all()

    splits: Splits = {}
    obey = torch.ones(200, 2, dtype=torch.bool)
    for place, node in enumerate(graph.nodes):
        if isinstance(node.op, (Relu, LeakyRelu)):
            z = values[node.inputs[0]]
            chosen = torch.rand_like(z[-1]) < 0.1
            splits[place] = (z[-1].sign() * chosen).to(torch.int8)
            obey &= (z * splits[place] >= 0).flatten(2).all(2)
    assert obey[-1].all()
    found, multipliers = optimise(graph, box, spec, crown, SETTINGS, splits)
    again = crown_margins(graph, box, spec, crown, multipliers, splits)
    for lower in (found.lower, again.lower):
        assert (margins >= lower)[obey].all()
