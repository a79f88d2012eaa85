"""Time and subproblems are charged to whom they belong; what ends has what is proved of it."""

from __future__ import annotations

import math

import pytest
import torch

from verify_pipeline.branching.limits.bookkeeping import LEAST_STEP, Bookkeeping
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.problem import Reason, Status

F64 = torch.float64
EVERYBODY = torch.ones(3, dtype=torch.bool)


def books() -> Bookkeeping:
    at_root = torch.tensor([[-1.0, 2.0], [3.0, 0.5], [-4.0, -5.0]], dtype=F64)
    return Bookkeeping(at_root, Deadlines.alone(torch.tensor([10.0, 20.0, 30.0])))


def test_seconds_are_divided_in_proportion() -> None:
    made = books()
    made.charge(torch.tensor([0, 2, 0, 0]), 8.0)
    assert made.charged.tolist() == [6.0, 0.0, 2.0]
    assert made.used.tolist() == pytest.approx([0.6, 0.0, 2 / 30])
    assert made.left.tolist() == [4.0, 20.0, 28.0]
    made.charge(torch.zeros(0, dtype=torch.long), 5.0)
    assert made.charged.tolist() == [6.0, 0.0, 2.0]


def test_rows_closed_at_the_root_count_as_proved() -> None:
    assert books().proved.tolist() == [2.0, 0.5, math.inf]


def test_the_least_closed_bound_is_what_is_proved() -> None:
    made = books()
    made.opened(torch.tensor([0, 0, 2]))
    assert made.complete() == [1]
    made.close(torch.tensor([0, 0]), torch.tensor([0.25, 7.0], dtype=F64))
    assert made.complete() == [0, 1]
    assert made.proved.tolist() == [0.25, 0.5, math.inf]
    made.end(0, Status.VERIFIED, 0.25)
    assert made.complete() == [1]


@pytest.mark.parametrize("bound", [0.0, -3.0, -math.inf])
def test_one_that_is_closed_without_a_proof_is_never_forgotten(bound: float) -> None:
    made = books()
    made.opened(torch.tensor([1, 1, 1]))
    made.close(torch.tensor([1, 1, 1]), torch.tensor([4.0, bound, 5.0], dtype=F64))
    assert made.proved[1] == bound


def test_what_is_split_stays_open_until_its_parts_are_closed() -> None:
    made = books()
    made.opened(torch.tensor([0, 2]))
    assert made.going.tolist() == [True, False, True]
    made.split(torch.tensor([2]), 2)
    assert made.open.tolist() == [1, 0, 2]
    made.close(torch.tensor([2]), torch.tensor([1.0], dtype=F64))
    assert 2 not in made.complete()
    made.close(torch.tensor([2]), torch.tensor([1.0], dtype=F64))
    assert 2 in made.complete()
    made.end(0, Status.UNKNOWN, -1.0, Reason.TIMEOUT)
    assert not bool(made.going.any())


def test_an_instance_ends_once() -> None:
    made = books()
    made.charge(torch.tensor([0, 1, 1, 1, 1, 1]), 60.0)
    assert made.overdue() == [0, 1]
    made.end(0, Status.UNKNOWN, math.nan, Reason.TIMEOUT)
    assert made.overdue() == [1]


def test_the_end_tells_what_it_took() -> None:
    made = books()
    made.charge(torch.tensor([2]), 7.5)
    made.bounded += torch.tensor([0, 0, 12])
    found = made.end(2, Status.UNKNOWN, -5.0, Reason.BUDGET)
    assert (found.place, found.status, found.reason) == (2, Status.UNKNOWN, Reason.BUDGET)
    assert (found.bound, found.seconds, found.subproblems) == (-5.0, 7.5, 12)
    for unknown in (math.nan, math.inf, -math.inf):
        assert made.end(1, Status.UNKNOWN, unknown, Reason.BUDGET).bound is None


def test_more_than_may_be_bounded_is_over() -> None:
    made = books()
    made.bounded += torch.tensor([5, 6, 7])
    assert made.over(5) == [1, 2]
    made.end(1, Status.UNKNOWN, math.nan, Reason.BUDGET)
    assert made.over(5) == [2]


def test_what_an_instance_leaves_of_its_time_goes_to_its_group() -> None:
    at_root = torch.full((4, 1), -1.0, dtype=F64)
    shared = Deadlines(torch.full((4,), 10.0), torch.tensor([0, 0, 1, 0]))
    made = Bookkeeping(at_root, shared)
    made.charge(torch.arange(4), 16.0)
    made.end(0, Status.VERIFIED, 1.0)  # leaves 6 seconds to the instances 1 and 3
    assert made.left.tolist() == pytest.approx([6.0, 9.0, 6.0, 9.0])
    made.charge(torch.tensor([1]), 9.0)
    assert made.overdue() == [1]
    made.end(1, Status.UNKNOWN, math.nan, Reason.TIMEOUT)
    assert made.left[3].item() == pytest.approx(9.0)
    made.end(2, Status.VERIFIED, 1.0)
    assert made.left[3].item() == pytest.approx(9.0)


def test_a_batch_may_take_half_of_what_the_one_with_least_time_has_left_for_each() -> None:
    made = books()
    made.opened(torch.tensor([0, 1]))
    made.charge(torch.tensor([0]), 4.0)
    assert made.for_a_batch(EVERYBODY) == pytest.approx(2 * (10 - 4) / 2)  # 2 have some open
    assert made.for_a_batch(~EVERYBODY) == 0.0
    made.charge(torch.tensor([0]), 6.0)
    assert made.for_a_batch(EVERYBODY) == pytest.approx(2 * LEAST_STEP * 10)
    made.end(0, Status.UNKNOWN, math.nan, Reason.TIMEOUT)
    assert made.for_a_batch(EVERYBODY) == pytest.approx(20 / 2)


def test_a_step_may_take_what_the_first_to_be_late_has_left() -> None:
    """Three of four parts are the second's: of 4 s, it pays 3."""
    made = books()
    made.charge(torch.tensor([1]), 17.0)
    assert made.for_a_step(torch.tensor([1, 0, 1, 1])) == pytest.approx(3.0 * 4 / 3)
    assert made.for_a_step(torch.tensor([1, 0, 0, 0])) == pytest.approx(min(10.0 * 4 / 3, 3.0 * 4))
