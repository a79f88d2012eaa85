"""Losses that look at points only: natural and adversarial training."""

from __future__ import annotations

from torch import Tensor

from verify_pipeline.losses.base import Loss, LossMargins, margin_cross_entropy, required


def natural(margins: LossMargins, alpha: float) -> Tensor:
    """``mean L(z_clean)``: cross-entropy at the images."""
    return margin_cross_entropy(required(margins.clean, "clean")).mean()


def adversarial(margins: LossMargins, alpha: float) -> Tensor:
    """``mean L(z_adv)``: Madry et al. 2018 (arXiv:1706.06083), eq. 2.1."""
    return margin_cross_entropy(required(margins.adversarial, "adversarial")).mean()


NATURAL = Loss("natural", natural)
ADVERSARIAL = Loss("adversarial", adversarial, needs_attack=True)
