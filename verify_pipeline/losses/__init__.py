"""Losses as functions of margins: the contract in ``base``, and one file for each family."""

from __future__ import annotations

from collections.abc import Callable

from verify_pipeline.errors import ConfigError
from verify_pipeline.losses.base import Loss, LossMargins, Perturbed, margin_cross_entropy
from verify_pipeline.losses.certainty import adversarial_certainty
from verify_pipeline.losses.certified import CROWN_IBP, IBP, crown_ibp_loss, ibp_loss
from verify_pipeline.losses.consistency import LossNumbers, arow, arow_loss, mart, mart_loss
from verify_pipeline.losses.empirical import ADVERSARIAL, NATURAL, adversarial_loss, natural_loss
from verify_pipeline.losses.expressive import (
    CC_IBP,
    EXP_IBP,
    MTL_IBP,
    cc_ibp_loss,
    exp_ibp_loss,
    mtl_ibp_loss,
)
from verify_pipeline.losses.fused import CROWN_IBP_FUSED, chord_slopes, crown_ibp_fused_loss
from verify_pipeline.losses.sabr import MTL_SABR, SABR, sabr_box
from verify_pipeline.losses.taps import STAPS, TAPS, connected, gradient_weighted, taps_loss

MADE_WITH_NUMBERS: dict[str, Callable[[LossNumbers], Loss]] = {"mart": mart, "arow": arow}
"""Losses that have numbers of their own besides α."""

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        NATURAL,
        ADVERSARIAL,
        *(make(LossNumbers()) for make in MADE_WITH_NUMBERS.values()),
        IBP,
        CC_IBP,
        MTL_IBP,
        EXP_IBP,
        SABR,
        MTL_SABR,
        TAPS,
        STAPS,
        CROWN_IBP,
        CROWN_IBP_FUSED,
    )
}
"""By name, with the usual numbers."""

__all__ = [
    "LOSSES",
    "Loss",
    "LossMargins",
    "LossNumbers",
    "Perturbed",
    "adversarial_certainty",
    "adversarial_loss",
    "arow_loss",
    "cc_ibp_loss",
    "chord_slopes",
    "connected",
    "crown_ibp_fused_loss",
    "crown_ibp_loss",
    "exp_ibp_loss",
    "get",
    "gradient_weighted",
    "ibp_loss",
    "margin_cross_entropy",
    "mart_loss",
    "mtl_ibp_loss",
    "natural_loss",
    "sabr_box",
    "taps_loss",
]


def get(name: str, numbers: LossNumbers | None = None) -> Loss:
    """The loss with this name, and with these numbers if it has any.

    Raises:
        ConfigError: there is no such loss.
    """
    if name not in LOSSES:
        raise ConfigError(f"loss {name!r}", expected="one of " + ", ".join(LOSSES))
    if numbers is not None and name in MADE_WITH_NUMBERS:
        return MADE_WITH_NUMBERS[name](numbers)
    return LOSSES[name]
