"""What single steps of a training take: its own loop is run, for a while, and nothing is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import torch

from verify_pipeline import losses
from verify_pipeline.data import DataSetInfo, ImageSet
from verify_pipeline.training.loop import train
from verify_pipeline.training.observer import Silent
from verify_pipeline.training.settings import (
    EpsilonSettings,
    KeepSettings,
    Ramp,
    StartSettings,
    StopSettings,
    TrainSettings,
    WatchSettings,
)

PhaseName = Literal["warm-up", "ramp", "full ε"]
"""While ε = 0, while it grows, and afterwards: steps do different things in each."""


@dataclass(frozen=True)
class Phase:
    """Epochs whose steps do the same.

    Attributes:
        name: of the phase.
        epochs: how many.
        settings: whose first epoch is one of them.
    """

    name: PhaseName
    epochs: int
    settings: TrainSettings


@dataclass(frozen=True)
class PhaseSteps:
    """Steps of a phase that were measured.

    Attributes:
        phase: of the training.
        an_epoch: steps of an epoch.
        seconds: of each step; of the first one only if there is no other.
    """

    phase: Phase
    an_epoch: int
    seconds: tuple[float, ...]


def phases(settings: TrainSettings) -> tuple[Phase, ...]:
    """The phases that a training has, in order."""
    loss, epsilon = losses.get(settings.loss.name), settings.epsilon
    epochs = settings.optimiser.epochs
    if not (loss.needs_attack or loss.needs_bounds):
        return (Phase("full ε", epochs, _from(settings, replace(epsilon, start=1, length=0))),)
    lengths: dict[PhaseName, tuple[int, EpsilonSettings]] = {
        "warm-up": (epsilon.start - 1, replace(epsilon, start=2, length=0)),
        "ramp": (epsilon.length, replace(epsilon, start=1, length=epsilon.stair)),
        "full ε": (epochs - epsilon.first_full_epoch + 1, replace(epsilon, start=1, length=0)),
    }
    return tuple(
        Phase(name, count, _from(settings, schedule))
        for name, (count, schedule) in lengths.items()
        if count
    )


def measure_steps(
    phase: Phase,
    images: ImageSet,
    info: DataSetInfo,
    device: torch.device,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> PhaseSteps:
    """Train with real images until the seconds are used, for an epoch at most.

    The first step also allocates memory; it is left out once there is another.

    Args:
        phase: of the training.
        images: the training images.
        info: of the data set.
        device: to train on.
        seconds: for the steps; two steps are done in any case, if an epoch has two.
        clock: seconds from some origin.

    Raises:
        VerifyPipelineError: as ``train``.
    """
    watch = _Stopwatch(seconds, clock)
    with suppress(_EnoughError):
        train(phase.settings, images, info, observer=watch, device=device)
    return PhaseSteps(phase, watch.an_epoch, tuple(watch.steps[1:] or watch.steps))


def _from(settings: TrainSettings, epsilon: EpsilonSettings) -> TrainSettings:
    """A training that begins with a phase, without looks at validation images."""
    loss = replace(settings.loss, alpha_ramp=Ramp(), clean_ramp=Ramp())
    return replace(
        settings,
        epsilon=epsilon,
        loss=loss,
        watch=WatchSettings(),
        start=StartSettings(),
        keep=KeepSettings(),
        stop=StopSettings(),
    )


class _EnoughError(Exception):
    """Ends a training."""


class _Stopwatch(Silent):
    """Notes what each step takes, and ends the training."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._began = self._last = clock()
        self.an_epoch = 0
        self.steps: list[float] = []

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Begin with the first epoch; end before a second one."""
        if epoch > 1:
            raise _EnoughError
        self.an_epoch = steps
        self._began = self._last = self._clock()

    def step_done(self, step: int, loss: float) -> None:
        """Note the step."""
        now = self._clock()
        self.steps.append(now - self._last)
        self._last = now
        if len(self.steps) > 1 and now - self._began >= self._seconds:
            raise _EnoughError
