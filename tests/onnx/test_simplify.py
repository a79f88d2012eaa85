"""Simplified graphs: fewer operations, the same function."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Elementwise,
    Gather,
    Linear,
    Mean,
    Mul,
    Op,
    Pad,
    Relu,
    Reshape,
    Scale,
    Slice,
    Sub,
    Transpose,
)
from verify_pipeline.onnx import network_from_module
from verify_pipeline.onnx.simplify import simplify


def scale_of(*shape: int) -> Scale:
    return Scale(torch.randn(shape), torch.randn(shape))


def conv(padding: int = 0, groups: int = 1) -> Conv2d:
    return Conv2d(
        torch.randn(4, 2 // groups, 3, 3), torch.randn(4), padding=(padding,) * 2, groups=groups
    )


def chain(shape: tuple[int, ...], *ops: Op) -> Graph:
    builder = GraphBuilder(shape)
    place = 0
    for op in ops:
        place = builder.add(op, place)
    return builder.build()


def operations(graph: Graph) -> list[str]:
    return [type(node.op).__name__ for node in graph.nodes[1:]]


def assert_same_function(before: Graph, after: Graph) -> None:
    x = torch.randn(3, *before.input_shape, dtype=torch.float64)
    torch.testing.assert_close(
        after.to(torch.float64)(x), before.to(torch.float64)(x), rtol=1e-12, atol=1e-12
    )
    for node, value in zip(after.nodes, after.to(torch.float64).values(x), strict=True):
        assert tuple(value.shape[1:]) == node.shape


IMAGE = (2, 6, 5)
VECTOR = (7,)

CHAINS: dict[str, tuple[tuple[int, ...], list[Op], list[str]]] = {
    "identity scale": (VECTOR, [Scale(torch.ones(()), torch.zeros(())), Relu()], ["Relu"]),
    "identity moves": (
        IMAGE,
        [Reshape(IMAGE), Transpose((0, 1, 2)), Pad((0, 0)), Slice(1, 0, 6), Relu()],
        ["Relu"],
    ),
    "identity gather": (VECTOR, [Gather(0, torch.arange(7)), Relu()], ["Relu"]),
    "other gather": (VECTOR, [Gather(0, torch.arange(7).flip(0)), Relu()], ["Gather", "Relu"]),
    "reshapes": (IMAGE, [Reshape((12, 5)), Reshape((60,))], ["Reshape"]),
    "transposes": (IMAGE, [Transpose((1, 2, 0)), Transpose((2, 1, 0))], ["Transpose"]),
    "inverse transposes": (IMAGE, [Transpose((1, 2, 0)), Transpose((2, 0, 1)), Relu()], ["Relu"]),
    "scales": (IMAGE, [scale_of(2, 1, 1), scale_of(6, 5)], ["Scale"]),
    "scale, linear": (VECTOR, [scale_of(7), Linear(torch.randn(3, 7))], ["Linear"]),
    "linear, scale": (VECTOR, [Linear(torch.randn(3, 7)), scale_of(3)], ["Linear"]),
    "linear of rows, scale of rows": (
        (4, 7),
        [Linear(torch.randn(3, 7)), scale_of(4, 1)],
        ["Linear", "Scale"],
    ),
    "scale of rows, linear of rows": (
        (4, 7),
        [scale_of(4, 1), Linear(torch.randn(3, 7))],
        ["Scale", "Linear"],
    ),
    "scale, conv": (IMAGE, [scale_of(2, 1, 1), conv()], ["Conv2d"]),
    "scale, grouped conv": (IMAGE, [scale_of(2, 1, 1), conv(groups=2)], ["Conv2d"]),
    "scale of pixels, conv": (IMAGE, [scale_of(6, 5), conv()], ["Scale", "Conv2d"]),
    "scale, padded conv": (IMAGE, [scale_of(2, 1, 1), conv(padding=1)], ["Scale", "Conv2d"]),
    "factor, padded conv": (
        IMAGE,
        [Scale(torch.randn(2, 1, 1), torch.zeros(2, 1, 1)), conv(padding=1)],
        ["Conv2d"],
    ),
    "conv, scale": (IMAGE, [conv(padding=1), scale_of(4, 1, 1)], ["Conv2d"]),
    "conv, scale by one number": (IMAGE, [conv(), scale_of()], ["Conv2d"]),
    "scale that grows": (VECTOR, [scale_of(3, 7), Linear(torch.randn(2, 7))], ["Scale", "Linear"]),
    "scale, flatten, linear": (
        IMAGE,
        [scale_of(2, 1, 1), Reshape((60,)), Linear(torch.randn(3, 60))],
        ["Reshape", "Linear"],
    ),
    "scale between transposes": (
        (4, 7),
        [Transpose((1, 0)), scale_of(7, 1), Transpose((1, 0)), Linear(torch.randn(3, 7))],
        ["Linear"],
    ),
    "transpose, flatten, linear": (
        IMAGE,
        [Transpose((1, 2, 0)), Reshape((60,)), Linear(torch.randn(3, 60))],
        ["Reshape", "Linear"],
    ),
    "linears that shrink": (
        VECTOR,
        [Linear(torch.randn(9, 7), torch.randn(9)), Linear(torch.randn(2, 9))],
        ["Linear"],
    ),
    "linears through few neurons": (
        VECTOR,
        [Linear(torch.randn(1, 7)), Linear(torch.randn(9, 1))],
        ["Linear", "Linear"],
    ),
    "even pad, conv": (IMAGE, [Pad((1, 1, 2, 2)), conv(padding=1)], ["Conv2d"]),
    "uneven pad, conv": (IMAGE, [Pad((1, 0)), conv()], ["Pad", "Conv2d"]),
    "pad of channels, conv": (
        (1, 6, 5),
        [Pad((0, 0, 0, 0, 1, 0)), conv()],
        ["Pad", "Conv2d"],
    ),
    "pad, average": (IMAGE, [Pad((1, 1, 1, 1)), AvgPool2d((3, 3), (2, 2))], ["AvgPool2d"]),
    "wide pad, average": (
        IMAGE,
        [Pad((2, 2, 2, 2)), AvgPool2d((3, 3), (2, 2))],
        ["Pad", "AvgPool2d"],
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name: str) -> None:
    shape, ops, expected = CHAINS[name]
    graph = chain(shape, *ops)
    simple = simplify(graph)
    assert operations(simple) == expected
    assert_same_function(graph, simple)
    assert simple.digest() == simple.to(torch.float64).digest()


def random_graph(seed: int) -> Graph:
    """Twelve random operations, each of a random recent value, the last three joined."""
    torch.manual_seed(seed)
    draw = random.Random(seed)
    builder = GraphBuilder((2, 4, 3))
    places = [0]
    for _ in range(12):
        place = draw.choice(places[-3:])
        shape = builder.shape(place)
        order = draw.sample(range(len(shape)), len(shape))
        ops: list[Op] = [
            Relu(),
            scale_of(*(draw.choice((1, size)) for size in shape)),
            scale_of(),
            Transpose(tuple(order)),
            Reshape((24,)),
            Reshape((2, 4, 3)),
            Linear(torch.randn(shape[-1], shape[-1]) / shape[-1], torch.randn(shape[-1])),
            Add(),
            Sub(),
        ]
        op = draw.choice(ops)
        alike = [other for other in places if builder.shape(other) == shape]
        second = [draw.choice(alike)] if isinstance(op, (Add, Sub)) else []
        places.append(builder.add(op, place, *second))
    flat = [builder.add(Reshape((24,)), place) for place in places[-3:]]
    return builder.build(builder.add(Concat(0), *flat))


@pytest.mark.parametrize("seed", range(100))
def test_random_graphs_keep_their_function(seed: int) -> None:
    graph = random_graph(seed)
    simple = simplify(graph)
    assert len(simple.nodes) <= len(graph.nodes)
    assert_same_function(graph, simple)


def test_what_others_use_stays() -> None:
    """A layer is not folded into one user while another still needs it as it was."""
    builder = GraphBuilder((7,))
    layer = builder.add(Linear(torch.randn(7, 7)), 0)
    scaled = builder.add(scale_of(7), layer)
    builder.add(Add(), scaled, layer)
    graph = builder.build()
    simple = simplify(graph)
    assert operations(simple) == ["Linear", "Scale", "Add"]
    assert_same_function(graph, simple)


def test_a_scale_joins_each_of_its_users() -> None:
    builder = GraphBuilder((7,))
    scaled = builder.add(scale_of(7), 0)
    left, right = (builder.add(Linear(torch.randn(3, 7)), scaled) for _ in range(2))
    builder.add(Add(), left, right)
    graph = builder.build()
    simple = simplify(graph)
    assert operations(simple) == ["Linear", "Linear", "Add"]
    assert_same_function(graph, simple)


def test_an_identity_at_the_end_leaves_the_node_before_it() -> None:
    simple = simplify(chain(VECTOR, Relu(), Reshape(VECTOR)))
    assert operations(simple) == ["Relu"]


def test_centring_is_linear() -> None:
    for shape, axes, expected in (
        ((4, 7), (1,), ["Linear"]),
        ((4, 7), (0,), ["Mean", "Sub"]),
        ((4, 2000), (1,), ["Mean", "Sub"]),
    ):
        builder = GraphBuilder(shape)
        mean = builder.add(Mean(axes), 0)
        builder.add(Sub(), 0, mean)
        graph = builder.build()
        simple = simplify(graph)
        assert operations(simple) == expected
        assert_same_function(graph, simple)


IN_FLOAT32 = float(torch.tensor(0.5**0.5))
"""1 / sqrt 2 as files have it, which is not the number that gelu has."""


def gelu_graph(factor: float, inside: float) -> Graph:
    """``(factor * x) * (1 + erf(inside * x))`` with x a scaled input."""

    def number(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64)

    builder = GraphBuilder((7,), dtype=torch.float64)
    x = builder.add(Scale(number(1.5), number(0)), 0)
    half = builder.add(Scale(number(factor), number(0)), x)
    argument = builder.add(Scale(number(inside), number(0)), x)
    erf = builder.add(Elementwise("erf"), argument)
    one_plus = builder.add(Scale(number(1), number(1)), erf)
    builder.add(Mul(), half, one_plus)
    return builder.build()


@pytest.mark.parametrize(
    ("factor", "inside", "expected"),
    [
        # float64 rounds 1 / sqrt 2 too, and the product with 1 keeps by how much
        (0.5, 0.5**0.5, ["Scale", "Elementwise", "Scale"]),
        (0.5, IN_FLOAT32, ["Scale", "Elementwise", "Scale"]),
        (0.7, 0.5**0.5, ["Scale", "Elementwise", "Scale"]),
        (0.5, 0.7, ["Scale", "Scale", "Scale", "Elementwise", "Scale", "Mul"]),
    ],
)
def test_gelu_is_recognised_and_nothing_else(
    factor: float, inside: float, expected: list[str]
) -> None:
    graph = gelu_graph(factor, inside)
    simple = simplify(graph)
    assert operations(simple) == expected
    assert_same_function(graph, simple)


class Residual(nn.Module):
    """``x + f(x)``."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.inner(x)
        return out


