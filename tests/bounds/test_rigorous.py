"""Float64 bounds hold in spite of rounding: compared with exact arithmetic, without a tolerance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from tests.exact_graph import exact_rows, exact_values, holds, of_function
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    interval_margins,
)
from verify_pipeline.bounds.interval.elementwise import elementwise_range
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.limits import AtLeast, Maximum
from verify_pipeline.network.ops import (
    FUNCTIONS,
    Add,
    AvgPool2d,
    Concat,
    Constant,
    Conv2d,
    Div,
    Elementwise,
    LeakyRelu,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Op,
    Relu,
    Reshape,
    Scale,
    Softmax,
    Sub,
    Sum,
    Transpose,
)
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
BUDGET = MemoryBudget(bytes=1 << 26)


class Writer:
    """Writes small networks with random weights of one scale.

    Args:
        seed: of the weights.
        scale: their size.
        shape: ``*X``.
    """

    def __init__(self, seed: int, scale: float, shape: tuple[int, ...]) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.scale, self.builder = scale, GraphBuilder(shape, dtype=F64)

    def weights(self, *shape: int) -> Tensor:
        """Float32 numbers, of very different digits, some of them 0."""
        values = torch.randn(*shape, generator=self.random, dtype=F64) * self.scale
        kept = torch.rand(*shape, generator=self.random) > 0.1
        return (values * kept).float().double()

    def add(self, op: Op, *inputs: int) -> int:
        """Add a node; return its index."""
        return self.builder.add(op, *inputs)

    def linear(self, source: int, outputs: int) -> int:
        """A linear layer of all inputs."""
        shape = self.builder.shape(source)
        if len(shape) > 1:
            source = self.add(Reshape((torch.Size(shape).numel(),)), source)
        inputs = self.builder.shape(source)[0]
        return self.add(Linear(self.weights(outputs, inputs), self.weights(outputs)), source)

    def conv(self, source: int, channels: int, padding: int = 1, groups: int = 1) -> int:
        """A convolution with 3 x 3 kernels."""
        inputs = self.builder.shape(source)[0] // groups
        weight, bias = self.weights(channels, inputs, 3, 3), self.weights(channels)
        op = Conv2d(weight, bias, padding=(padding, padding), groups=groups)
        return self.add(op, source)


def affine(w: Writer) -> None:
    w.linear(w.linear(w.linear(0, 4), 5), 3)


def relus(w: Writer) -> None:
    w.linear(w.add(Relu(), w.linear(w.add(LeakyRelu(0.1), w.linear(0, 5)), 4)), 3)


def convolutional(w: Writer) -> None:
    first = w.add(Relu(), w.conv(0, 4))
    second = w.add(Relu(), w.conv(first, 4, padding=0, groups=2))
    w.linear(w.add(AvgPool2d((2, 2), (2, 2)), second), 3)


def residual(w: Writer) -> None:
    first = w.add(Relu(), w.linear(0, 4))
    block = w.linear(w.add(Relu(), w.linear(first, 4)), 4)
    total = w.add(Add(), block, first)
    third = w.add(Sub(), total, w.add(Scale(w.weights(4), w.weights(4)), first))
    w.linear(w.add(Concat(0), third, total), 3)


def pooled(w: Writer) -> None:
    maxima = w.add(MaxPool2d((2, 2), (2, 2)), w.conv(0, 3))
    means = w.add(Mean((1, 2), keepdim=False), w.add(Transpose((0, 2, 1)), maxima))
    sums = w.add(Sum((1, 2), keepdim=False), maxima)
    w.linear(w.add(Maximum(), means, w.add(AtLeast(w.weights(3)), sums)), 3)


def products(w: Writer) -> None:
    left, right = w.linear(0, 4), w.linear(0, 4)
    product = w.add(Mul(), left, right)
    a = w.add(Reshape((2, 2)), left)
    b = w.add(Reshape((2, 2)), right)
    flat = w.add(Reshape((4,)), w.add(MatMul(), a, b))
    w.linear(w.add(Add(), product, w.add(Mul(), flat, w.add(Constant(w.weights(4)), 0))), 3)


def quotients(w: Writer) -> None:
    one = torch.ones((), dtype=F64)
    under = w.add(Scale(one, one), w.add(Relu(), w.linear(0, 4)))
    w.linear(w.add(Div(), w.linear(0, 4), under), 3)


def attention(w: Writer) -> None:
    scores = w.add(Softmax(1), w.add(Reshape((2, 3)), w.linear(0, 6)))
    values = w.add(Reshape((3, 2)), w.linear(0, 6))
    w.linear(w.add(MatMul(), scores, values), 3)


def smooth(name: str) -> Callable[[Writer], None]:
    def write(w: Writer) -> None:
        source = w.linear(0, 4)
        if name in ("sqrt", "log", "reciprocal"):
            one = torch.ones((), dtype=F64)
            source = w.add(Scale(one, one * 0.01), w.add(Elementwise("square"), source))
        w.linear(w.add(Elementwise(name), source), 3)

    return write


NETWORKS: dict[str, tuple[Callable[[Writer], None], tuple[int, ...], tuple[float, ...]]] = {
    "affine": (affine, (4,), (1e-30, 1.0, 1e8, 1e12)),
    "relus": (relus, (4,), (1e-30, 1e-8, 1.0, 1e4, 1e15)),
    "convolutional": (convolutional, (2, 5, 5), (1e-8, 1.0, 1e8)),
    "residual": (residual, (4,), (1e-8, 1.0, 1e8)),
    "pooled": (pooled, (1, 4, 4), (1e-8, 1.0, 1e8)),
    "products": (products, (4,), (1e-8, 1.0, 1e4)),
    "quotients": (quotients, (4,), (1e-4, 1.0, 1e4)),
    "attention": (attention, (4,), (1e-4, 1.0, 10.0)),
    **{name: (smooth(name), (3,), (1e-3, 1.0, 20.0)) for name in FUNCTIONS},
}

CASES = [(name, scale) for name, (_, _, scales) in NETWORKS.items() for scale in scales]


@dataclass(frozen=True)
class Case:
    """One network with boxes, and its specification."""

    graph: Graph
    box: Box
    spec: Specification


def cases(name: str, scale: float, count: int) -> Iterator[Case]:
    write, shape, _ = NETWORKS[name]
    for seed in range(count):
        writer = Writer(seed, scale, shape)
        write(writer)
        graph = writer.builder.build()
        centre = torch.rand(3, *shape, generator=writer.random, dtype=F64) * 2 - 1
        width = torch.tensor([0.0, 1e-9, 0.3], dtype=F64).view(-1, *(1,) * len(shape))
        rows = torch.randn(3, 4, 3, generator=writer.random, dtype=F64)
        offsets = torch.randn(3, 4, generator=writer.random, dtype=F64) * scale
        yield Case(graph, Box(centre - width, centre + width), Specification(rows, offsets))


def points(box: Box, corners: Tensor, random: torch.Generator) -> Tensor:
    """Points of each box, ``P x N x *X``: where linear bounds are least, corners, and others."""
    lower, upper = box.lower, box.upper
    shares = torch.rand(2, *lower.shape, generator=random, dtype=F64)
    inside = (lower + shares * (upper - lower)).clamp(lower, upper)
    mixed = torch.where(shares > 0.5, lower, upper)
    return torch.cat([corners.transpose(0, 1), inside, mixed])


def check(case: Case, bounds: NodeBounds, margins: Tensor, at: Tensor) -> None:
    for of_boxes in at:
        for n, point in enumerate(of_boxes):
            values = exact_values(case.graph, point)
            for place in bounds.lower:
                exact = values[place].flatten().tolist()
                assert holds(bounds.lower[place][n], exact), place
                assert holds(-bounds.upper[place][n], [-value for value in exact]), place
            rows = exact_rows(case.spec.rows[n], case.spec.offsets[n], values[-1])
            assert holds(margins[n], rows)


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_no_bound_exceeds_an_exact_value(name: str, scale: float) -> None:
    for case in cases(name, scale, count=1 if name == "convolutional" else 2):
        start = interval_bounds(case.graph, case.box)
        better = crown_intermediate(case.graph, case.box, start, BUDGET)
        by_crown = crown_margins(case.graph, case.box, case.spec, better)
        at = points(case.box, by_crown.corners(case.box), torch.Generator().manual_seed(0))
        check(case, start, interval_margins(case.graph, case.box, case.spec), at)
        check(case, better, by_crown.lower, at)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1.0, 1e8, 1e12])
def test_bounds_of_affine_networks_are_exact_up_to_some_roundings(scale: float) -> None:
    for case in cases("affine", scale, count=10):
        bounds = interval_bounds(case.graph, case.box)
        found = crown_margins(case.graph, case.box, case.spec, bounds)
        sizes = max(float(bounds.lower[len(bounds.lower) - 1].abs().amax()), scale)
        corners = found.corners(case.box)
        for n, s in ((n, s) for n in range(3) for s in range(4)):
            values = exact_values(case.graph, corners[n, s])
            exact = exact_rows(case.spec.rows[n], case.spec.offsets[n], values[-1])[s]
            lost = exact - Fraction(float(found.lower[n, s]))
            assert 0 <= lost <= Fraction(1e-12) * Fraction(sizes)


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_functions_lie_in_their_ranges(function: str) -> None:
    random = torch.Generator().manual_seed(1)
    sizes = 10 ** (torch.rand(300, generator=random, dtype=F64) * 8 - 5)
    x = sizes * torch.randn(300, generator=random, dtype=F64).sign()
    if function in ("sqrt", "log", "reciprocal"):
        x = x.abs()
    if function in ("exp",):
        x = x.clamp(max=80)
    low, high = elementwise_range(function, x, x)
    for number, below, above in zip(x.tolist(), low.tolist(), high.tolist(), strict=True):
        exact = of_function(function, Fraction(number))
        assert Fraction(below) <= exact <= Fraction(above), number
        assert above - below <= 1e-13 * (1 + abs(float(exact)) + abs(number))


def test_dead_neurons_stay_at_zero() -> None:
    builder = GraphBuilder((3,), dtype=F64)
    zero = builder.add(Linear(torch.zeros(2, 3, dtype=F64), torch.zeros(2, dtype=F64)), 0)
    dead = builder.add(Relu(), zero)
    builder.add(Linear(torch.randn(2, 2, dtype=F64)), dead)
    box = Box.around(torch.rand(1, 3, dtype=F64), 0.1)
    bounds = interval_bounds(builder.build(), box)
    for place in (1, 2, 3):
        assert not bounds.lower[place].any()
        assert not bounds.upper[place].any()


def tiny_weights(w: Writer) -> None:
    place = 0
    for factor in (1e-200, 1e-200, 1e200, 1e200):
        place = w.add(Linear(torch.full((1, 1), factor, dtype=F64), None), place)


def tiny_scales(w: Writer) -> None:
    place, zero = 0, torch.zeros(1, dtype=F64)
    for factor in (1e-200, 1e-200, 1e150, 1e150, 1e100):
        place = w.add(Scale(torch.full_like(zero, factor), zero), place)


def tiny_product(w: Writer) -> None:
    zero = torch.zeros(1, dtype=F64)
    row = w.add(Reshape((1, 1)), w.add(Scale(zero + 1e-165, zero), 0))
    place = w.add(Reshape((1,)), w.add(MatMul(), row, row))
    for factor in (1e38,) * 8:
        place = w.add(Linear(torch.full((1, 1), factor, dtype=F64), None), place)


@pytest.mark.parametrize("build", [tiny_weights, tiny_scales, tiny_product])
def test_what_is_lost_below_the_normal_range_counts(build: Callable[[Writer], None]) -> None:
    writer = Writer(0, 1.0, (1,))
    build(writer)
    graph = writer.builder.build()
    box = Box(torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64))
    spec = Specification(-torch.ones(1, 1, 1, dtype=F64), torch.full((1, 1), 1e-40, dtype=F64))
    exact = exact_values(graph, box.upper[0])[-1]
    (least,) = exact_rows(spec.rows[0], spec.offsets[0], exact)
    assert least < 0
    assert float(interval_margins(graph, box, spec)) <= least
