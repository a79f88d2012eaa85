"""Expressive losses: De Palma et al. 2024 (arXiv:2305.13991).

Each loss increases monotonically from the adversarial loss at α = 0 to the IBP loss at α = 1. For
equal margins and α, CC-IBP <= MTL-IBP, since L is convex, and Exp-IBP <= MTL-IBP, by the inequality
of arithmetic and geometric means.
"""

from __future__ import annotations

from torch import Tensor

from verify_pipeline.losses.base import Loss, margin_cross_entropy, of_adversarial_and_ibp

SMALLEST = 1.2e-38
"""Replaces a mean that underflows to 0: about float32's smallest normal number."""


def cc_ibp_loss(adversarial: Tensor, ibp: Tensor, alpha: float) -> Tensor:
    """``mean L(α z_ibp + (1 - α) z_adv)``: CC-IBP, a convex combination of margins.

    De Palma et al. 2024 (arXiv:2305.13991), eq. 5.

    Args:
        adversarial: margins at the attack's points, ``N x S``; see ``margins_of_logits``.
        ibp: IBP lower bounds of the margins, ``N x S``; see ``AutoLirpaBounder.ibp``.
        alpha: α in [0, 1]; 0 is the adversarial loss, 1 the IBP loss.

    Returns:
        A scalar, >= 0.
    """
    return margin_cross_entropy(alpha * ibp + (1 - alpha) * adversarial).mean()


def mtl_ibp_loss(adversarial: Tensor, ibp: Tensor, alpha: float) -> Tensor:
    """``α mean L(z_ibp) + (1 - α) mean L(z_adv)``: MTL-IBP, a convex combination of losses.

    De Palma et al. 2024 (arXiv:2305.13991), eq. 6.

    Args:
        adversarial: margins at the attack's points, ``N x S``; see ``margins_of_logits``.
        ibp: IBP lower bounds of the margins, ``N x S``; see ``AutoLirpaBounder.ibp``.
        alpha: α in [0, 1]; 0 is the adversarial loss, 1 the IBP loss.

    Returns:
        A scalar, >= 0.
    """
    worst, attacked = margin_cross_entropy(ibp), margin_cross_entropy(adversarial)
    return alpha * worst.mean() + (1 - alpha) * attacked.mean()


def exp_ibp_loss(adversarial: Tensor, ibp: Tensor, alpha: float) -> Tensor:
    """``(mean L(z_ibp))^α (mean L(z_adv))^(1 - α)``: Exp-IBP, a combination of logarithms.

    De Palma et al. 2024 (arXiv:2305.13991), eq. 7. Like the authors' code, it combines the means
    over the batch. A mean that underflows to 0 is replaced by the smallest normal number, so that
    the power's gradient stays finite.

    Args:
        adversarial: margins at the attack's points, ``N x S``; see ``margins_of_logits``.
        ibp: IBP lower bounds of the margins, ``N x S``; see ``AutoLirpaBounder.ibp``.
        alpha: α in [0, 1]; 0 is the adversarial loss, 1 the IBP loss.

    Returns:
        A scalar, > 0.
    """
    worst = margin_cross_entropy(ibp).mean()
    attacked = margin_cross_entropy(adversarial).mean()
    return worst.clamp_min(SMALLEST) ** alpha * attacked.clamp_min(SMALLEST) ** (1 - alpha)


CC_IBP = Loss("cc-ibp", of_adversarial_and_ibp(cc_ibp_loss), needs_attack=True, needs_bounds=True)
MTL_IBP = Loss(
    "mtl-ibp", of_adversarial_and_ibp(mtl_ibp_loss), needs_attack=True, needs_bounds=True
)
EXP_IBP = Loss(
    "exp-ibp", of_adversarial_and_ibp(exp_ibp_loss), needs_attack=True, needs_bounds=True
)
