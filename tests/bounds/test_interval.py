"""Interval bounds of single operations."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.networks_by_hand import chain, linear
from tests.outward import assert_just_above, assert_just_below
from verify_pipeline.bounds import interval_bounds, interval_margins
from verify_pipeline.bounds.interval.elementwise import elementwise_range
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    FUNCTIONS,
    Div,
    Elementwise,
    LeakyRelu,
    Linear,
    MatMul,
    Mean,
    Mul,
    Op,
    Relu,
    Reshape,
    Scale,
    Softmax,
    Sum,
)
from verify_pipeline.problem import Box, Specification


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor([values], dtype=torch.float64)


@pytest.mark.parametrize("function", FUNCTIONS)
@given(
    st.floats(-20, 20),
    st.floats(0, 30),
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_ranges_hold_what_they_are_ranges_of(
    function: str, start: float, width: float, shares: list[float]
) -> None:
    lower, upper = tensor(start), tensor(start + width)
    low, high = elementwise_range(function, lower, upper)
    for share in [0.0, 1.0, *shares]:
        value = FUNCTIONS[function](torch.minimum(lower + share * width, upper))
        if bool(torch.isfinite(value)):
            assert low.item() <= value.item() <= high.item()


@pytest.mark.parametrize(
    ("function", "lower", "upper", "expected"),
    [
        ("square", -2.0, 1.0, (0.0, 4.0)),
        ("square", 1.0, 3.0, (1.0, 9.0)),
        ("sin", 0.0, 3.0, (0.0, 1.0)),
        ("sin", 0.0, 7.0, (-1.0, 1.0)),
        ("cos", -0.5, 0.25, (math.cos(0.5), 1.0)),
        ("cos", 2.0, 4.0, (-1.0, math.cos(2.0))),
        ("cos", 1e5, 1e5 + 0.01, (-1.0, 1.0)),
        ("reciprocal", 2.0, 4.0, (0.25, 0.5)),
        ("reciprocal", -4.0, -2.0, (-0.5, -0.25)),
        ("reciprocal", 0.0, 1.0, (-math.inf, math.inf)),
        ("sqrt", 4.0, 9.0, (2.0, 3.0)),
        ("sqrt", -1.0, 9.0, (-math.inf, math.inf)),
        ("exp", 0.0, 0.0, (1.0, 1.0)),
        ("gelu", -3.0, 0.0, (-0.1699712, 0.0)),
        ("gelu_tanh", -3.0, 0.0, (-0.1700408, 0.0)),
    ],
)
def test_ranges_worked_out_by_hand(
    function: str, lower: float, upper: float, expected: tuple[float, float]
) -> None:
    low, high = elementwise_range(function, tensor(lower), tensor(upper))
    assert (low.item(), high.item()) == pytest.approx(expected, abs=1e-7)


def test_products_take_the_extreme_corners() -> None:
    left, right = (tensor(-1.0), tensor(2.0)), (tensor(-3.0), tensor(1.0))
    low, high = enclose(Mul(), left, right)
    assert_just_below(low, [[-6.0]])
    assert_just_above(high, [[3.0]])


def test_quotients_by_an_interval_through_zero_are_not_bounded() -> None:
    one = (tensor(1.0), tensor(2.0))
    low, high = enclose(Div(), one, (tensor(2.0), tensor(4.0)))
    assert_just_below(low, [[0.25]])
    assert_just_above(high, [[1.0]])
    b = GraphBuilder((2,))
    graph = b.build(b.add(Div(), 0, b.add(Linear(torch.eye(2)), 0))).to(torch.float64)
    bounds = interval_bounds(graph, Box(tensor(-1.0, 1.0), tensor(1.0, 2.0)))
    assert bounds.lower[2].tolist() == [[-math.inf, -math.inf]]
    assert bounds.upper[2].tolist() == [[math.inf, math.inf]]


@pytest.mark.parametrize(
    "op",
    [
        Linear(torch.tensor([[3.0, -0.1]], dtype=torch.float64)),
        Linear(torch.zeros(2, 2).double(), torch.zeros(2).double()),
        Scale(torch.tensor(0.1, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64)),
        Mean((0,)),
        Sum((0,)),
        LeakyRelu(0.1),
    ],
    ids=lambda op: type(op).__name__,
)
def test_what_is_always_zero_stays_exactly_zero(op: Op) -> None:
    """Inactive neurons are 0, and rounding moves none of them."""
    low, high = enclose(op, (tensor(0.0, 0.0), tensor(0.0, 0.0)))
    assert not low.any()
    assert not high.any()


@pytest.mark.parametrize("op", [Mean((0,)), Sum((0,)), Scale(tensor(3.0)[0], tensor(0.0)[0])])
def test_the_small_end_of_a_wide_interval_is_kept(op: Op) -> None:
    """A sum of squares is never below 0, so that its root is defined."""
    low, high = enclose(op, (tensor(0.0, 1e-6), tensor(1e12, 1e12)))
    assert bool((low >= 0).all())
    assert_just_below(low, op(tensor(0.0, 1e-6)))
    assert_just_above(high, op(tensor(1e12, 1e12)))


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-200, 1e-155])
def test_products_below_the_normal_range_are_bounded(size: float) -> None:
    """Exactly: such a product may be rounded to 0, or by as much as itself."""
    for one, other in ((size, size), (size, 0.3), (-size, size), (-0.7, size)):
        low, high = enclose(Mul(), (tensor(one),) * 2, (tensor(other),) * 2)
        assert Fraction(low.item()) <= Fraction(one) * Fraction(other) <= Fraction(high.item())
    low, high = enclose(LeakyRelu(0.3), (tensor(-size),) * 2)
    assert Fraction(low.item()) <= -Fraction(0.3) * Fraction(size) <= Fraction(high.item())


@pytest.mark.parametrize("op", [Mul(), Div()])
def test_zero_times_anything_is_exactly_zero(op: Op) -> None:
    low, high = enclose(op, (tensor(0.0),) * 2, (tensor(2.0), tensor(4.0)))
    assert low.item() == high.item() == 0


def test_softmax_is_exact() -> None:
    lower, upper = tensor(0.0, 1.0, -2.0), tensor(1.0, 1.0, 50.0)
    low, high = enclose(Softmax(0), (lower, upper))
    for i in range(3):
        least, most = upper.clone(), lower.clone()
        least[0, i], most[0, i] = lower[0, i], upper[0, i]
        torch.testing.assert_close(low[0, i], least.softmax(1)[0, i])
        torch.testing.assert_close(high[0, i], most.softmax(1)[0, i])


def test_a_matrix_product_of_points_is_itself() -> None:
    left, right = torch.randn(2, 3, 4).double(), torch.randn(2, 4, 2).double()
    low, high = enclose(MatMul(), (left, left), (right, right))
    torch.testing.assert_close(low, left @ right)
    torch.testing.assert_close(high, left @ right)


def test_margins_are_merged_with_the_last_layer() -> None:
    # both outputs are x: their difference is 0, which separate bounds cannot know
    graph = chain((1,), linear([[1], [1]], [1, 0]), dtype=torch.float32)
    box = Box(torch.tensor([[-1.0]]), torch.tensor([[1.0]]))
    spec = Specification.margins(torch.tensor([0]), 2)
    assert interval_margins(graph, box, spec).tolist() == [[1.0]]


def test_margins_without_a_last_linear_layer() -> None:
    graph = chain((1,), linear([[1], [1]]), Relu(), Reshape((2,)), dtype=torch.float32)
    box = Box(torch.tensor([[-1.0]]), torch.tensor([[1.0]]))
    spec = Specification(torch.tensor([[[1.0, -2.0]]]), torch.tensor([[0.5]]))
    assert interval_margins(graph, box, spec).tolist() == [[-1.5]]


def overflowing(weight: float) -> Graph:
    first, second = linear([[weight], [weight]]), linear([[weight, weight]])
    return chain((1,), first, Relu(), second, dtype=torch.float32)


@pytest.mark.parametrize("weight", [1e30, math.nan, math.inf])
def test_overflow_and_nan_are_never_good_news(weight: float) -> None:
    graph = overflowing(weight)
    box = Box(torch.tensor([[1.0]]), torch.tensor([[2.0]]))
    spec = Specification(torch.ones(1, 1, 1), torch.zeros(1, 1))
    assert interval_margins(graph, box, spec).item() == -math.inf
    bounds = interval_bounds(graph, box)
    assert bounds.lower[3].item() == -math.inf
    assert bounds.upper[3].item() == math.inf


@pytest.mark.parametrize(("bias", "is_bounded"), [(1e38, True), (2e38, False)])
def test_the_bias_counts_among_the_terms_that_may_overflow(bias: float, is_bounded: bool) -> None:
    # the weights' terms sum up to 1.7e38 at most; float32 ends at 3.4e38
    weight = torch.tensor([[1.3e38, -0.4e38]], dtype=torch.float64)
    op = Linear(weight, torch.tensor([bias], dtype=torch.float64))
    low, high = enclose(op, (tensor(0.0, 0.0), tensor(1.0, 1.0)))
    assert bool(torch.isfinite(low).all() and torch.isfinite(high).all()) is is_bounded


def test_an_unknown_operation_is_named() -> None:
    class Odd(Op):
        def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
            return inputs[0]

    with pytest.raises(NotImplementedError, match="Odd"):
        enclose(Odd(), (tensor(0.0), tensor(1.0)))


def test_every_function_has_a_range() -> None:
    for function in FUNCTIONS:
        low, high = enclose(Elementwise(function), (tensor(0.5), tensor(0.75)))
        assert torch.isfinite(low).all()
        assert (low < high).all()
