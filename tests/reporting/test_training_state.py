"""A training's rate, time left and lines, by a clock that goes on when it is told to."""

import pytest

from tests.reporting.test_certification_state import Clock
from verify_pipeline.reporting.durations import TimeRange
from verify_pipeline.reporting.progress_lines import MINUTE
from verify_pipeline.reporting.training_progress import TrainLines
from verify_pipeline.reporting.training_state import (
    TrainingState,
    epoch_line,
    validation_lines,
)

METRICS = {
    "epoch": 9,
    "epsilon": 2 / 255,
    "alpha": 0.5,
    "rate": 5e-4,
    "train_loss": 0.91743,
    "train_clean": 0.9263,
    "train_adversarial": 0.8429,
    "train_verified": 0.088,
    "seconds": 12.34,
}


def test_the_epoch_line_has_what_matters() -> None:
    line = "epoch   9/160  clean 92.6%  adv 84.3%  ibp  8.8%  loss 0.9174  ε 0.00784  12.3 s"
    assert epoch_line(METRICS, 160) == line
    assert len(line) == 80


@pytest.mark.parametrize("epoch", [1, 160, 2000])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("loss", [0.0, 1e-5, 0.123456, 999.99])
@pytest.mark.parametrize("epsilon", [0.0, 1.234e-5, 0.3])
@pytest.mark.parametrize("seconds", [0.1, 99.9, 5000.0])
def test_it_fits_80_columns(
    epoch: int, share: float, loss: float, epsilon: float, seconds: float
) -> None:
    names = ("train_clean", "train_adversarial", "train_verified")
    metrics = METRICS | dict.fromkeys(names, share)
    metrics |= {"epoch": epoch, "train_loss": loss, "epsilon": epsilon, "seconds": seconds}
    assert len(epoch_line(metrics, epoch)) <= 80


def test_what_a_loss_does_not_measure_is_left_out() -> None:
    assert epoch_line({"epoch": 1, "train_clean": 1.0}, 2) == "epoch 1/2  clean 100.0%"


def test_validation_has_lines_of_its_own() -> None:
    measured = {
        "validation_standard": 1.0,
        "validation_adversarial": 0.9,
        "validation_ibp": 0.25,
        "cascade_standard": 1.0,
        "cascade_verified": 0.5,
    }
    assert validation_lines(METRICS | measured) == [
        "  validation:  clean 100.0%  adv 90.0%  ibp 25.0%",
        "  certified:  clean 100.0%  verified 50.0%",
    ]
    assert validation_lines(METRICS) == []


def test_the_first_step_is_left_out_of_the_rate() -> None:
    """The first of 10 steps takes 30 s, each other 2 s: an epoch of 20 s, 3 epochs."""
    clock = Clock()
    state = TrainingState(clock)
    state.epoch_started(1, 3, 10)
    clock.now = 30.0
    state.step_done(1, 2.0)
    assert (state.rate, state.left()) == ("", None)
    clock.now = 34.0
    state.step_done(3, 2.0)
    assert state.rate == "30 steps/min"
    assert state.left() == TimeRange(40.0)  # at least: later epochs may compute bounds


def test_a_warm_up_says_little_of_later_epochs() -> None:
    clock = Clock()
    state = TrainingState(clock)
    for epoch, seconds, epsilon in ((1, 5.0, 0.0), (2, 10.0, 0.1), (3, 20.0, 0.1)):
        state.epoch_started(epoch, 5, 1)
        clock.now += seconds
        state.step_done(1, 1.0)
        state.epoch_done({"epoch": epoch, "epsilon": epsilon})
        if epoch == 1:
            assert state.left() == TimeRange(20.0)
    assert state.left() == TimeRange(30.0, 30.0)  # two epochs of 15 s
    state.epoch_started(4, 5, 1)
    clock.now += 5.0
    assert state.left() == TimeRange(25.0, 25.0)
    assert state.done == 3


def test_lines_are_one_an_epoch_and_one_a_minute() -> None:
    clock, lines = Clock(), list[str]()
    state = TrainLines(lines.append, clock)
    state.epoch_started(3, 4, 100)
    assert lines.pop() == "2 of 4 epochs are done already."
    state.tick()
    state.step_done(1, 0.5)
    clock.now = 10.0
    state.step_done(11, 0.5)
    assert lines.pop() == "expected: at least 3.2 min for 2 epochs"
    clock.now += MINUTE
    state.tick()
    state.tick()
    assert lines.pop().startswith("epoch 3/4: step 11 of 100, loss 0.5, ")
    assert not lines
    state.epoch_done({"epoch": 3, "epsilon": 0.1, "train_loss": 0.25, "validation_ibp": 0.5})
    assert lines == ["epoch 3/4  loss 0.25    ε 0.1", "  validation:  ibp 50.0%"]
    clock.now += MINUTE
    state.tick()
    assert len(lines) == 2  # between two epochs
