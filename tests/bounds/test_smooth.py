"""Lines of smooth functions hold them, and touch them where they can."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.outward import assert_just_above, assert_just_below
from verify_pipeline.bounds.relaxations.smooth import _TURNS, SLOPES, Curve, curve, has_curve
from verify_pipeline.network.ops import FUNCTIONS, SELU_ALPHA

CURVED = [name for name in FUNCTIONS if has_curve(name)]


def lines_at(found: Curve, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return found.low * x + found.low_offset, found.up * x + found.up_offset


def tensor(value: float) -> torch.Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


@pytest.mark.parametrize("function", CURVED)
@given(st.floats(-15, 15), st.floats(0, 25))
@settings(max_examples=150, deadline=None)
def test_lines_hold_the_function(function: str, start: float, width: float) -> None:
    if function in ("sqrt", "reciprocal", "log"):
        start = abs(start) + 1e-3
    lower, upper = tensor(start), tensor(start + width)
    found = curve(function, lower, upper)
    x = torch.lerp(lower, upper, torch.linspace(0, 1, 301, dtype=torch.float64))
    y = FUNCTIONS[function](x)
    below, above = lines_at(found, x)
    assert (below <= y).all()
    assert (above >= y).all()


def many_intervals(function: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Tiny and huge ones, in the tails, on one side and about where functions turn."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.tensor([0, 1e-3, 1, 4, 10, 50, 1e4, *(t for ts in _TURNS.values() for t in ts)])
    widths = torch.logspace(-7, 6, 27)
    center, width = torch.cartesian_prod(centers.double(), widths.double()).T
    center = center * torch.randn(len(center), generator=generator, dtype=torch.float64).sign()
    below = torch.rand(len(center), generator=generator, dtype=torch.float64)
    below = torch.where(torch.arange(len(center)) % 3 == 0, below.round(), below)
    lower, upper = center - width * below, center + width * (1 - below)
    if function in ("sqrt", "reciprocal", "log"):
        lower = lower.abs() + 1e-3
        upper = lower + width
    kept = upper < 300 if function == "exp" else upper > lower
    return lower[kept].unsqueeze(1), upper[kept].unsqueeze(1)


@pytest.mark.parametrize("function", CURVED)
def test_lines_hold_the_function_in_spite_of_rounding(function: str) -> None:
    lower, upper = many_intervals(function)
    found = curve(function, lower, upper)
    ends = torch.logspace(-12, -1, 60, dtype=torch.float64)
    shares = torch.cat([torch.linspace(0, 1, 301, dtype=torch.float64), ends, 1 - ends])
    near = torch.linspace(-6, 6, 301, dtype=torch.float64).expand(len(lower), -1)
    x = torch.cat([torch.lerp(lower, upper, shares), near], 1).maximum(lower).minimum(upper)
    y = FUNCTIONS[function](x)
    below, above = lines_at(found, x)
    assert (below <= y).all()
    assert (above >= y).all()


TOUCHED = {
    ("sigmoid", "tanh", "erf", "atan"): ((-3.0, 2.0), (-0.5, 4.0), (-5.0, 0.4), (1.0, 2.0)),
    ("gelu", "gelu_tanh", "silu", "mish", "hardswish", "selu"): (
        (-3.0, 2.0), (-0.5, 4.0), (-9.0, 0.4), (-4.5, -2.0),
    ),
}  # fmt: skip
"""Functions in the form of an S, and those that turn, with intervals on both sides of a bend."""


@pytest.mark.parametrize(
    ("function", "lower", "upper"),
    [(f, *ends) for some, intervals in TOUCHED.items() for f in some for ends in intervals],
)
def test_lines_touch_the_function(function: str, lower: float, upper: float) -> None:
    found = curve(function, tensor(lower), tensor(upper))
    x = torch.linspace(lower, upper, 20_001, dtype=torch.float64)
    y = FUNCTIONS[function](x)
    below, above = lines_at(found, x)
    assert 0 <= (y - below).min() < 1e-6
    assert 0 <= (above - y).min() < 1e-6
    # and are nearer than constants, on the whole
    assert (above - below).mean() < y.max() - y.min()


@pytest.mark.parametrize("function", sorted(_TURNS))
def test_slopes_are_monotone_between_turns(function: str) -> None:
    edges = (-20.0, *_TURNS[function], 20.0)
    for first, last in itertools.pairwise(edges):
        x = torch.linspace(first + 1e-9, last - 1e-9, 5001, dtype=torch.float64)
        x.requires_grad_()
        (slope,) = torch.autograd.grad(FUNCTIONS[function](x).sum(), x)
        assert torch.allclose(slope, SLOPES[function](x.detach()), atol=1e-9)
        steps = slope.diff()
        assert (steps >= -1e-12).all() or (steps <= 1e-12).all()


def test_tangent_and_chord_of_a_square() -> None:
    found = curve("square", tensor(-1.0), tensor(3.0))
    assert (found.low.item(), found.up.item()) == (2.0, 2.0)
    assert_just_below(found.low_offset, [[-1.0]])
    assert_just_above(found.up_offset, [[3.0]])


def test_lines_of_selu_by_hand() -> None:
    """It bends down at 0, which lies above the chord of [-1, 1]: lines from above touch there."""
    found = curve("selu", tensor(-1.0), tensor(1.0))
    least = SELU_ALPHA * (math.exp(-1.0) - 1)
    assert found.up_offset.item() == pytest.approx(0.0, abs=1e-12)
    assert 1 <= found.up.item() <= -least
    # and one from below, at one of the ends or at a point of the left half
    below = found.low.item() * torch.tensor([-1.0, 1.0]).double() + found.low_offset.item()
    assert below[0] <= least
    assert below[1] <= 1
    assert below.mean() >= least / 2


@pytest.mark.parametrize(
    ("function", "lower", "upper"),
    [
        ("sigmoid", 0.5, 0.5),
        ("sqrt", -1.0, 4.0),
        ("log", 0.0, 4.0),
        ("reciprocal", -1.0, 1.0),
        ("exp", 0.0, 1e6),
    ],
)
def test_constants_where_there_are_no_lines(function: str, lower: float, upper: float) -> None:
    found = curve(function, tensor(lower), tensor(upper))
    assert found.low.item() == found.up.item() == 0.0
    assert found.low_offset.item() <= found.up_offset.item()