MODULES: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "gelu": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 2)),
        ["Linear", "Elementwise", "Linear"],
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 2)),
        ["Linear", "Elementwise", "Mean", "Scale", "Elementwise", "Div", "Linear"],
    ),
    "residual with batch norm": (
        lambda: nn.Sequential(
            nn.Linear(6, 4),
            Residual(nn.Sequential(nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4))),
            nn.Linear(4, 2),
        ),
        ["Linear", "Normalisation", "Relu", "Linear", "Add", "Linear"],
    ),
    "relu6": (
        lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU6(), nn.Linear(4, 2)),
        ["Linear", "Relu", "Scale", "AtLeast", "Linear"],
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_arrive_simple(name: str) -> None:
    torch.manual_seed(0)
    make, expected = MODULES[name]
    network = network_from_module(make(), (6,))
    assert operations(network.graph) == expected
    assert network.path is None


@pytest.mark.parametrize(
    ("module", "name"), [(nn.SiLU(), "silu"), (nn.Mish(), "mish"), (nn.ELU(), "elu")]
)
def test_what_a_file_spells_out_is_one_function(module: nn.Module, name: str) -> None:
    torch.manual_seed(0)
    network = network_from_module(nn.Sequential(nn.Linear(3, 4), module, nn.Linear(4, 2)), (3,))
    (smooth,) = [n.op for n in network.graph.nodes if isinstance(n.op, Elementwise)]
    assert smooth.function == name
    assert operations(network.graph) == ["Linear", "Elementwise", "Linear"]


def test_a_gate_on_another_input_stays_a_product() -> None:
    builder = GraphBuilder((3,))
    gate = builder.add(Elementwise("sigmoid"), builder.add(Linear(torch.randn(3, 3)), 0))
    builder.add(Mul(), 0, gate)
    assert operations(simplify(builder.build())) == ["Linear", "Elementwise", "Mul"]


@pytest.mark.parametrize("count", [2, 9, 14])
def test_factors_are_not_merged_to_what_float64_cannot_hold(count: int) -> None:
    small = [Scale(torch.tensor([1e-40]), torch.zeros(1)) for _ in range(count)]
    large = [Scale(torch.tensor([1e12]), torch.zeros(1)) for _ in range(count)]
    merged = [node.op for node in simplify(chain((1,), *small, *large)).nodes[1:]]
    product = Fraction(1)
    for op in merged:
        assert isinstance(op, Scale)
        assert abs(float(op.scale)) >= 2.0**-300
        product *= Fraction(float(op.scale))
    factors = (float(torch.tensor(1e-40)), float(torch.tensor(1e12)))
    exact = Fraction(factors[0]) ** count * Fraction(factors[1]) ** count
    assert abs(product / exact - 1) < Fraction(1, 10**12)
