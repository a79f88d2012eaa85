"""What is minimised: the loss, its attack, and values that change over the epochs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from verify_pipeline import losses
from verify_pipeline.settings import (
    STRICT,
    Count,
    NonNegative,
    Positive,
    PositiveCount,
    Share,
    Unit,
)
from verify_pipeline.training.precision import Precision

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
    "mtl-sabr",
    "taps",
    "staps",
    "crown-ibp",
    "crown-ibp-fused",
]


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
class AttackSettings:
    """An attack inside a training step.

    Attributes:
        steps: 1 returns the final point, more keep the iterate of greatest loss.
        step_size: times the box's half-width is one step.
        restarts: random starts, of which the worst point is kept.
        precision: of its passes through the network; points, ε and bounds stay in float32.
    """

    steps: PositiveCount = 1
    step_size: Positive = 10.0
    restarts: PositiveCount = 1
    precision: Precision = "float32"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TapsSettings:
    """What TAPS and STAPS attack, and how.

    Attributes:
        classifier_relus: ReLUs of the classifier, the part of the network that is attacked; the
            part before it is bounded. All ReLUs of the network: the inputs are attacked.
        gradient_weight: w, how often gradients of the attacked margins count.
        connector: c of the gradient connector, in (0, 1].
        attack: in the latent box, for each row of the margins by itself.
    """

    classifier_relus: Count = 1
    gradient_weight: Positive = 5.0
    connector: Share = 0.5
    attack: AttackSettings = AttackSettings(steps=10, step_size=0.4)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LossSettings:
    """The loss, and its position between adversarial (α = 0) and certified (α = 1).

    Attributes:
        name: of the loss.
        alpha: α of CC-, MTL-, Exp-IBP, and the weight of CROWN-IBP's CROWN bound; in [0, 1].
        alpha_ramp: how α reaches that value.
        sabr_lambda: SABR's λ, the small box's share of the full one; in (0, 1].
        relu_shrinkage: SABR's c: behind each ReLU, intervals of unstable neurons end at c times
            their upper side; in (0, 1], 1 for bounds. For every loss of bounds.
        taps: of TAPS and STAPS.
        kl_weight: λ of MART and ARoW, the weight of the divergence between clean and adversarial
            probabilities; None: the usual one, 5 for MART and 7 for ARoW.
        label_smoothing: of ARoW's labels, in [0, 1].
        edac_step: weight of the adversarial certainty, which a step of its own decreases before
            each step with ε > 0 (EDAC); 0 for none. The loss must have an attack.
        clean_weight: κ in [0, 1]: what is minimised is (1 - κ) times the loss plus κ times the
            cross-entropy of the images (Gowal et al. 2018, arXiv:1810.12715, eq. 12).
        clean_ramp: how κ reaches that value.
    """

    name: LossName
    alpha: Unit = 1.0
    alpha_ramp: Ramp = Ramp()
    sabr_lambda: Annotated[Positive, Field(le=1)] = 0.4
    relu_shrinkage: Share = 1.0
    taps: TapsSettings = TapsSettings()
    kl_weight: NonNegative | None = None
    label_smoothing: Unit = 0.2
    edac_step: NonNegative = 0.0
    clean_weight: Unit = 0.0
    clean_ramp: Ramp = Ramp()

    def problems(self) -> Iterator[str]:
        """One line for each setting that does not fit the others."""
        if self.edac_step and not losses.get(self.name).needs_attack:
            attacked = ", ".join(each.name for each in losses.LOSSES.values() if each.needs_attack)
            yield (
                "loss.edac_step looks at the attack's points: expected one of the losses "
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
