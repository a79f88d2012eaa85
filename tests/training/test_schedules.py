"""Schedules against closed forms, and against auto_LiRPA's own."""

import math

import pytest

from verify_pipeline.lirpa import load
from verify_pipeline.training.schedules import (
    epsilon_schedule,
    learning_rate,
    linear,
    ramp_schedule,
    smoothed,
)
from verify_pipeline.training.settings import EpsilonSettings, Ramp


def test_smoothed_by_hand() -> None:
    # steps 0..80: middle 20, a = 1 / ((4·60 + 20)·20³); value at the middle a·20⁴ = 20/260 = 1/13
    assert smoothed(0, 0, 80) == 0
    assert smoothed(10, 0, 80) == pytest.approx(10**4 / (260 * 20**3))
    assert smoothed(20, 0, 80) == pytest.approx(1 / 13)
    assert smoothed(50, 0, 80) == pytest.approx(1 / 13 + 12 / 13 / 2)
    assert smoothed(80, 0, 80) == 1
    assert smoothed(10_000, 0, 80) == 1


def test_smoothed_has_one_slope_at_the_middle() -> None:
    first, last, step = 1000, 41_000, 11_000
    before = smoothed(step, first, last) - smoothed(step - 1, first, last)
    after = smoothed(step + 1, first, last) - smoothed(step, first, last)
    assert before == pytest.approx(after, rel=1e-3)


def test_smoothed_is_monotone() -> None:
    values = [smoothed(step, 7, 93) for step in range(120)]
    assert values == sorted(values)


@pytest.mark.parametrize(("start", "length"), [(1, 20), (2, 8), (3, 1)])
def test_equals_auto_lirpa(start: int, length: int) -> None:
    load()
    from auto_LiRPA.eps_scheduler import SmoothedScheduler

    steps = 12
    theirs = SmoothedScheduler(0.2, f"start={start},length={length}")
    theirs.set_epoch_length(steps)
    theirs.train()
    ours = epsilon_schedule(
        EpsilonSettings(target=0.1, train_factor=2.0, start=start, length=length), steps
    )
    for step in range((start + length + 2) * steps):
        if step % steps == 0:
            theirs.step_epoch()
        theirs.step_batch()
        assert ours(step) == pytest.approx(theirs.get_eps(), abs=1e-12)


def test_no_ramp_is_full_at_once() -> None:
    schedule = epsilon_schedule(EpsilonSettings(target=0.3, start=2, length=0), 10)
    assert [schedule(step) for step in (0, 9, 10, 11)] == [0, 0, 0, 0.3]


def test_linear_ramp() -> None:
    assert [linear(step, 10, 20) for step in (0, 10, 15, 20, 99)] == [0, 0, 0.5, 1, 1]
    ramp = Ramp(shape="linear", start_value=1.0, start=2, length=1)
    schedule = ramp_schedule(ramp, 0.5, steps_per_epoch=10)
    assert [schedule(step) for step in (0, 10, 15, 20)] == pytest.approx([1.0, 1.0, 0.75, 0.5])


def test_constant_and_smoothed_ramps() -> None:
    assert ramp_schedule(Ramp(), 0.3, 10)(0) == 0.3
    schedule = ramp_schedule(Ramp(shape="smoothed", start=1, length=8), 0.5, 10)
    assert schedule(40) == pytest.approx(0.5 * smoothed(40, 0, 80))


def test_learning_rate_falls_after_its_milestones() -> None:
    rates = {epoch: learning_rate(5e-4, (50, 60), 0.2, epoch) for epoch in (1, 50, 51, 60, 61, 70)}
    assert rates[1] == rates[50] == 5e-4
    assert rates[51] == rates[60] == pytest.approx(1e-4)
    assert math.isclose(rates[70], 2e-5)
