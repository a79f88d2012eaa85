"""The networks over which every bounding method is tested: small, random, in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    crown_intermediate,
    interval_bounds,
    optimise_intermediate,
)
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Constant,
    Conv2d,
    Div,
    Elementwise,
    Gather,
    LeakyRelu,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Pad,
    Relu,
    Reshape,
    Scale,
    Slice,
    Softmax,
    Sub,
    Sum,
    Transpose,
)
from verify_pipeline.problem import Box, Specification


def _linear(out: int, into: int) -> Linear:
    return Linear(torch.randn(out, into) / into**0.5, torch.randn(out) * 0.1)


def _conv(
    out: int,
    into: int,
    kernel: int,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Conv2d:
    weight = torch.randn(out, into // groups, kernel, kernel) / (into * kernel**2) ** 0.5
    steps = ((stride, stride), (padding, padding), (dilation, dilation))
    return Conv2d(weight * 1.5, torch.randn(out) * 0.1, *steps, groups)


def _affine() -> Graph:
    b = GraphBuilder((2, 6, 6))
    x = b.add(Scale(torch.rand(2, 1, 1) + 0.5, torch.randn(2, 1, 1)), 0)
    y = b.add(_conv(4, 2, 3, stride=2, padding=1), x)
    z = b.add(AvgPool2d((2, 2), (2, 2)), x)
    y = b.add(Concat(0), y, z)
    y = b.add(Sub(), y, b.add(Constant(torch.randn(6, 3, 3)), 0))
    y = b.add(Add(), y, b.add(Mean((1, 2)), y))
    y = b.add(Reshape((9, 6)), b.add(Transpose((1, 2, 0)), y))
    y = b.add(Sum((0,), keepdim=False), b.add(_linear(5, 6), y))
    return b.build(b.add(_linear(3, 5), y))


def _mlp() -> Graph:
    b = GraphBuilder((5,))
    x = b.add(Relu(), b.add(_linear(12, 5), 0))
    x = b.add(Relu(), b.add(_linear(10, 12), x))
    x = b.add(Relu(), b.add(_linear(8, 10), x))
    return b.build(b.add(_linear(4, 8), x))


def _conv_strides() -> Graph:
    b = GraphBuilder((2, 8, 7))
    x = b.add(Relu(), b.add(_conv(4, 2, 3, stride=2, padding=1), 0))
    x = b.add(Relu(), b.add(_conv(4, 4, 2, dilation=2, groups=2), x))
    x = b.add(Relu(), b.add(_conv(3, 4, 2, stride=1, padding=1), x))
    x = b.add(Reshape((b.shape(x)[0] * b.shape(x)[1] * b.shape(x)[2],)), x)
    return b.build(b.add(_linear(3, b.shape(x)[0]), x))


def _residual() -> Graph:
    b = GraphBuilder((2, 5, 5))
    x = b.add(Relu(), b.add(_conv(3, 2, 3, padding=1), 0))
    y = b.add(Relu(), b.add(_conv(4, 3, 3, stride=2, padding=1), x))
    y = b.add(_conv(4, 4, 3, padding=1), y)
    y = b.add(Relu(), b.add(Add(), y, b.add(_conv(4, 3, 1, stride=2), x)))
    y = b.add(Relu(), b.add(Add(), b.add(_conv(4, 4, 3, padding=1), y), y))
    y = b.add(Mean((1, 2), keepdim=False), y)
    return b.build(b.add(_linear(3, 4), y))


def _pools() -> Graph:
    b = GraphBuilder((1, 9, 9))
    x = b.add(LeakyRelu(0.1), b.add(_conv(3, 1, 3, padding=1), 0))
    x = b.add(MaxPool2d((3, 3), (2, 2), (1, 1)), x)
    x = b.add(Relu(), b.add(_conv(3, 3, 2), x))
    x = b.add(MaxPool2d((2, 3), (2, 2), ceil_mode=True), x)
    x = b.add(AvgPool2d((2, 1), (1, 1), (1, 0)), x)
    x = b.add(Reshape((18,)), x)
    return b.build(b.add(_linear(3, 18), x))


def _pieces() -> Graph:
    b = GraphBuilder((3, 4))
    x = b.add(Relu(), b.add(_linear(6, 4), 0))
    even, odd = b.add(Slice(1, 0, 6, 2), x), b.add(Slice(1, 1, 6, 2), x)
    y = b.add(Sub(), even, b.add(Transpose((1, 0)), odd))
    y = b.add(LeakyRelu(0.2), b.add(Pad((1, 0, 0, 1)), y))
    z = b.add(Gather(0, torch.tensor([2, 0, 2])), y)
    z = b.add(Concat(0), y, z)
    z = b.add(Relu(), b.add(Sum((1,), keepdim=False), z))
    last = b.add(Gather(0, torch.tensor(1)), z)
    z = b.add(Add(), z, b.add(Reshape((1,)), last))
    return b.build(b.add(_linear(3, 7), z))


def _attention() -> Graph:
    b = GraphBuilder((4, 6))
    queries, keys, values = (b.add(_linear(3, 6), 0) for _ in range(3))
    scores = b.add(MatMul(), queries, b.add(Transpose((1, 0)), keys))
    mixed = b.add(MatMul(), b.add(Softmax(1), scores), values)
    centred = b.add(Sub(), mixed, b.add(Mean((1,)), mixed))
    variance = b.add(Mean((1,)), b.add(Elementwise("square"), centred))
    shifted = b.add(Scale(torch.ones(1), torch.full((1,), 0.5)), variance)
    normed = b.add(Div(), centred, b.add(Elementwise("sqrt"), shifted))
    y = b.add(Elementwise("gelu"), b.add(_linear(5, 3), normed))
    y = b.add(Mul(), y, b.add(Elementwise("sigmoid"), y))
    y = b.add(Reshape((20,)), y)
    return b.build(b.add(_linear(3, 20), y))


def _smooth() -> Graph:
    b = GraphBuilder((4,))
    x = b.add(Elementwise("tanh"), b.add(_linear(6, 4), 0))
    y = b.add(Elementwise("softplus"), b.add(_linear(6, 6), x))
    y = b.add(Mul(), y, b.add(Elementwise("reciprocal"), b.add(Elementwise("exp"), x)))
    y = b.add(Relu(), b.add(_linear(5, 6), b.add(Elementwise("sin"), y)))
    return b.build(b.add(Elementwise("erf"), b.add(_linear(3, 5), y)))


NETWORKS: dict[str, Callable[[], Graph]] = {
    "affine": _affine,
    "mlp": _mlp,
    "conv-strides": _conv_strides,
    "residual": _residual,
    "pools": _pools,
    "pieces": _pieces,
    "attention": _attention,
    "smooth": _smooth,
}
PIECEWISE = ("mlp", "conv-strides", "residual", "pools", "pieces")


class Case:
    """A network with three boxes, of growing size, and a specification for each."""

    def __init__(self, name: str) -> None:
        torch.manual_seed(sum(map(ord, name)))
        self.graph = NETWORKS[name]().to(torch.float64)
        center = torch.rand(3, *self.graph.input_shape, dtype=torch.float64)
        sizes = torch.tensor([0.02, 0.1, 0.3], dtype=torch.float64)
        self.box = Box.around(
            center, sizes.view(-1, *(1 for _ in self.graph.input_shape)), clip=None
        )
        rows = torch.randn(3, 4, self.graph.outputs, dtype=torch.float64)
        self.spec = Specification(rows, torch.randn(3, 4, dtype=torch.float64) * 0.1)

    def points(self, count: int = 10_000) -> Tensor:
        """``count x 3 x *X`` points: corners, points of faces, points within; float64."""
        share = torch.rand(count, *self.box.lower.shape, dtype=torch.float64)
        share[: count // 2] = share[: count // 2].round()
        mixed = share[count // 2 : 3 * count // 4]
        share[count // 2 : 3 * count // 4] = (mixed * 2 - 0.5).clamp(0, 1)
        points = self.box.lower + (self.box.upper - self.box.lower) * share
        return torch.minimum(torch.maximum(points, self.box.lower), self.box.upper)

    def values(self, points: Tensor) -> list[Tensor]:
        """Every node's value at the points, each ``count x 3 x *V``."""
        flat = self.graph.values(points.flatten(0, 1))
        return [value.unflatten(0, points.shape[:2]) for value in flat]

    def margins(self, points: Tensor) -> Tensor:
        """Margins ``count x 3 x S`` at the points."""
        outputs = self.values(points)[-1]
        return torch.einsum("nsk,cnk->cns", self.spec.rows, outputs) + self.spec.offsets


def node_bounds(method: str, graph: Graph, box: Box, settings: OptimiseSettings) -> NodeBounds:
    """Bounds of all nodes by ``interval``, ``crown``, or ``alpha``, which is optimised CROWN."""
    bounds, budget = interval_bounds(graph, box), MemoryBudget(bytes=1 << 22)
    if method != "interval":
        bounds = crown_intermediate(graph, box, bounds, budget)
    if method == "alpha":
        bounds = optimise_intermediate(graph, box, bounds, settings, budget)
    return bounds
