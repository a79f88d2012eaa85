"""Settings of a training as value objects; a recipe's YAML maps onto them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from verify_pipeline import losses
from verify_pipeline.data import ClassOrder, with_class_order
from verify_pipeline.errors import ConfigError
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

LARGEST_WIDTH = 100.0
"""Largest multiple of the paper's widths: beyond it, torch's sizes or memory overflow silently."""

LossName = Literal[
    "natural",
    "adversarial",
    "mart",
    "arow",
    "ibp",
    "cc-ibp",
    "mtl-ibp",
    "exp-ibp",
    "sabr",
    "crown-ibp",
    "crown-ibp-fused",
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataSettings:
    """Which images are trained on.

    Attributes:
        name: of a data set.
        class_order: of its classes, ``sorted`` or ``published``, where it has both; None: its usual
            one.
        validation: number of training images held out for validation (split by the seed).
        augment: whether the data set's standard augmentation is used.
    """

    name: Text
    class_order: ClassOrder | None = None
    validation: Count = 0
    augment: Switch = True

    def __post_init__(self) -> None:
        try:
            with_class_order(self.name, self.class_order)
        except ConfigError as error:
            raise ValueError(str(error)) from None

    @property
    def full_name(self) -> str:
        """The data set with its class order, as ledgers have it."""
        return with_class_order(self.name, self.class_order)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NetworkSettings:
    """Which network is trained.

    Attributes:
        name: of a network of the zoo.
        width: multiplies the network's numbers of channels and hidden neurons.
        batch_norm: whether it has batch normalisation; None: as the network's definition says.
    """

    name: Text
    width: Annotated[Positive, Field(le=LARGEST_WIDTH)] = 1.0
    batch_norm: Switch | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Ramp:
    """A value that goes from ``start_value`` to the target during the first epochs.

    Attributes:
        shape: ``constant``, ``linear``, or ``smoothed`` (as ε's, see ``schedules``).
        start_value: before the ramp.
        start: the epoch, counted from 1, with whose first batch it starts.
        length: epochs that it takes.
    """

    shape: Literal["constant", "linear", "smoothed"] = "constant"
    start_value: Unit = 0.0
    start: PositiveCount = 1
    length: Count = 0

    @property
    def first_full_epoch(self) -> int:
        """The epoch that begins with the target."""
        return 1 if self.shape == "constant" else self.start + self.length


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LossSettings:
    """The loss, and its position between adversarial (α = 0) and certified (α = 1).

    Attributes:
        name: of the loss.
        alpha: α of CC-, MTL-, Exp-IBP, and the weight of CROWN-IBP's CROWN bound; in [0, 1].
        alpha_ramp: how α reaches that value.
        sabr_lambda: SABR's λ, the small box's share of the full one; in (0, 1].
        kl_weight: λ of MART and ARoW, the weight of the divergence between clean and adversarial
            probabilities; None: the usual one, 5 for MART and 7 for ARoW.
        label_smoothing: of ARoW's labels, in [0, 1].
        edac_step: weight of the adversarial certainty, which a step of its own decreases before
            each step with ε > 0 (EDAC); 0 for none. The loss must have an attack.
        clean_weight: κ in [0, 1]: what is minimised is (1 - κ) times the loss plus κ times the
            cross-entropy of the images (Gowal et al. 2018, arXiv:1810.12715, eq. 12).
        clean_ramp: how κ reaches that value.

    Raises:
        ValueError: EDAC with a loss that attacks nothing.
    """

    name: LossName
    alpha: Unit = 1.0
    alpha_ramp: Ramp = Ramp()
    sabr_lambda: Annotated[Positive, Field(le=1)] = 0.4
    kl_weight: NonNegative | None = None
    label_smoothing: Unit = 0.2
    edac_step: NonNegative = 0.0
    clean_weight: Unit = 0.0
    clean_ramp: Ramp = Ramp()

    def __post_init__(self) -> None:
        if self.edac_step and not losses.get(self.name).needs_attack:
            attacked = ", ".join(each.name for each in losses.LOSSES.values() if each.needs_attack)
            raise ValueError(
                "edac_step looks at the attack's points: expected one of the losses "
                f"{attacked}, got {self.name}"
            )

    @property
    def mixes_clean(self) -> bool:
        """Whether κ is above 0 in any step."""
        ramp = self.clean_ramp
        return self.clean_weight > 0 or (ramp.shape != "constant" and ramp.start_value > 0)

    @property
    def numbers(self) -> losses.LossNumbers:
        """The numbers of losses besides α."""
        return losses.LossNumbers(self.kl_weight, self.label_smoothing)


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
    """

    target: Unit
    train_factor: Positive = 1.0
    attack_epsilon_factor: Positive = 1.0
    start: PositiveCount = 1
    length: Count = 20

    @property
    def first_full_epoch(self) -> int:
        """The epoch that begins with the full ε."""
        return self.start + self.length


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttackSettings:
    """The attack inside a training step.

    Attributes:
        steps: 1 returns the final point, more keep the iterate of greatest loss.
        step_size: times the box's half-width is one step.
        restarts: random starts, of which the worst point is kept.
    """

    steps: PositiveCount = 1
    step_size: Positive = 10.0
    restarts: PositiveCount = 1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimiserSettings:
    """Adam, its schedule, and L1 regularisation.

    Attributes:
        epochs: passes over the training images.
        batch: images in a step; at least 2 with batch normalisation.
        learning_rate: at the start.
        milestones: epochs after which the rate is multiplied by ``decay``, before the last one.
        decay: at each milestone.
        clip: the greatest norm of the gradient; 0 for no clipping.
        accumulate: parts that a batch is cut into (with batch normalisation, of two images at
            least), whose gradients are added up. Means over the batch are then means over a part:
            in batch normalisation, and in Exp-IBP.
        l1: coefficient of Σ|W| over convolution and linear weights.
        weight_noise: the gradient is taken at weights with Gaussian noise, whose standard
            deviation is this times that of each convolution's or linear layer's weights; 0 for
            none.
    """

    epochs: PositiveCount = 70
    batch: PositiveCount = 256
    learning_rate: Positive = 5e-4
    milestones: tuple[Count, ...] = (50, 60)
    decay: Positive = 0.2
    clip: NonNegative = 10.0
    accumulate: PositiveCount = 1
    l1: NonNegative = 0.0
    weight_noise: NonNegative = 0.0


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
class WatchSettings:
    """Verification during training.

    Attributes:
        every: epochs between two evaluations; 0 for none.
        images: validation images whose standard, adversarial and IBP accuracy is measured.
        cascade_images: validation images that the whole cascade certifies; 0 for none.
    """

    every: Count = 0
    images: PositiveCount = 1000
    cascade_images: Count = 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainSettings:
    """All settings of one training.

    Attributes:
        seed: of weights, order, augmentation and attack.
        batch_norm_policy: ``paper``: clean and adversarial batches both move the running
            statistics and bounds use the adversarial batch's; ``ctbench``: attack, adversarial
            batch and bounds use the clean batch's, with gradients through them, and the running
            statistics are computed anew over the augmented training images after each epoch.

    Raises:
        ValueError: a ramp that does not reach its end, or a milestone that is none.
    """

    data: DataSettings
    network: NetworkSettings
    loss: LossSettings
    epsilon: EpsilonSettings
    attack: AttackSettings = AttackSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    regulariser: RegulariserSettings = RegulariserSettings()
    watch: WatchSettings = WatchSettings()
    batch_norm_policy: Literal["paper", "ctbench"] = "paper"
    seed: Count = 0

    def __post_init__(self) -> None:
        wrong = [*self._ramps_too_long(), *self._late_milestones()]
        if self.watch.every and not self.data.validation:
            wrong.append("watch.every needs held-out images: expected data.validation > 0, got 0")
        if wrong:
            raise ValueError("; ".join(wrong))

    def _ramps_too_long(self) -> Iterator[str]:
        """One line for each setting that would never take effect."""
        ramps: dict[str, EpsilonSettings | Ramp] = {
            "loss.alpha_ramp": self.loss.alpha_ramp,
            "loss.clean_ramp": self.loss.clean_ramp,
        }
        if self.loss.name != "natural":
            ramps["epsilon"] = self.epsilon
        epochs = self.optimiser.epochs
        for name, ramp in ramps.items():
            if ramp.first_full_epoch > epochs:
                yield (
                    f"{name}.start + {name}.length is the first epoch of the full value: expected "
                    f"at most optimiser.epochs = {epochs}, got {ramp.start} + {ramp.length} = "
                    f"{ramp.first_full_epoch}"
                )

    def _late_milestones(self) -> Iterator[str]:
        late = [each for each in self.optimiser.milestones if each >= self.optimiser.epochs]
        if late:
            yield (
                "optimiser.milestones are epochs after which training goes on: expected numbers "
                f"below optimiser.epochs = {self.optimiser.epochs}, got {', '.join(map(str, late))}"
            )
