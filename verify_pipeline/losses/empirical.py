"""Losses that depend on single points only: natural and adversarial training."""

from __future__ import annotations

from torch import Tensor

from verify_pipeline.losses.base import Loss, margin_cross_entropy, of_adversarial, of_clean


def natural_loss(clean: Tensor) -> Tensor:
    """``mean L(z_clean)``: cross-entropy at the images.

    Args:
        clean: margins at the images, ``N x S``; see ``margins_of_logits``.

    Returns:
        A scalar, >= 0.
    """
    return margin_cross_entropy(clean).mean()


def adversarial_loss(adversarial: Tensor) -> Tensor:
    """``mean L(z_adv)``: cross-entropy at adversarial points.

    Madry et al. 2018 (arXiv:1706.06083), eq. 2.1.

    Args:
        adversarial: margins at the attack's points, ``N x S``.

    Returns:
        A scalar, >= 0.
    """
    return margin_cross_entropy(adversarial).mean()


NATURAL = Loss("natural", of_clean(natural_loss))
ADVERSARIAL = Loss("adversarial", of_adversarial(adversarial_loss), needs_attack=True)
