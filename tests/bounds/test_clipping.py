"""Maxima, limits and rounding: bounds that hold for values of any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.networks_by_hand import chain, linear
from verify_pipeline.bounds import crown_margins, interval_bounds
from verify_pipeline.bounds.interval.maxima_as_relus import with_splittable_maxima
from verify_pipeline.bounds.relaxations.clipping import at_least, greater, rounded
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.limits import AtLeast, Maximum, Rounded
from verify_pipeline.network.ops import Linear, MaxPool2d, Relu
from verify_pipeline.problem import Box, Specification

SIZES = [1e-30, 1e-9, 1.0, 1e9, 1e30]


def tensor(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def operations(graph: Graph) -> list[str]:
    return [type(node.op).__name__ for node in graph.nodes[1:]]


def random_intervals(seed: int, count: int = 400) -> tuple[Tensor, Tensor, Tensor]:
    """Ends of intervals of any size, and a number of any size."""
    torch.manual_seed(seed)
    sizes = 10.0 ** (torch.rand(3, 1, count).double() * 60 - 30)
    ends = torch.randn(3, 1, count).double() * sizes
    return ends[0].minimum(ends[1]), ends[0].maximum(ends[1]), ends[2]


def test_lines_around_a_limit_by_hand() -> None:
    found = at_least(torch.tensor(1.0).double(), tensor(2, -3, 0, -1), tensor(3, 0, 2, 2))
    # never reached; always; the lesser area is the input's on a tie of neither, then the limit's
    assert found.low.tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert found.low_offset.tolist() == [[0.0, 1.0, 1.0, 1.0]]
    torch.testing.assert_close(found.up, tensor(1, 0, 0.5, 1 / 3))
    torch.testing.assert_close(found.up_offset, tensor(0, 1, 1, 4 / 3))


@pytest.mark.parametrize("seed", range(5))
def test_lines_around_a_limit_hold_at_any_size(seed: int) -> None:
    lower, upper, limit = random_intervals(seed)
    found = at_least(limit, lower, upper)
    for share in (0.0, 0.25, 0.5, 1.0):
        x = torch.lerp(lower, upper, share).clamp(lower, upper)
        value = torch.maximum(x, limit)
        below, above = found.low * x + found.low_offset, found.up * x + found.up_offset
        slack = 1e-15 * torch.maximum(value.abs(), (found.up * x).abs())
        assert bool((below <= value).all())
        assert bool((above >= value - slack).all())


@pytest.mark.parametrize("seed", range(5))
def test_the_greater_of_two_is_bounded_at_any_size(seed: int) -> None:
    first, second = random_intervals(seed)[:2], random_intervals(seed + 100)[:2]
    relaxation = greater(first, second)
    for i in range(9):
        a, b = (
            torch.lerp(*ends, s / 2) for ends, s in zip((first, second), divmod(i, 3), strict=True)
        )
        a, b = a.clamp(*first), b.clamp(*second)
        value = torch.maximum(a, b)
        for sign in (1.0, -1.0):
            rows = torch.full((1, 1, a.shape[1]), sign, dtype=torch.float64)
            line = relaxation.follow(rows, None, [a.unsqueeze(1), b.unsqueeze(1)])
            assert bool((sign * line <= sign * value).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [*SIZES, 1e-44])
def test_lines_around_rounding(size: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1000, dtype=torch.float64) * size
    lower, upper = x - x.abs() * 1e-8, x + x.abs() * 1e-8
    found = rounded(lower, upper, dtype)
    value = Rounded(dtype)(x)
    assert bool((found.low * x + found.low_offset <= value).all())
    assert bool((found.up * x + found.up_offset >= value).all())


def of_two(a: float, b: float) -> Graph:
    """The greater of ``a x`` and ``b x``, and ``a x``."""
    builder = GraphBuilder((1,), dtype=torch.float64)
    one, other = (builder.add(Linear(tensor(f)), 0) for f in (a, b))
    return builder.build(builder.add(Maximum(), one, other))


@pytest.mark.parametrize("large", [-1e30, -1e17, -1e3, 1e3, 1e30])
def test_two_of_very_different_size_are_bounded_right(large: float) -> None:
    """``max(x, c x)`` for x in [0.2, 0.7]; as a sum it was 0 for c = -1e30."""
    box = Box(tensor(0.2), tensor(0.7))
    graph = with_splittable_maxima(of_two(1.0, large), lambda: box)
    assert ("Maximum" in operations(graph)) == (large < -1e6)
    spec = Specification(torch.tensor([[[1.0], [-1.0]]]).double(), torch.zeros(1, 2).double())
    for factor in (1.0, 0.5):
        inside = Box(box.lower, box.upper * factor)
        bounds = interval_bounds(graph, inside)
        last = len(graph.nodes) - 1
        expected = torch.cat([inside.lower, inside.upper], 1) * max(1.0, large)
        found = torch.cat([bounds.lower[last], bounds.upper[last]], 1)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
        margins = crown_margins(graph, inside, spec, bounds).lower[0]
        signs = torch.tensor([1.0, -1.0], dtype=torch.float64)
        torch.testing.assert_close(margins, expected[0] * signs, rtol=1e-9, atol=0)


def pooled(sizes: list[float]) -> Graph:
    """The greatest of several multiples of x, by pooling."""
    pool = MaxPool2d((1, len(sizes)), (1, len(sizes)))
    return chain((1, 1, len(sizes)), Linear(torch.diag(tensor(*sizes)[0])), pool)


@pytest.mark.parametrize(
    ("sizes", "kept"), [([1, 2, -3], False), ([1, -1e30], True), ([1e30, -1e30], False)]
)
def test_pooling_is_written_as_sums_of_values_of_one_size(sizes: list[float], kept: bool) -> None:
    box = Box(*(torch.full((1, 1, 1, len(sizes)), end).double() for end in (0.5, 1.0)))
    graph = with_splittable_maxima(pooled(sizes), lambda: box)
    assert ("MaxPool2d" in operations(graph)) == kept
    assert float(graph(box.upper)) == max(sizes)


def test_nothing_is_asked_where_nothing_has_to_be_known() -> None:
    """Behind a ReLU nothing is below zero, so a sum loses nothing whatever the box is."""

    def never() -> Box:
        raise AssertionError("the inputs are not needed")

    graph = chain((1, 2, 2), Relu(), MaxPool2d((2, 2), (2, 2)))
    assert "MaxPool2d" not in operations(with_splittable_maxima(graph, never))
    plain = chain((2,), Relu())
    assert with_splittable_maxima(plain, never) is plain


def test_without_a_box_only_what_is_safe_anyway_is_written_anew() -> None:
    graph = with_splittable_maxima(pooled([1.0, 2.0]), lambda: None)
    assert "MaxPool2d" in operations(graph)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (-3e38, ["Linear"]),  # never reached
        (-0.5, ["Linear", "Scale", "Relu", "Scale"]),
        (2e30, ["Linear", "Scale", "Relu", "Scale"]),  # above zero: no larger than the maximum
    ],
)
def test_limits_are_written_with_relus(limit: float, expected: list[str]) -> None:
    graph = chain((1,), linear([[1]]), AtLeast(tensor(limit)[0, 0]))
    box = Box(tensor(-1), tensor(1))
    found = with_splittable_maxima(graph, lambda: box)
    assert [name for name in operations(found) if name != "Reshape"] == expected
    for x in (tensor(-1), tensor(0.3)):
        torch.testing.assert_close(found(x), graph(x))


def test_a_limit_far_below_some_of_its_values_is_raised_for_these() -> None:
    """``x - c + c`` would lose the second value, whose range ends long before the limit."""
    graph = chain((2,), linear([[1e3, 0], [0, 1e-12]]), AtLeast(tensor(-1e2)[0, 0]))
    box = Box(tensor(-1, -1), tensor(1, 1))
    found = with_splittable_maxima(graph, lambda: box)
    assert "AtLeast" not in operations(found)
    torch.testing.assert_close(found(tensor(-1, 0.3)), tensor(-1e2, 3e-13), rtol=1e-12, atol=0)
