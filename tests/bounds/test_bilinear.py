"""Linear bounds of products, quotients and softmax hold, and are exact where they can be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.outward import assert_just_below
from verify_pipeline.bounds import NodeBounds, crown_margins
from verify_pipeline.bounds.floating_point import Interval, greatest
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.bounds.optimise.plane_positions import PlanePositions
from verify_pipeline.bounds.relaxations.base import Relaxation
from verify_pipeline.bounds.relaxations.bilinear import Product
from verify_pipeline.bounds.relaxations.relaxed_graph import relax
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Div, Linear, MatMul, Mul, Op, Reshape, Slice, Softmax
from verify_pipeline.problem import Box, Specification

SHAPES: dict[str, tuple[Op, list[tuple[int, ...]]]] = {
    "mul": (Mul(), [(3, 4), (3, 4)]),
    "mul broadcast": (Mul(), [(3, 4), (1, 4)]),
    "div": (Div(), [(3, 4), (3, 4)]),
    "div broadcast": (Div(), [(3, 4), (3, 1)]),
    "matmul": (MatMul(), [(3, 4), (4, 2)]),
    "matmul heads": (MatMul(), [(2, 3, 4), (2, 4, 5)]),
    "matmul broadcast": (MatMul(), [(2, 3, 4), (1, 4, 5)]),
    "softmax": (Softmax(1), [(3, 4)]),
    "softmax first": (Softmax(0), [(3, 4)]),
    "softmax of one": (Softmax(0), [(1,)]),
}


def lost(relaxation: Relaxation, functional: Tensor, read: list[Interval]) -> Tensor:
    """What rounding may have added to a bound of functionals ``N x S x *V``, ``N x S``."""
    of_unit = relaxation.rounding([greatest(ends).flatten(1).amax(1) for ends in read])
    assert of_unit is not None
    return of_unit.unsqueeze(1) * functional.abs().flatten(2).sum(2)


def interval(shape: tuple[int, ...], width: float, positive: bool) -> tuple[Tensor, Tensor]:
    lower = torch.randn(2, *shape, dtype=torch.float64)
    lower = lower.abs() + 0.1 if positive else lower
    return lower, lower + width * torch.rand_like(lower)


@pytest.mark.parametrize("name", SHAPES)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.01, 0.5, 3.0]))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_functionals_are_bounded_by_functionals_of_the_inputs(
    name: str, seed: int, width: float
) -> None:
    torch.manual_seed(seed)
    op, shapes = SHAPES[name]
    read = [interval(s, width, isinstance(op, Div) and i == 1) for i, s in enumerate(shapes)]
    relaxation = relax(op, read, len(read))
    points = [torch.lerp(low, up, torch.rand_like(low)) for low, up in read]
    points = points if seed % 2 else [point.round() for point in points]
    points = [p.clamp(low, up) for p, (low, up) in zip(points, read, strict=True)]
    value = op(*points)
    functional = torch.randn(2, 3, *value.shape[1:], dtype=torch.float64)
    parts, constants = relaxation.pull_back(functional, None)
    bound = constants
    for part, point in zip(parts, points, strict=True):
        assert part is not None
        assert part.shape == (2, 3, *point.shape[1:])
        bound = bound + (part * point.unsqueeze(1)).flatten(2).sum(2)
    exact = (functional * value.unsqueeze(1)).flatten(2).sum(2)
    assert (bound - lost(relaxation, functional, read) <= exact).all()
    if width == 0.0:
        torch.testing.assert_close(bound, exact, atol=1e-9, rtol=1e-9)
    # the value of the lines chosen is what the functionals were bounded by
    followed = relaxation.follow(functional, None, [p.unsqueeze(1) for p in points])
    at_lines = (functional * followed).flatten(2).sum(2)
    torch.testing.assert_close(at_lines, bound, atol=1e-9, rtol=1e-9)


def test_a_known_factor_makes_a_product_linear() -> None:
    known = torch.tensor([[2.0, -3.0]], dtype=torch.float64)
    lower, upper = torch.tensor([[-1.0, 0.0]]).double(), torch.tensor([[1.0, 5.0]]).double()
    relaxation = relax(Mul(), [(lower, upper), (known, known)], 2)
    ones = torch.ones(1, 1, 2, dtype=torch.float64)
    (to_left, to_right), constants = relaxation.pull_back(ones, None)
    assert to_left is not None
    assert to_right is not None
    assert to_left.flatten().tolist() == [2.0, -3.0]
    assert_just_below(constants + (to_right * known).sum(), [[0.0]])


def test_the_error_of_a_product_is_that_of_the_radii() -> None:
    box = torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), 2.0, dtype=torch.float64)
    relaxation = relax(Mul(), [box, box], 2)
    _, constants = relaxation.pull_back(torch.ones(1, 1, 1, dtype=torch.float64), None)
    assert_just_below(constants, [[-2.0]])  # x y >= x + y - 1 - 1


def test_softmax_of_wide_inputs_falls_back_to_constants() -> None:
    lower = torch.tensor([[-1e4, -1e4, 0.0]], dtype=torch.float64)
    upper = torch.tensor([[1e4, 1e4, 0.0]], dtype=torch.float64)
    least, most = enclose(Softmax(0), (lower, upper))
    assert torch.equal(least, torch.zeros(1, 3, dtype=torch.float64))
    assert most.tolist() == [[1.0, 1.0, 1.0]]
    relaxation = relax(Softmax(0), [(lower, upper)], 1)
    (pulled,), constants = relaxation.pull_back(-torch.eye(3).double().unsqueeze(0), None)
    assert pulled is not None
    assert not pulled.any()
    assert constants.tolist() == [[-1.0, -1.0, -1.0]]


def test_softmax_costs_nothing_where_its_coefficients_are_equal() -> None:
    lower = torch.tensor([[-1.0, 0.0, -0.5]], dtype=torch.float64)
    relaxation = relax(Softmax(0), [(lower, lower + 1)], 1)
    rows = torch.tensor([[[2.0, 2.0, 2.0], [2.0, 2.0, 3.0], [-1.0, -1.0, -2.0]]]).double()
    (pulled,), constants = relaxation.pull_back(rows, None)
    assert pulled is not None
    assert not pulled[0, 0].any()
    assert constants[0, 0].item() == 2.0
    # the others are a constant and one output: 2 + y_3 and -1 - y_3
    single = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]]).double()
    (alone,), offset = relaxation.pull_back(single, None)
    assert alone is not None
    torch.testing.assert_close(pulled[:, 1:], alone)
    torch.testing.assert_close(constants[:, 1:], offset + torch.tensor([[2.0, -1.0]]).double())


def test_a_quotient_through_zero_is_not_bounded() -> None:
    b = GraphBuilder((2,))
    under = b.add(Slice(0, 1, 2), 0)
    graph = b.build(b.add(Div(), b.add(Slice(0, 0, 1), 0), under)).to(torch.float64)
    spec = Specification(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double())
    for low, finite in ((0.5, True), (0.0, False), (-0.5, False)):
        box = Box(torch.tensor([[1.0, low]]).double(), torch.tensor([[2.0, 1.0]]).double())
        values = {0: box.lower, 1: box.lower[:, 1:], 2: box.lower[:, :1]}
        uppers = {0: box.upper, 1: box.upper[:, 1:], 2: box.upper[:, :1]}
        found = crown_margins(graph, box, spec, NodeBounds(values, uppers)).lower
        assert bool(torch.isfinite(found).all()) is finite


def test_a_product_of_one_value_with_itself() -> None:
    b = GraphBuilder((2,))
    x = b.add(Linear(torch.tensor([[1.0, 1.0]])), 0)
    graph = b.build(b.add(Reshape((1,)), b.add(Mul(), x, x))).to(torch.float64)
    spec = Specification(torch.tensor([[[1.0]], [[-1.0]]]).double(), torch.zeros(2, 1).double())
    box = Box(torch.full((2, 2), 1.0).double(), torch.full((2, 2), 1.5).double())
    value = {1: torch.full((2, 1), 2.0).double()}, {1: torch.full((2, 1), 3.0).double()}
    found = crown_margins(graph, box, spec, NodeBounds(*value)).lower
    # x² >= 5 x - 6.25 - 0.25 >= 3.5 on [2, 3]; -x² >= -5 x + 6.25 - 0.25 >= -9
    assert_just_below(found, [[3.5], [-9.0]])


POSITIONED = [name for name in SHAPES if "mul" in name]


def positioned(
    name: str, seed: int, width: float
) -> tuple[Product, list[Interval], list[Tensor], Tensor, PlanePositions]:
    """A product over random intervals, these, points inside, functionals, random positions."""
    torch.manual_seed(seed)
    op, shapes = SHAPES[name]
    read = [interval(shape, width, positive=False) for shape in shapes]
    relaxation = relax(op, read, 2)
    assert isinstance(relaxation, Product)
    points = [torch.lerp(low, up, torch.rand_like(low)) for low, up in read]
    functional = torch.randn(2, 3, *op(*points).shape[1:], dtype=torch.float64)
    start = torch.rand(2, 3, *relaxation.pairs(), dtype=torch.float64)
    start = start.round() if seed % 3 == 0 else start
    return relaxation, read, points, functional, PlanePositions.of(relaxation, 3, start)


def pulled(
    relaxation: Product, functional: Tensor, choice: PlanePositions, points: list[Tensor]
) -> Tensor:
    parts, bound = relaxation.pull_back(functional, choice)
    for part, point in zip(parts, points, strict=True):
        assert part is not None
        bound = bound + (part * point.unsqueeze(1)).flatten(2).sum(2)
    return bound


@pytest.mark.parametrize("name", POSITIONED)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.5, 3.0]))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_planes_hold_wherever_they_stand(name: str, seed: int, width: float) -> None:
    relaxation, read, points, functional, choice = positioned(name, seed, width)
    bound = pulled(relaxation, functional, choice, points)
    value = SHAPES[name][0](*points).unsqueeze(1)
    proved = bound - lost(relaxation, functional, read)
    assert (proved <= (functional * value).flatten(2).sum(2)).all()
    followed = relaxation.follow(functional, choice, [p.unsqueeze(1) for p in points])
    torch.testing.assert_close((functional * followed).flatten(2).sum(2), bound)
    # out of range they are brought back
    beyond = PlanePositions.of(relaxation, 3, 5 * choice.alpha.value - 2)
    assert ((beyond.positions() >= 0) & (beyond.positions() <= 1)).all()
    middle = PlanePositions.of(relaxation, 3, None)
    usual, _ = relaxation.pull_back(functional, None)
    for part, same in zip(relaxation.pull_back(functional, middle)[0], usual, strict=True):
        torch.testing.assert_close(part, same)


@pytest.mark.parametrize("name", POSITIONED)
def test_the_slope_of_positions_is_the_derivative(name: str) -> None:
    relaxation, _, points, functional, choice = positioned(name, 7, 1.0)
    value = choice.alpha.value.requires_grad_(True)
    (wanted,) = torch.autograd.grad(pulled(relaxation, functional, choice, points).sum(), value)
    (found,) = choice.gradients(functional, [p.unsqueeze(1) for p in points])
    torch.testing.assert_close(found, wanted)


def test_each_end_is_a_plane_of_mccormick() -> None:
    box = torch.zeros(1, 1, dtype=torch.float64), torch.full((1, 1), 2.0, dtype=torch.float64)
    relaxation = relax(Mul(), [box, box], 2)
    assert isinstance(relaxation, Product)
    rows = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64)
    # x y >= 0 and x y <= 2 y at one end, x y >= 2 x + 2 y - 4 and x y <= 2 x at the other
    for end, slopes, offsets in (
        (0.0, [[0, 0], [0, -2]], [0, 0]),
        (1.0, [[2, 2], [-2, 0]], [-4, 0]),
    ):
        start = torch.full((1, 2, 1), end, dtype=torch.float64)
        parts, constants = relaxation.pull_back(rows, PlanePositions.of(relaxation, 2, start))
        found = torch.stack([part.flatten() for part in parts if part is not None], 1)
        expected = torch.tensor(slopes, dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
        assert_just_below(constants, [offsets])
