"""Batches keep their pace, and seconds go to whom they were spent on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch

from verify_pipeline.branching.limits.bookkeeping import Bookkeeping
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.limits.time_limits import Deadlines

F64 = torch.float64


def books(*seconds: float) -> Bookkeeping:
    """Of instances of which nothing is known."""
    at_root = torch.full((len(seconds), 1), -torch.inf, dtype=F64)
    return Bookkeeping(at_root, Deadlines.alone(torch.tensor(seconds, dtype=F64)))


def clock_of(*times: float) -> Callable[[], float]:
    ticks: Iterator[float] = iter(times)
    return lambda: next(ticks)


def whose(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.long)


def test_batches_grow_to_the_limit_however_long_they_take() -> None:
    meter = Meter(books(1e9), 20, clock_of(0, 0, 0.1, 1, 1e6))
    sizes = [meter.size]
    for _ in range(2):
        meter.start()
        meter.stop(whose(meter.size), whose(meter.size))
        sizes.append(meter.size)
    assert sizes == [8, 16, 20]


def test_a_batch_is_no_larger_than_its_time_allows_but_never_empty() -> None:
    made = books(1e9)
    meter = Meter(made, 100, clock_of(0, 0, 4.0, 10, 11, 20))
    meter.start(1.0)
    assert meter.size == 8  # nothing is known of how long a subproblem takes
    meter.stop(whose(8), whose(8))
    assert made.charged.tolist() == [4.0]
    meter.start(2.0)
    assert meter.size == 4  # at half a second each
    meter.stop(whose(4), whose(4))
    meter.start(0.01)
    assert meter.size == 1


def test_what_was_spent_adds_up_to_what_passed() -> None:
    made = books(1e9, 1e9)
    meter = Meter(made, 100, clock_of(0, 1, 3, 6, 6.5))
    meter.start()
    meter.spent_on(torch.tensor([0]))
    meter.spent_on(torch.tensor([0, 1, 1]))
    meter.stop(torch.tensor([1, 1]), torch.tensor([1, 1, 1, 1]))
    assert made.charged.tolist() == pytest.approx([2 + 1, 2 + 0.5])


def test_what_is_spent_on_nobody_is_paid_for_by_the_next() -> None:
    made = books(1e9, 1e9)
    meter = Meter(made, 100, clock_of(0, 0, 5))
    meter.start()
    meter.spent_on(torch.zeros(0, dtype=torch.long), 100.0)
    meter.spent_on(torch.tensor([1]))
    assert made.charged.tolist() == [0.0, 5.0]
    assert made.work.tolist() == [0.0, 0.0]


def test_work_is_counted_for_each_thing_it_was_for() -> None:
    made = books(1e9, 1e9)
    meter = Meter(made, 100, lambda: 0.0)
    meter.spent_on(torch.tensor([0, 1, 1]), 2.5)
    meter.spent_on(torch.tensor([1, 0]), torch.tensor([1.0, 10.0]))
    meter.stop(torch.tensor([1]), torch.tensor([1, 1]))
    assert made.work.tolist() == [12.5, 5 + 1 + 2]
    assert made.bounded.tolist() == [0, 2]


def test_a_limit_is_kept() -> None:
    meter = Meter(books(1e9), 100, clock_of(0, 0, 0.001))
    meter.limit_to(3)
    assert meter.size == 3
    meter.start()
    meter.stop(whose(3), whose(3))
    assert meter.size == 3


def test_a_step_has_time_until_one_of_those_it_serves_has_used_up_its_own() -> None:
    now = [0.0]
    meter = Meter(books(10.0, 20.0), 100, lambda: now[0])
    meter.start()
    meter.serve(torch.tensor([0, 1, 1, 1]), math.inf)
    assert meter.now == 0.0
    now[0] = 26.0  # three quarters are the second's: 20 after 26.7 s
    assert meter.has_time()
    now[0] = 27.0
    assert not meter.has_time()
    meter.start()
    meter.serve(torch.tensor([0, 1]), 28.0)
    assert meter.has_time()
    now[0] = 28.0  # the search pauses
    assert not meter.has_time()
