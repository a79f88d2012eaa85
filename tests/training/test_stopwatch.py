"""What is measured of a training: which phases, which steps, and when it ends."""

from dataclasses import replace

import pytest
import torch

from verify_pipeline import data
from verify_pipeline.config import load_recipe
from verify_pipeline.data import DataSettings
from verify_pipeline.training import TrainSettings, stopwatch
from verify_pipeline.training.settings import (
    EpsilonSettings,
    KeepSettings,
    LossSettings,
    Ramp,
    StartSettings,
    StopSettings,
    WatchSettings,
)
from verify_pipeline.training.stopwatch import measure_steps, phases

pytest.importorskip("sklearn")


def settings(**others: object) -> TrainSettings:
    """Digits: 2 epochs of warm-up, 3 of ramp, 5 of full ε, 23 steps each."""
    made = load_recipe("digits-cc-ibp").train
    optimiser = replace(made.optimiser, epochs=10, milestones=())
    epsilon = EpsilonSettings(target=0.1, start=3, length=3)
    return replace(made, **{"optimiser": optimiser, "epsilon": epsilon, **others})  # type: ignore[arg-type]


def test_each_phase_has_its_epochs_and_begins_with_its_first_step() -> None:
    warm_up, ramp, full = phases(settings())
    assert [each.epochs for each in (warm_up, ramp, full)] == [2, 3, 5]
    assert warm_up.settings.epsilon.start == 2
    assert (ramp.settings.epsilon.start, ramp.settings.epsilon.length) == (1, 1)
    assert (full.settings.epsilon.start, full.settings.epsilon.length) == (1, 0)


def test_nothing_is_watched_kept_or_loaded_while_steps_are_measured() -> None:
    made = settings(
        epsilon=EpsilonSettings(target=0.1, start=3, length=4, shape="step", stair=2),
        start=StartSettings(weights="nowhere"),
        data=DataSettings(name="digits", validation=100),
        watch=WatchSettings(every=1),
        keep=KeepSettings(every=1, best="validation_ibp", network="best"),
        stop=StopSettings(metric="validation_ibp"),
    )
    for phase in phases(made):
        chosen = phase.settings
        assert (chosen.start.weights, chosen.keep.best, chosen.stop.metric) == (None, None, None)
        assert chosen.watch.every == 0
    assert [phase.epochs for phase in phases(made)] == [2, 4, 4]


def test_phases_without_epochs_are_left_out() -> None:
    at_once = EpsilonSettings(target=0.1, start=1, length=0)
    (full,) = phases(settings(epsilon=at_once))
    assert (full.name, full.epochs) == ("full ε", 10)


def test_a_loss_without_boxes_has_one_phase() -> None:
    (all_,) = phases(settings(loss=LossSettings(name="natural")))
    assert all_.epochs == 10


def test_alpha_is_that_of_the_end() -> None:
    ramp = Ramp(shape="linear", start=2, length=4)
    chosen = settings(loss=LossSettings(name="cc-ibp", alpha=0.5, alpha_ramp=ramp))
    assert {each.settings.loss.alpha_ramp for each in phases(chosen)} == {Ramp()}


@pytest.mark.parametrize(("seconds", "steps"), [(0.001, 1), (1000.0, 22)])
def test_steps_are_measured_for_a_while_at_most_an_epoch(seconds: float, steps: int) -> None:
    """The first of 23 is left out; one more is measured in any case."""
    images, info = data.load("digits", "train"), data.info("digits")
    for phase in phases(settings()):
        found = measure_steps(phase, images, info, torch.device("cpu"), seconds)
        assert found.an_epoch == 23
        assert len(found.seconds) == steps
        assert all(each > 0 for each in found.seconds)


def test_each_step_has_its_own_seconds() -> None:
    """By a clock that goes on by 1, 2, 3 … s each time that it is asked."""
    times = iter([0.0, 0.0, 1.0, 3.0, 6.0, 10.0])
    watch = stopwatch._Stopwatch(9.0, lambda: next(times))
    watch.epoch_started(1, 10, 23)
    for step in (1, 2, 3):
        watch.step_done(step, 0.0)
    with pytest.raises(stopwatch._EnoughError):
        watch.step_done(4, 0.0)
    assert watch.steps == [1.0, 2.0, 3.0, 4.0]
    with pytest.raises(stopwatch._EnoughError):
        watch.epoch_started(2, 10, 23)
