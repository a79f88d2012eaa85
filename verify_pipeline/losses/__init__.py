"""Losses as functions of margins: the contract in ``base``, and one file for each family."""

from __future__ import annotations

from verify_pipeline.errors import ConfigError
from verify_pipeline.losses.base import Loss, LossMargins, Perturbed, margin_cross_entropy
from verify_pipeline.losses.certified import CROWN_IBP, IBP, crown_ibp_loss, ibp_loss
from verify_pipeline.losses.empirical import ADVERSARIAL, NATURAL, adversarial_loss, natural_loss
from verify_pipeline.losses.expressive import (
    CC_IBP,
    EXP_IBP,
    MTL_IBP,
    cc_ibp_loss,
    exp_ibp_loss,
    mtl_ibp_loss,
)
from verify_pipeline.losses.sabr import MTL_SABR, SABR, sabr_box
from verify_pipeline.losses.taps import STAPS, TAPS, connected, gradient_weighted, taps_loss

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        NATURAL,
        ADVERSARIAL,
        IBP,
        CC_IBP,
        MTL_IBP,
        EXP_IBP,
        SABR,
        MTL_SABR,
        TAPS,
        STAPS,
        CROWN_IBP,
    )
}

__all__ = [
    "LOSSES",
    "Loss",
    "LossMargins",
    "Perturbed",
    "adversarial_loss",
    "cc_ibp_loss",
    "connected",
    "crown_ibp_loss",
    "exp_ibp_loss",
    "get",
    "gradient_weighted",
    "ibp_loss",
    "margin_cross_entropy",
    "mtl_ibp_loss",
    "natural_loss",
    "sabr_box",
    "taps_loss",
]


def get(name: str) -> Loss:
    """The loss with this name.

    Raises:
        ConfigError: there is no such loss.
    """
    if name not in LOSSES:
        raise ConfigError(f"loss {name!r}", expected="one of " + ", ".join(LOSSES))
    return LOSSES[name]
