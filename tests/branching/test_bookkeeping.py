"""Time and domains are charged to whom they belong; batches keep their pace."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from verify_pipeline.branching.limits.bookkeeping import LEAST_STEP, Bookkeeping, Pace
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.problem import Status


def accounts() -> Bookkeeping:
    at_root = torch.tensor([[-1.0, 2.0], [3.0, 0.5], [-4.0, -5.0]], dtype=torch.float64)
    return Bookkeeping(at_root, Deadlines.alone(torch.tensor([10.0, 20.0, 30.0])))


def test_seconds_are_divided_in_proportion() -> None:
    made = accounts()
    made.charge(torch.tensor([3, 0, 1]), 8.0)
    assert made.charged.tolist() == [6.0, 0.0, 2.0]
    assert made.used.tolist() == pytest.approx([0.6, 0.0, 2 / 30])
    made.charge(torch.zeros(3), 5.0)
    assert made.charged.tolist() == [6.0, 0.0, 2.0]


def test_rows_closed_at_the_root_count_as_proved() -> None:
    assert accounts().proved.tolist() == [2.0, 0.5, float("inf")]


def test_the_least_closed_bound_is_what_is_proved() -> None:
    made = accounts()
    made.begin(torch.tensor([0, 0, 2]))
    assert made.complete() == [1]
    made.close(torch.tensor([0, 0]), torch.tensor([0.25, 7.0], dtype=torch.float64))
    assert made.complete() == [0, 1]
    found = made.end(0, Status.VERIFIED)
    assert found.bound == 0.25
    assert made.complete() == [1]


def test_an_instance_ends_once() -> None:
    made = accounts()
    made.charge(torch.tensor([1, 1, 0]), 60.0)
    assert made.overdue() == [0, 1]
    made.end(0, Status.UNKNOWN)
    assert made.overdue() == [1]


def test_what_an_instance_leaves_of_its_time_goes_to_its_group() -> None:
    at_root = torch.full((4, 1), -1.0, dtype=torch.float64)
    shared = Deadlines(torch.full((4,), 10.0), torch.tensor([0, 0, 1, 0]))
    made = Bookkeeping(at_root, shared)
    made.charge(torch.ones(4), 16.0)
    made.end(0, Status.VERIFIED)  # leaves 6 seconds to the instances 1 and 3
    assert made.left.tolist() == pytest.approx([6.0, 9.0, 6.0, 9.0])
    made.charge(torch.tensor([0, 1, 0, 0]), 9.0)
    assert made.overdue() == [1]
    made.end(1, Status.UNKNOWN)
    assert made.left[3].item() == pytest.approx(9.0)
    made.end(2, Status.VERIFIED)
    assert made.left[3].item() == pytest.approx(9.0)


def clock_of(*times: float) -> Callable[[], float]:
    ticks: Iterator[float] = iter(times)
    return lambda: next(ticks)


def test_batches_grow_to_the_limit_however_long_they_take() -> None:
    pace = Pace(20, clock_of(0, 0, 0.1, 1, 1e6))
    sizes = [pace.size]
    for _ in range(2):
        pace.start()
        pace.stop(pace.size)
        sizes.append(pace.size)
    assert sizes == [8, 16, 20]


def test_a_batch_is_no_larger_than_its_time_allows_but_never_empty() -> None:
    pace = Pace(100, clock_of(0, 0, 4.0, 10, 11, 20))
    pace.start(1.0)
    assert pace.size == 8  # nothing is known of how long a domain takes
    assert pace.stop(8) == 4.0
    pace.start(2.0)
    assert pace.size == 4  # at half a second each
    pace.stop(4)
    pace.start(0.01)
    assert pace.size == 1


def test_laps_add_up_to_what_passed() -> None:
    pace = Pace(100, clock_of(0, 1, 3, 6, 6.5))
    pace.start()
    assert (pace.lap(), pace.lap(), pace.stop(2)) == (2, 3, 0.5)


def test_a_limit_is_kept() -> None:
    pace = Pace(100, clock_of(0, 0, 0.001))
    pace.limit_to(3)
    assert pace.size == 3
    pace.start()
    pace.stop(3)
    assert pace.size == 3


def test_a_batch_may_take_half_of_what_the_one_with_least_time_has_left_for_each() -> None:
    made = accounts()
    made.begin(torch.tensor([0, 1]))
    made.charge(torch.tensor([1, 0, 0]), 4.0)
    everybody = torch.ones(3, dtype=torch.bool)
    assert made.for_a_batch(everybody) == pytest.approx(2 * (10 - 4) / 2)  # 2 have open domains
    assert made.for_a_batch(~everybody) == 0.0
    made.charge(torch.tensor([1, 0, 0]), 6.0)
    assert made.for_a_batch(everybody) == pytest.approx(2 * LEAST_STEP * 10)
