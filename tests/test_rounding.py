"""Rounding in a known direction, against numbers computed by hand."""

import math

import pytest
import torch

from verify_pipeline.rounding import inward, next_down, next_up, outward, round_down, round_up

F32, F64 = torch.float32, torch.float64

# float32 has 24 significant bits: beside 1 its numbers are 1 - 2^-24 and 1 + 2^-23
ABOVE, BELOW = 1 + 2.0**-23, 1 - 2.0**-24
LEAST = 2.0**-149
LARGEST = (2 - 2.0**-23) * 2.0**127


@pytest.mark.parametrize(
    ("exact", "down", "up"),
    [
        (1.0, 1.0, 1.0),
        (1 + 2.0**-30, 1.0, ABOVE),  # nearest is below
        (1 + 2.0**-23 - 2.0**-30, 1.0, ABOVE),  # nearest is above
        (1 - 2.0**-30, BELOW, 1.0),
        (-1 - 2.0**-30, -ABOVE, -1.0),
        (1 + 2.0**-24, 1.0, ABOVE),  # halfway
        (0.0, 0.0, 0.0),
        (2.0**-160, 0.0, LEAST),
        (-(2.0**-160), -LEAST, 0.0),
        (1e300, LARGEST, math.inf),
        (-1e300, -math.inf, -LARGEST),
        (math.inf, math.inf, math.inf),
        (-math.inf, -math.inf, -math.inf),
    ],
)
def test_neighbours_in_float32(exact: float, down: float, up: float) -> None:
    value = torch.tensor([exact], dtype=F64)
    low, high = round_down(value, F32), round_up(value, F32)
    assert (low.dtype, high.dtype) == (F32, F32)
    assert (float(low), float(high)) == (down, up)


def test_the_next_numbers_of_float32() -> None:
    one = torch.tensor([1.0, 0.0])
    assert next_down(one).tolist() == [BELOW, -LEAST]
    assert next_up(one).tolist() == [ABOVE, LEAST]


def test_nan_stays_nan() -> None:
    value = torch.tensor([math.nan], dtype=F64)
    assert bool(round_down(value, F32).isnan())
    assert bool(round_up(value, F32).isnan())


def test_the_same_dtype_is_left_alone() -> None:
    value = torch.tensor([0.1, -0.1], dtype=F64)
    for target in (F64, "cpu", torch.device("cpu")):
        assert torch.equal(round_down(value, target), value)
        assert torch.equal(round_up(value, target), value)


def test_a_wider_dtype_holds_every_number() -> None:
    value = torch.tensor([0.1], dtype=F32)
    assert torch.equal(round_down(value, F64), value.double())
    assert torch.equal(round_up(value, F64), value.double())


def test_outward_contains_the_interval_and_inward_lies_inside() -> None:
    lower = torch.tensor([1 - 2.0**-30, 1 + 2.0**-30], dtype=F64)
    upper = torch.tensor([1 + 2.0**-30, 1 + 2.0**-29], dtype=F64)
    outer = torch.stack(outward(lower, upper, F32)).tolist()
    assert outer == [[BELOW, 1.0], [ABOVE, ABOVE]]
    inner_lower, inner_upper = inward(lower, upper, F32)
    assert (float(inner_lower[0]), float(inner_upper[0])) == (1.0, 1.0)
    # no float32 number lies in the second interval
    assert bool(inner_lower[1] > inner_upper[1])
