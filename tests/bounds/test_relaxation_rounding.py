"""What relaxations say of their rounding, with a unit roundoff of 2^-10 that makes it visible."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import Interval
from verify_pipeline.bounds.interval import affine, ibp
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.bounds.relaxations import base, bilinear, max_pool, smooth, softmax, tangents
from verify_pipeline.bounds.relaxations.base import Constants, Relaxation
from verify_pipeline.bounds.relaxations.bilinear import MATRIX, product, quotient
from verify_pipeline.bounds.relaxations.clipping import Greater
from verify_pipeline.bounds.relaxations.max_pool import selection
from verify_pipeline.bounds.relaxations.smooth import Curve
from verify_pipeline.bounds.relaxations.softmax import shares
from verify_pipeline.network.affine_error import AffineError
from verify_pipeline.network.ops import Conv2d, Linear, MaxPool2d, Softmax

F64 = torch.float64
UNIT = 2.0**-10


def tensor(*numbers: object) -> Tensor:
    return torch.tensor(numbers, dtype=F64)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    def gamma(count: int, dtype: torch.dtype) -> float:
        return count * UNIT if dtype == F64 else 0.0

    for module in (affine, base, bilinear, ibp, max_pool, smooth, softmax, tangents):
        if hasattr(module, "gamma"):
            monkeypatch.setattr(module, "gamma", gamma)


def term(relaxation: Relaxation, *sizes: float) -> float:
    """In units of 2^-10."""
    found = relaxation.rounding([tensor(size) for size in sizes])
    assert found is not None
    return float(found) / UNIT


def test_constants_are_summed() -> None:
    assert term(Constants(tensor([-3.0, 1.0]), tensor([2.0, 2.0]), 1), 9.0) == (2 + 2 + 8) * 3.0


def test_a_curve_counts_offsets_and_products_with_slopes() -> None:
    found = Curve(tensor([0.5, 0.0]), tensor([1.0, 2.0]), tensor([-2.0, 0.0]), tensor([0.0, -5.0]))
    assert term(found, 10.0) == (2 + 2 + 8) * 5.0 + 4 * 2.0 * 10.0


def test_lines_move_outward() -> None:
    found = smooth.line_error("exp", tensor(2.0), (tensor(3.0), tensor(-4.0)), tensor(5.0))
    assert float(found) == 64 * UNIT * (3 * 2 + 4 + 5)
    bounded = smooth.line_error("tanh", tensor(2.0), (tensor(0.5), tensor(0.0)), tensor(1.0))
    assert float(bounded) == 64 * UNIT * ((0.5 + 1) * 2 + 0 + 1)


def test_tangents_count_their_own_errors() -> None:
    found = tangents.tangents("exp", tensor([0.0, 0.5]), tensor([1.0, 1.5]))
    assert isinstance(found, tangents.Tangents)
    expected = term(found.lines, 1.5) + (2 + 64) / 64 * float(found.error.amax()) / UNIT
    assert term(found, 1.5) == pytest.approx(expected)
    # the steepest tangent is that at 1.5, which is used up to 1.5
    steep = torch.tensor(1.5, dtype=F64).exp()
    assert float(found.error.amax()) == pytest.approx(float(64 * UNIT * steep * (1.5 + 2.5 + 1)))


def test_products_count_all_pairs() -> None:
    left = tensor([[1.0, 2.0]]), tensor([[3.0, 2.0]])
    right = tensor([[-1.0], [0.0]]), tensor([[1.0], [4.0]])
    found = product(MATRIX, left, right)
    # centres and radii reach 3 and 4, and the radii have grown by 4 roundings
    reach = (3 + 4 * UNIT * 3) * (4 + 4 * UNIT * 4)
    expected = (2 * (2 + 2 + 1) + 32) * 8 * 2 * reach
    assert term(found, 3.0, 4.0) == pytest.approx(expected)
    # inputs of a part of the box: the constants are still those of the whole one
    assert term(found, 0.1, 0.1) == pytest.approx(expected)
    assert term(found, 30.0, 40.0) == pytest.approx((2 * (2 + 2 + 1) + 32) * 8 * 2 * 30.0 * 40.0)
    # radii (1, 0) and (1, 2) grow by 4 roundings of the greatest values (3, 2) and (1, 4)
    radii = (1 + 4 * UNIT * 3) * (1 + 4 * UNIT * 1) + 4 * UNIT * 2 * (2 + 4 * UNIT * 4)
    assert float(found.slack) == pytest.approx(radii + (2 * 2 + 16) * UNIT * (3 * 1 + 2 * 4))


def test_quotients_count_the_reciprocal() -> None:
    found = quotient((tensor([1.0]), tensor([2.0])), (tensor([2.0]), tensor([4.0])))
    of_product = term(found.times, 2.0, 0.5)
    of_line = term(found.reciprocal, 4.0)
    assert term(found, 2.0, 4.0) == pytest.approx(of_product + 2 * 2.0 * of_line, rel=0.01)


def test_maxima_count_constants_and_windows() -> None:
    found = Greater(tensor([1.0]), tensor([0.0]), tensor([7.0]))
    assert term(found, 1.0, 1.0) == (1 + 8) * 7.0
    lower = torch.zeros(1, 1, 2, 4, dtype=F64)
    pooled = selection(MaxPool2d((2, 2), (2, 2)), lower, lower + 3)
    assert term(pooled, 5.0) == (2 + 8) * 3.0 + (2 + 8) * 5.0


def test_softmax_counts_planes() -> None:
    interval = tensor([0.0, 1.0]), tensor([0.5, 1.0])
    found = shares(1, *interval, *enclose(Softmax(0), interval))
    steep = torch.maximum(found.low.abs(), found.up.abs()) * tensor([0.5, 1.0]).unsqueeze(1)
    reach = float(steep.sum(-1).amax())
    offsets = float(torch.maximum(found.low_offset.abs(), found.up_offset.abs()).amax())
    expected = 4 * ((2 + 2 + 8) * offsets + (1 + reach) * (2 * 4 + 16))
    assert term(found, 0.0) == pytest.approx(expected)


def test_shares_widen_by_the_rounding_of_their_exponents() -> None:
    score = tensor([0.0, 1.0])
    low, high = enclose(Softmax(0), (score, score))
    exact = score.softmax(1)
    change = 4 * 16 * (2 + 4) * UNIT * (1 + 1)
    assert torch.allclose(high, (exact * (1 + change)).clamp(max=1), rtol=1e-9)
    assert torch.allclose(low, exact * (1 - change), rtol=1e-9)


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_constants_and_their_errors_widen_intervals(kind: str) -> None:
    error = AffineError(gain=3 * UNIT, constant=5 * UNIT)
    weight, bias = tensor([1.0, 0.0], [0.0, -2.0]), tensor(0.0, 7.0)
    point = tensor([2.0, 1.0])
    op: Linear | Conv2d = Linear(weight, bias, error)
    if kind == "convolution":
        op = Conv2d(weight.view(2, 2, 1, 1), bias, error=error)
        point = point.view(1, 2, 1, 1)
    low, high = enclose(op, (point, point))
    # 2 n + 12 roundings of |W| m, n + 8 of the bias, and the error at the greatest input, 2
    of_sums = [(2 * 2 + 12) * 2.0, (2 * 2 + 12) * 2.0 + (2 + 8) * 7.0]
    for o, (value, sums) in enumerate(zip((2.0, 5.0), of_sums, strict=True)):
        radius = UNIT * (sums + 3 * 2 + 5)
        assert float(low.flatten()[o]) == pytest.approx(value - radius, rel=1e-5)
        assert float(high.flatten()[o]) == pytest.approx(value + radius, rel=1e-5)


def test_float32_says_nothing() -> None:
    interval: Interval = (torch.zeros(1, 2), torch.ones(1, 2))
    assert float(smooth.line_error("tanh", interval[1], interval, interval[1]).sum()) == 0.0
