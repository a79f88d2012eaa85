"""Expressive losses: De Palma et al. 2024 (arXiv:2305.13991).

Each goes from the adversarial loss at α = 0 to the IBP loss at α = 1, monotonically. For equal
margins CC-IBP <= MTL-IBP (L is convex) and Exp-IBP <= MTL-IBP (weighted means).
"""

from __future__ import annotations

from torch import Tensor

from verify_pipeline.losses.base import Loss, LossMargins, margin_cross_entropy, required


def _both(margins: LossMargins) -> tuple[Tensor, Tensor]:
    return required(margins.adversarial, "adversarial"), required(margins.ibp, "IBP")


def cc_ibp(margins: LossMargins, alpha: float) -> Tensor:
    """``mean L(α z_ibp + (1 - α) z_adv)``: convex combination of margins, eq. 5."""
    adversarial, bounds = _both(margins)
    return margin_cross_entropy(alpha * bounds + (1 - alpha) * adversarial).mean()


def mtl_ibp(margins: LossMargins, alpha: float) -> Tensor:
    """``α mean L(z_ibp) + (1 - α) mean L(z_adv)``: combination of losses, eq. 6."""
    adversarial, bounds = _both(margins)
    worst, attacked = margin_cross_entropy(bounds), margin_cross_entropy(adversarial)
    return alpha * worst.mean() + (1 - alpha) * attacked.mean()


def exp_ibp(margins: LossMargins, alpha: float) -> Tensor:
    """``(mean L(z_ibp))^α (mean L(z_adv))^(1 - α)``: combination of logarithms, eq. 7.

    Of the two batch means, as the authors compute it. Where a mean underflows to 0, the smallest
    normal number stands in its place, so that the power's gradient stays finite.
    """
    adversarial, bounds = _both(margins)
    worst = margin_cross_entropy(bounds).mean()
    attacked = margin_cross_entropy(adversarial).mean()
    tiny = 1.2e-38
    return worst.clamp_min(tiny) ** alpha * attacked.clamp_min(tiny) ** (1 - alpha)


CC_IBP = Loss("cc-ibp", cc_ibp, needs_attack=True, needs_bounds=True)
MTL_IBP = Loss("mtl-ibp", mtl_ibp, needs_attack=True, needs_bounds=True)
EXP_IBP = Loss("exp-ibp", exp_ibp, needs_attack=True, needs_bounds=True)
