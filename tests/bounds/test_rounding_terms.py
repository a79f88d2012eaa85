"""Each rounding term is needed: sums that lose many summands, and lines at the points they touch.

In float64, ``1 + 2^-54 = 1``. A sum of 1 and thousands of such numbers loses most of them in any
order of summation that torch uses, and its exact value differs by hundreds of roundings.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from tests.exact_graph import exact_rows, exact_values, of_function
from verify_pipeline.bounds import (
    HalfspaceBox,
    crown_margins,
    interval_bounds,
    interval_margins,
)
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.bounds.linear.backward import concretise
from verify_pipeline.bounds.relaxations.bilinear import ELEMENTWISE, product
from verify_pipeline.bounds.relaxations.relu import lines
from verify_pipeline.bounds.relaxations.smooth import SLOPES, curve
from verify_pipeline.bounds.relaxations.softmax import shares
from verify_pipeline.bounds.relaxations.tangents import Tangents, tangents
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Conv2d,
    Linear,
    MatMul,
    Mean,
    Mul,
    Op,
    Relu,
    Reshape,
    Scale,
    Softmax,
    Sub,
    Sum,
)
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
LOST = 2.0**-54
MANY = 4096


def summands(count: int = MANY) -> Tensor:
    """1, and numbers that a sum with it loses."""
    values = torch.full((count,), LOST, dtype=F64)
    values[0] = 1.0
    return values


def at(*numbers: float, shape: tuple[int, ...]) -> Box:
    """The boxes that contain one point each, all of whose elements are the number."""
    points = torch.stack([torch.full(shape, number, dtype=F64) for number in numbers])
    return Box(points, points.clone())


def margin(sign: float, boxes: int) -> Specification:
    """The only output, or its negation, for so many boxes."""
    rows = torch.full((boxes, 1, 1), sign, dtype=F64)
    return Specification(rows, torch.zeros(boxes, 1, dtype=F64))


@torch.no_grad()
def check(graph: Graph, box: Box) -> None:
    """Both bounds of the output and of its negation are at most the exact values."""
    bounds = interval_bounds(graph, box)
    for sign in (1.0, -1.0):
        spec = margin(sign, len(box))
        by_intervals = interval_margins(graph, box, spec)
        by_crown = crown_margins(graph, box, spec, bounds).lower
        for n in range(len(box)):
            values = exact_values(graph, box.lower[n])
            (exact,) = exact_rows(spec.rows[n], spec.offsets[n], values[-1])
            assert Fraction(float(by_intervals[n])) <= exact
            assert Fraction(float(by_crown[n])) <= exact
            for place, node in enumerate(graph.nodes):
                if len(values[place].flatten()) <= 4:
                    for number, low, high in zip(
                        values[place].flatten(),
                        bounds.lower[place][n].flatten().tolist(),
                        bounds.upper[place][n].flatten().tolist(),
                        strict=True,
                    ):
                        assert Fraction(low) <= number <= Fraction(high), node


def built(shape: tuple[int, ...], *ops: Op) -> Graph:
    """A chain of operations."""
    builder, place = GraphBuilder(shape, dtype=F64), 0
    for op in ops:
        place = builder.add(op, place)
    return builder.build()


def wide() -> Linear:
    """A sum of all of its inputs."""
    return Linear(torch.ones(1, MANY, dtype=F64))


CHAINS: dict[str, tuple[tuple[int, ...], tuple[Op, ...]]] = {
    "minimum over the box": ((MANY,), (Linear(summands().unsqueeze(0)),)),
    "adjoint of a linear layer": ((1,), (Linear(summands().unsqueeze(1)), wide())),
    "constants of a linear layer": (
        (1,),
        (Linear(torch.zeros(MANY, 1, dtype=F64), summands()), wide()),
    ),
    "convolution": (
        (1, 1, MANY),
        (Conv2d(summands().view(1, 1, 1, -1)), Reshape((1,))),
    ),
    "adjoint of a convolution": (
        (1, 1, 1),
        (Conv2d(summands().view(-1, 1, 1, 1)), Reshape((MANY,)), wide()),
    ),
    "sum": ((MANY,), (Scale(summands(), torch.zeros(MANY, dtype=F64)), Sum((0,)))),
    "mean": ((MANY,), (Scale(summands(), torch.zeros(MANY, dtype=F64)), Mean((0,)))),
    "pooling": (
        (1, 64, 64),
        (
            Scale(summands().view(1, 64, 64), torch.zeros((), dtype=F64)),
            AvgPool2d((64, 64), (64, 64)),
            Reshape((1,)),
        ),
    ),
    "shifts of a scale": (
        (1,),
        (Scale(torch.zeros(MANY, dtype=F64), summands()), wide()),
    ),
    "one scale that broadcasts": (
        (1,),
        (Scale(summands(), torch.zeros(MANY, dtype=F64)), wide()),
    ),
    "constants of many layers": (
        (1,),
        (
            Scale(torch.ones(1, dtype=F64), torch.ones(1, dtype=F64)),
            *[Scale(torch.ones(1, dtype=F64), torch.full((1,), LOST, dtype=F64))] * 60,
        ),
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_sums_that_lose_summands(name: str) -> None:
    shape, ops = CHAINS[name]
    check(built(shape, *ops), at(1.0, -1.0, 0.3, -1e-3, shape=shape))


@pytest.mark.parametrize("op", [Add(), Sub()], ids=["add", "sub"])
def test_sums_of_functionals(op: Op) -> None:
    builder = GraphBuilder((1,), dtype=F64)
    zero = torch.zeros(1, dtype=F64)
    total = builder.add(Scale(torch.ones(1, dtype=F64), zero), 0)
    for _ in range(100):
        part = builder.add(Scale(torch.full((1,), LOST, dtype=F64), zero), 0)
        total = builder.add(op, total, part)
    check(builder.build(), at(1.0, -1.0, shape=(1,)))


def test_offsets_of_upper_lines() -> None:
    # neurons with the intervals [-w, w], whose upper lines have the offsets w / 2
    first = Linear(summands().unsqueeze(1))
    graph = built((1,), first, Relu(), Linear(-torch.ones(1, MANY, dtype=F64)))
    one = torch.ones(1, 1, dtype=F64)
    box = Box(-one, one)
    found = crown_margins(graph, box, margin(1.0, 1), interval_bounds(graph, box))
    # at x = 1, the bound's linear function is at most -Σ w / 2 (1 + 1)
    exact = -sum(Fraction(w) for w in summands().tolist())
    assert Fraction(float(found.lower)) <= exact


def test_rows_of_interval_margins() -> None:
    builder = GraphBuilder((MANY,), dtype=F64)
    builder.add(Scale(summands(), torch.zeros(MANY, dtype=F64)), 0)
    graph, box = builder.build(), at(1.0, -1.0, shape=(MANY,))
    ones = torch.ones(2, 1, MANY, dtype=F64)
    found = interval_margins(graph, box, Specification(ones, torch.zeros(2, 1, dtype=F64)))
    exact = sum(Fraction(w) for w in summands().tolist())
    assert Fraction(float(found[0])) <= exact
    assert Fraction(float(found[1])) <= -exact


def test_products_of_matrices() -> None:
    builder = GraphBuilder((MANY,), dtype=F64)
    row = builder.add(Reshape((1, MANY)), 0)
    column = builder.add(Reshape((MANY, 1)), builder.add(Scale(summands(), 0 * summands()), 0))
    builder.add(Reshape((1,)), builder.add(MatMul(), row, column))
    graph, box = builder.build(), at(1.0, -1.0, 0.7, shape=(MANY,))
    check(graph, box)


def test_half_spaces_are_added_outward() -> None:
    count = 64
    box = at(1.0, shape=(count,))
    normal = torch.full((1, count), LOST, dtype=F64)
    cut = HalfspaceBox(box.lower, box.upper, normal, torch.full((1,), -1.0, dtype=F64))
    coefficients = -torch.ones(1, 1, count, dtype=F64)
    found = concretise(coefficients, torch.zeros(1, 1, dtype=F64), cut)
    assert Fraction(float(found.lower)) <= -count


def random_intervals(seed: int, count: int, least: float = -4.0) -> tuple[Tensor, Tensor]:
    """Intervals of widths between 1e-4 and 4."""
    random = torch.Generator().manual_seed(seed)
    lower = least + 4 * torch.rand(1, count, generator=random, dtype=F64)
    width = 10 ** (torch.rand(1, count, generator=random, dtype=F64) * 4.6 - 4)
    return lower, lower + width


def line(slope: float, offset: float, x: float) -> Fraction:
    """The exact value of a line."""
    return Fraction(slope) * Fraction(x) + Fraction(offset)


def test_chords_of_relus_pass_above_both_ends() -> None:
    lower, upper = random_intervals(3, 3000, least=-4.0)
    lower, upper = -lower.abs() * 1e-3 - 1e-9, upper - lower
    found = lines(0.0, lower, upper)
    numbers = (lower, upper, found.up, found.offset)
    for low, high, slope, offset in zip(*(number[0].tolist() for number in numbers), strict=True):
        assert line(slope, offset, low) >= 0
        assert line(slope, offset, high) >= Fraction(high)


@pytest.mark.parametrize("function", sorted(SLOPES))
def test_lines_stay_on_their_side_of_the_function(function: str) -> None:
    least = 1e-3 if function in ("sqrt", "log", "reciprocal") else -4.0
    lower, upper = random_intervals(5, 60, least)
    found = curve(function, lower, upper)
    numbers = (lower, upper, found.low, found.low_offset, found.up, found.up_offset)
    for low, high, *rest in zip(*(number[0].tolist() for number in numbers), strict=True):
        for share in (0.0, 1e-6, 0.3, 0.5, 0.7, 1.0):
            x = min(max(low + share * (high - low), low), high)
            exact = of_function(function, Fraction(x))
            assert line(rest[0], rest[1], x) <= exact <= line(rest[2], rest[3], x)


@pytest.mark.parametrize("function", ["sigmoid", "tanh", "exp", "softplus", "square", "atan"])
def test_tangents_stay_on_their_side_up_to_their_error(function: str) -> None:
    lower, upper = random_intervals(6, 60)
    found = tangents(function, lower, upper)
    assert isinstance(found, Tangents)
    for share in (0.0, 0.25, 1.0):
        positions = torch.full((1, 1, 60), share, dtype=F64)
        for sign in (1.0, -1.0):
            slope, offset = found._chosen(torch.full_like(positions, sign), positions)
            touch, _ = found._touch(torch.full_like(positions, sign) > 0, positions)
            for i in range(60):
                for x in (float(lower[0, i]), float(touch[0, 0, i]), float(upper[0, i])):
                    value = line(float(slope[0, 0, i]), float(offset[0, 0, i]), x)
                    over = value - of_function(function, Fraction(x))
                    assert over * Fraction(sign) <= Fraction(float(found.error[0, i]))


def test_planes_of_products_stay_on_their_side() -> None:
    (a, b), (c, d) = random_intervals(7, 200), random_intervals(8, 200)
    found = product(ELEMENTWISE, (a, b), (c, d))
    for i in range(200):
        left, right = Fraction(float(found.left[0, i])), Fraction(float(found.right[0, i]))
        middle, slack = Fraction(float(found.middle[0, i])), Fraction(float(found.slack[0, i]))
        for x in (float(a[0, i]), float(b[0, i])):
            for y in (float(c[0, i]), float(d[0, i])):
                plane = right * Fraction(x) + left * Fraction(y) - middle
                assert plane - slack <= Fraction(x) * Fraction(y) <= plane + slack


def test_planes_of_softmax_stay_on_their_side() -> None:
    random = torch.Generator().manual_seed(9)
    lower = torch.randn(20, 3, generator=random, dtype=F64) * 3
    # over intervals that narrow, the planes are nearer to the function than a rounding
    width = 10 ** (torch.rand(20, 1, generator=random, dtype=F64) * 12 - 12)
    upper = lower + width
    op = Softmax(0)
    found = shares(1, lower, upper, *enclose(op, (lower, upper)))
    for n in range(20):
        for share in (0.0, 0.5, 1.0):
            point = (lower[n] + share * width[n]).minimum(upper[n])
            powers = [of_function("exp", Fraction(x)) for x in point.tolist()]
            for i in range(3):
                exact = powers[i] / sum(powers)
                planes = []
                for rows, offset in ((found.low, found.low_offset), (found.up, found.up_offset)):
                    terms = zip(rows[n, i].tolist(), point.tolist(), strict=True)
                    start = Fraction(float(offset[n, i]))
                    planes.append(sum((Fraction(a) * Fraction(x) for a, x in terms), start=start))
                assert planes[0] <= exact <= planes[1]


def test_one_product_is_rounded_outward() -> None:
    builder = GraphBuilder((2,), dtype=F64)
    one = builder.add(Scale(torch.tensor([1.0, 1e-3], dtype=F64), torch.zeros(2, dtype=F64)), 0)
    product_ = builder.add(Mul(), one, 0)
    builder.add(Sum((0,)), product_)
    check(builder.build(), at(1.1, -0.3, 1e-7, shape=(2,)))
