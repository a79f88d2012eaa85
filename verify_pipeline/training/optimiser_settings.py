"""How weights are updated: the optimiser, its learning rate, and the parts of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from verify_pipeline.settings import (
    STRICT,
    Count,
    NonNegative,
    Positive,
    PositiveCount,
    Share,
    Switch,
    Unit,
)

OptimiserName = Literal["adam", "adamw", "radam", "sgd"]
RateShape = Literal["milestones", "cosine", "one-cycle"]
MILESTONES = (50, 60)
"""Of the paper's MNIST recipes."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimiserSettings:
    """The optimiser, its learning rate over time, and L1 regularisation.

    Attributes:
        name: ``adam`` (Kingma and Ba 2015), ``adamw`` (Loshchilov and Hutter 2019), ``radam`` (Liu
            et al. 2020) or ``sgd``; see ``optimisers``.
        epochs: passes over the training images.
        batch: images in a step; at least 2 with batch normalisation.
        learning_rate: at the start; with ``warm_up``, at its end.
        schedule: ``milestones``, by epoch; ``cosine`` or ``one-cycle``, by step; see ``rates``.
        milestones: epochs after which the rate is multiplied by ``decay``, before the last one.
        decay: at each milestone.
        warm_up: epochs during which the rate rises in a straight line, step by step; of
            ``one-cycle``, those of its rise and again of its fall.
        start_factor: times the rate is where ``one-cycle`` begins.
        end_factor: times the rate is the end of ``cosine`` and ``one-cycle``.
        weight_decay: of all parameters; of ``adamw`` apart from the gradient, of the others added
            to it, after clipping.
        momentum: of ``sgd``, in [0, 1).
        nesterov: whether this momentum is Nesterov's (Sutskever et al. 2013).
        clip: the greatest norm of the gradient; 0 for no clipping.
        accumulate: parts that a batch is cut into (with batch normalisation, of two images at
            least), whose gradients are added up. Exp-IBP's and the regulariser's means over the
            batch are then means over a part.
        accumulate_statistics: what batch normalisation computes its statistics of: each ``part``,
            with gradients through them, or the whole ``batch``, without; see ``accumulation``.
        l1: coefficient of Σ|W| over convolution and linear weights.
        weight_noise: the gradient is taken at weights with Gaussian noise, whose standard
            deviation is this times that of each convolution's or linear layer's weights; 0 for
            none.

    Raises:
        ValueError: a setting that the optimiser or the schedule does not have.
    """

    name: OptimiserName = "adam"
    epochs: PositiveCount = 70
    batch: PositiveCount = 256
    learning_rate: Positive = 5e-4
    schedule: RateShape = "milestones"
    milestones: tuple[Count, ...] = MILESTONES
    decay: Positive = 0.2
    warm_up: Count = 0
    start_factor: Share = 0.1
    end_factor: Unit = 0.0
    weight_decay: NonNegative = 0.0
    momentum: Annotated[NonNegative, Field(lt=1)] = 0.0
    nesterov: Switch = False
    clip: NonNegative = 10.0
    accumulate: PositiveCount = 1
    accumulate_statistics: Literal["part", "batch"] = "part"
    l1: NonNegative = 0.0
    weight_noise: NonNegative = 0.0

    def problems(self) -> Iterator[str]:
        """One line for each setting that does not fit the others."""
        yield from self._of_the_optimiser()
        if self.schedule == "milestones":
            yield from self._late_milestones()
        elif self.milestones not in ((), MILESTONES):
            yield (
                "optimiser.milestones belong to the schedule milestones: expected [] beside "
                f"{self.schedule}, got {', '.join(map(str, self.milestones))}"
            )
        yield from self._of_the_warm_up()
        if self.accumulate_statistics == "batch" and self.accumulate == 1:
            yield "optimiser.accumulate_statistics: batch needs accumulate > 1, got 1"

    def _of_the_optimiser(self) -> Iterator[str]:
        if self.momentum and self.name != "sgd":
            yield f"optimiser.momentum is a setting of sgd, got {self.momentum:g} with {self.name}"
        if self.nesterov and not self.momentum:
            yield "optimiser.nesterov needs sgd with momentum > 0, got momentum 0"

    def _late_milestones(self) -> Iterator[str]:
        late = [each for each in self.milestones if each >= self.epochs]
        if late:
            yield (
                "optimiser.milestones are epochs after which training goes on: expected numbers "
                f"below optimiser.epochs = {self.epochs}, got {', '.join(map(str, late))}"
            )

    def _of_the_warm_up(self) -> Iterator[str]:
        if self.schedule == "one-cycle":
            if not 0 < 2 * self.warm_up <= self.epochs:
                yield (
                    "optimiser.warm_up of one-cycle is its rise, and its fall again: expected 1 to "
                    f"{self.epochs // 2}, half of optimiser.epochs, got {self.warm_up}"
                )
        elif self.warm_up >= self.epochs:
            yield (
                f"optimiser.warm_up: expected less than optimiser.epochs = {self.epochs}, got "
                f"{self.warm_up}"
            )
        if self.schedule != "one-cycle" and self.start_factor != OptimiserSettings.start_factor:
            yield f"optimiser.start_factor is a setting of one-cycle, got it with {self.schedule}"
        if self.schedule == "milestones" and self.end_factor:
            yield "optimiser.end_factor is one of cosine and one-cycle, got it with milestones"
