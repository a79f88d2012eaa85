"""The value objects of bounds: casts round outward, NaN is never good news, limits are checked."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from verify_pipeline.bounds import (
    MarginBounds,
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
)
from verify_pipeline.bounds.types import sound_lower, sound_upper

NUMBERS = st.floats(allow_nan=False, allow_infinity=True)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_narrower_bounds_hold_the_wider(values: list[float]) -> None:
    exact = torch.tensor([values], dtype=torch.float64)
    narrow = NodeBounds({3: exact}, {3: exact}).to(torch.float32)
    assert narrow.lower[3].dtype == torch.float32
    assert (narrow.lower[3].double() <= exact).all()
    assert (narrow.upper[3].double() >= exact).all()


def test_narrowing_moves_no_further_than_one_step() -> None:
    value = torch.tensor([[0.1, 1.0, -0.3]], dtype=torch.float64)
    narrow = NodeBounds({0: value}, {0: value}).to(torch.float32)
    gap = narrow.upper[0] - narrow.lower[0]
    assert gap[0, 1] == 0.0
    assert (gap <= 2 * torch.finfo(torch.float32).eps).all()
    wide = narrow.to(torch.float64)
    assert torch.equal(wide.lower[0], narrow.lower[0].double())


def test_what_is_not_known_is_not_bounded() -> None:
    odd = torch.tensor([math.nan, math.inf, -math.inf, 1.0])
    assert sound_lower(odd).tolist() == [-math.inf, -math.inf, -math.inf, 1.0]
    assert sound_upper(odd).tolist() == [math.inf, math.inf, math.inf, 1.0]


def test_intersection_keeps_the_tighter_of_each() -> None:
    one = NodeBounds({0: torch.tensor([[0.0, 1.0]])}, {0: torch.tensor([[2.0, 5.0]])})
    other = NodeBounds(
        {0: torch.tensor([[1.0, 0.0]]), 4: torch.zeros(1, 1)},
        {0: torch.tensor([[3.0, 4.0]]), 4: torch.ones(1, 1)},
    )
    both = one.intersect(other)
    assert both.lower[0].tolist() == [[1.0, 1.0]]
    assert both.upper[0].tolist() == [[2.0, 4.0]]
    assert sorted(both.lower) == [0, 4]


def test_bounds_of_different_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="different nodes"):
        NodeBounds({0: torch.zeros(1)}, {})


def test_instances_are_picked_in_the_order_asked() -> None:
    bounds = NodeBounds({0: torch.arange(3.0).view(3, 1)}, {0: torch.arange(3.0).view(3, 1)})
    picked = bounds[torch.tensor([2, 0, 2])]
    assert picked.lower[0].flatten().tolist() == [2.0, 0.0, 2.0]
    assert len(picked) == 3
    multipliers = Multipliers({1: torch.arange(3.0).view(3, 1, 1)}, {})
    assert multipliers[torch.tensor([1])].alpha[1].item() == 1.0


def test_a_tie_is_not_verified() -> None:
    lower = torch.tensor([[1.0, 0.0], [0.1, 2.0], [-math.inf, 1.0]])
    found = MarginBounds(lower, torch.zeros(3, 2, 1), torch.zeros(3, 2))
    assert found.verified().tolist() == [False, True, False]
    assert found.least.tolist() == [0.0, pytest.approx(0.1), -math.inf]


@pytest.mark.parametrize("bad", [{"iterations": -1}, {"lr_alpha": 0.0}, {"decay": "x"}])
def test_settings_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        OptimiseSettings(**bad)  # type: ignore[arg-type]


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError):
        MemoryBudget(bytes=0)
