"""Boxes exactly, and their float32 rounding for attacks."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verify_pipeline.certify.boxes import exact_box, inner_box
from verify_pipeline.problem import Box

PIXELS = torch.arange(256).float() / 255


@pytest.mark.parametrize("epsilon", [0.0, 1 / 255, 2 / 255, 0.1, 0.3, 1.0])
def test_the_inner_box_is_inside_and_as_great_as_float32_allows(epsilon: float) -> None:
    box = exact_box(PIXELS.reshape(-1, 1), epsilon)
    inner = inner_box(box)
    assert inner.lower.dtype == torch.float32
    for lower, upper, exact_lower, exact_upper in zip(
        inner.lower, inner.upper, box.lower, box.upper, strict=True
    ):
        assert Fraction(lower.item()) >= Fraction(exact_lower.item())
        assert Fraction(upper.item()) <= Fraction(exact_upper.item())
        below = torch.nextafter(lower, torch.tensor(-torch.inf))
        above = torch.nextafter(upper, torch.tensor(torch.inf))
        assert Fraction(below.item()) < Fraction(exact_lower.item())
        assert Fraction(above.item()) > Fraction(exact_upper.item())


def test_rounding_the_limits_to_nearest_would_leave_the_box() -> None:
    box = exact_box(PIXELS.reshape(-1, 1), 0.1)
    assert not bool(box.contains(box.upper.float().double()).all())
    assert bool(box.contains(inner_box(box).upper.double()).all())


@settings(deadline=None, max_examples=100)
@given(st.floats(0, 1, width=32), st.floats(0, 1), st.floats(0, 1, width=32))
def test_a_float32_point_of_the_inner_box_is_in_the_exact_one(
    pixel: float, epsilon: float, share: float
) -> None:
    box = exact_box(torch.tensor([[pixel]]), epsilon)
    inner = inner_box(box)
    point = (inner.lower + share * (inner.upper - inner.lower)).clamp(inner.lower, inner.upper)
    assert bool(box.contains(point.double()).all())
    assert abs(Fraction(point.item()) - Fraction(pixel)) <= Fraction(epsilon) + Fraction(1, 2**53)


def test_the_image_is_in_its_own_box_even_without_any_room() -> None:
    inner = inner_box(exact_box(PIXELS.reshape(-1, 1), 0.0))
    assert torch.equal(inner.lower.flatten(), PIXELS)
    assert torch.equal(inner.upper.flatten(), PIXELS)


def test_an_interval_without_float32_gives_a_candidate_that_is_refused_later() -> None:
    tenth = torch.tensor([[0.1]], dtype=torch.float64)
    box = Box(tenth, tenth)
    inner = inner_box(box)
    assert torch.equal(inner.lower, inner.upper)
    assert not bool(box.contains(inner.lower.double()))
