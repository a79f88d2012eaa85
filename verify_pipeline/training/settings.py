"""Settings of a training as value objects; a recipe's YAML maps onto them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from verify_pipeline.data import AnyDataSettings
from verify_pipeline.settings import (
    STRICT,
    Count,
    NonNegative,
    Positive,
    PositiveCount,
    Switch,
    Text,
    Unit,
)
from verify_pipeline.training.loop_settings import (
    AverageSettings,
    KeepSettings,
    StartSettings,
    StopSettings,
    WatchSettings,
    watching_problems,
)
from verify_pipeline.training.loss_settings import (
    AttackSettings,
    LossName,
    LossSettings,
    Ramp,
    TapsSettings,
)
from verify_pipeline.training.optimiser_settings import OptimiserSettings

__all__ = [
    "AttackSettings",
    "AverageSettings",
    "EpsilonSettings",
    "KeepSettings",
    "LossName",
    "LossSettings",
    "NetworkSettings",
    "OptimiserSettings",
    "Ramp",
    "RegulariserSettings",
    "StartSettings",
    "StopSettings",
    "TapsSettings",
    "TrainSettings",
    "WatchSettings",
]

LARGEST_WIDTH = 100.0
"""Largest multiple of the paper's widths: beyond it, torch's sizes or memory overflow silently."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkSettings:
    """Which network is trained: one of the zoo, one that a file makes, or a module that is given.

    Attributes:
        name: of a network of the zoo.
        width: multiplies that network's numbers of channels and hidden neurons.
        batch_norm: whether it has batch normalisation; None: as the network's definition says.
        file: a Python file that makes the network, in place of ``name``.
        factory: of that file, a function or a class; it returns a torch module of images ``N x *X``
            to logits ``N x K``.
        arguments: that it is called with, by name.
        normalise: whether the data set's mean and standard deviation are subtracted and divided by
            before that module; without it, the module gets pixels in [0, 1].

    Raises:
        ValueError: both a name and a file, or something that belongs to the other of them.
    """

    name: Text | None = None
    width: Annotated[Positive, Field(le=LARGEST_WIDTH)] = 1.0
    batch_norm: Switch | None = None
    file: Text | None = None
    factory: Text | None = None
    arguments: dict[Text, Any] = Field(default_factory=dict)
    normalise: Switch = True

    def __post_init__(self) -> None:
        if self.name is not None and self.file is not None:
            raise ValueError("expected a name of the zoo or a file; got both")
        if (self.file is None) != (self.factory is None):
            missing, there = ("factory", "file") if self.factory is None else ("file", "factory")
            raise ValueError(f"expected {there} together with {missing}; got no {missing}")
        if self.file is None and (self.arguments or not self.normalise):
            raise ValueError("arguments and normalise belong to a network of a file; got no file")
        if self.name is None and (self.width != 1.0 or self.batch_norm is not None):
            raise ValueError("width and batch_norm belong to a network of the zoo; got no name")

    @property
    def label(self) -> str:
        """What tables and notes call it."""
        if self.file is not None:
            return f"{Path(self.file).name}:{self.factory}"
        return self.name or "module"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EpsilonSettings:
    """The perturbation and its schedule.

    Attributes:
        target: ε that the network is to be verified at; in [0, 1], pixels in [0, 1].
        train_factor: multiplies ε for bounds and attack alike (the paper's train-eps-mul).
        attack_epsilon_factor: multiplies the attack's ε once more (the paper's attack-eps is
            this times the target).
        start: the epoch, counted from 1, with whose first batch ε starts to grow (the paper's
            ``start``); the epochs before it are warm-up with ε = 0.
        length: epochs of the ramp; 0 for the full ε at once.
        shape: ``smoothed``, ``linear``, or ``step``: a staircase whose first stair is above 0 and
            whose last one is the full ε.
        stair: epochs of a stair of ``step``; the length has to be a multiple.
    """

    target: Unit
    train_factor: Positive = 1.0
    attack_epsilon_factor: Positive = 1.0
    start: PositiveCount = 1
    length: Count = 20
    shape: Literal["smoothed", "linear", "step"] = "smoothed"
    stair: PositiveCount = 1

    def problems(self) -> Iterator[str]:
        """One line for each setting that does not fit the others."""
        if self.shape != "step" and self.stair != 1:
            yield f"epsilon.stair is a setting of the shape step, got it with {self.shape}"
        if self.shape == "step" and self.length % self.stair:
            yield (
                f"epsilon.length: expected a multiple of epsilon.stair = {self.stair}, got "
                f"{self.length}"
            )

    @property
    def first_full_epoch(self) -> int:
        """The epoch that begins with the full ε."""
        return self.start + self.length


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RegulariserSettings:
    """Initialisation and warm-up regulariser of Shi et al. 2021.

    Attributes:
        weight: λ; 0 switches the regulariser off.
        tolerance: τ of both terms.
        ibp_init: whether weights start as N(0, sqrt(2π)/fan_in).
    """

    weight: NonNegative = 0.5
    tolerance: NonNegative = 0.5
    ibp_init: Switch = True


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainSettings:
    """All settings of one training.

    Attributes:
        data: the images.
        network: the architecture.
        loss: what is minimised.
        epsilon: the perturbation.
        attack: inside a step.
        optimiser: and its learning rate.
        regulariser: initialisation and warm-up.
        watch: verification during training.
        start: another training that this one starts from.
        keep: checkpoints that stay, and which is the run's network.
        stop: early stopping.
        average: of weights over time.
        seed: of weights, order, augmentation and attack.
        batch_norm_policy: ``paper``: clean and adversarial batches both move the running
            statistics and bounds use the adversarial batch's; ``ctbench``: attack, adversarial
            batch and bounds use the clean batch's, with gradients through them, and the running
            statistics are computed anew over the augmented training images after each epoch.

    Raises:
        ValueError: a ramp that does not reach its end, a milestone that is none, or another
            setting that would never take effect.
    """

    data: AnyDataSettings
    network: NetworkSettings = NetworkSettings()
    loss: LossSettings
    epsilon: EpsilonSettings
    attack: AttackSettings = AttackSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    regulariser: RegulariserSettings = RegulariserSettings()
    watch: WatchSettings = WatchSettings()
    start: StartSettings = StartSettings()
    keep: KeepSettings = KeepSettings()
    stop: StopSettings = StopSettings()
    average: AverageSettings = AverageSettings()
    batch_norm_policy: Literal["paper", "ctbench"] = "paper"
    seed: Count = 0

    def __post_init__(self) -> None:
        epochs = self.optimiser.epochs
        wrong = [
            *self._ramps_too_long(),
            *self.loss.problems(),
            *self.epsilon.problems(),
            *self.optimiser.problems(),
            *self.start.problems(),
            *self.keep.problems(),
            *self.stop.problems(epochs),
            *self.average.problems(epochs),
            *watching_problems(
                self.watch,
                self.data.validation,
                {"keep.best": self.keep.best, "stop.metric": self.stop.metric},
                self.first_full_epoch,
                epochs,
            ),
        ]
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def first_full_epoch(self) -> int:
        """The epoch that begins with the full ε, α and κ, as far as the loss has them."""
        return max(ramp.first_full_epoch for ramp in self._ramps().values())

    def _ramps(self) -> dict[str, EpsilonSettings | Ramp]:
        """The ramps that the loss has, by name."""
        ramps: dict[str, EpsilonSettings | Ramp] = {
            "loss.alpha_ramp": self.loss.alpha_ramp,
            "loss.clean_ramp": self.loss.clean_ramp,
        }
        if self.loss.name != "natural":
            ramps["epsilon"] = self.epsilon
        return ramps

    def _ramps_too_long(self) -> Iterator[str]:
        """One line for each setting that would never take effect."""
        epochs = self.optimiser.epochs
        for name, ramp in self._ramps().items():
            if ramp.first_full_epoch > epochs:
                yield (
                    f"{name}.start + {name}.length is the first epoch of the full value: expected "
                    f"at most optimiser.epochs = {epochs}, got {ramp.start} + {ramp.length} = "
                    f"{ramp.first_full_epoch}"
                )
