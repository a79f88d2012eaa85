"""Losses that look at bounds only: IBP and CROWN-IBP."""

from __future__ import annotations

from torch import Tensor

from verify_pipeline.losses.base import Loss, LossMargins, margin_cross_entropy, required


def ibp(margins: LossMargins, alpha: float) -> Tensor:
    """``mean L(z_ibp)``: Gowal et al. 2018 (arXiv:1810.12715), eq. 12 with all weight on bounds."""
    return margin_cross_entropy(required(margins.ibp, "IBP")).mean()


def crown_ibp(margins: LossMargins, alpha: float) -> Tensor:
    """``mean L(α z_crown + (1 - α) z_ibp)``: Zhang et al. 2020 (arXiv:1906.06316), eq. 7.

    The paper's β, which goes from 1 to 0 while training, is α here.
    """
    crown, interval = required(margins.crown, "CROWN"), required(margins.ibp, "IBP")
    return margin_cross_entropy(alpha * crown + (1 - alpha) * interval).mean()


IBP = Loss("ibp", ibp, needs_bounds=True)
CROWN_IBP = Loss("crown-ibp", crown_ibp, needs_bounds=True, needs_crown=True)
