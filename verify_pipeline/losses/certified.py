"""Losses that depend on bounds only: IBP and CROWN-IBP."""

from __future__ import annotations

from torch import Tensor

from verify_pipeline.losses.base import Loss, margin_cross_entropy, of_crown_and_ibp, of_ibp


def ibp_loss(ibp: Tensor) -> Tensor:
    """``mean L(z_ibp)``: cross-entropy of the margins' IBP bounds.

    Gowal et al. 2018 (arXiv:1810.12715), eq. 12 with all weight on the bounds. With bounds over
    ``sabr_box``, it is the loss of SABR (Müller et al. 2023, arXiv:2210.04871).

    Args:
        ibp: IBP lower bounds of the margins, ``N x S``; see ``AutoLirpaBounder.ibp``.

    Returns:
        A scalar, >= 0.
    """
    return margin_cross_entropy(ibp).mean()


def crown_ibp_loss(crown: Tensor, ibp: Tensor, weight: float) -> Tensor:
    """``mean L(β z_crown + (1 - β) z_ibp)``: cross-entropy of mixed CROWN-IBP and IBP bounds.

    Zhang et al. 2020 (arXiv:1906.06316), eq. 7.

    Args:
        crown: CROWN-IBP lower bounds of the margins, ``N x S``; see ``AutoLirpaBounder.crown_ibp``.
        ibp: IBP lower bounds of the margins, ``N x S``.
        weight: β in [0, 1], which decreases from 1 to 0 during training. This package's settings
            call it α.

    Returns:
        A scalar, >= 0.
    """
    return margin_cross_entropy(weight * crown + (1 - weight) * ibp).mean()


IBP = Loss("ibp", of_ibp(ibp_loss), needs_bounds=True)
CROWN_IBP = Loss("crown-ibp", of_crown_and_ibp(crown_ibp_loss), needs_bounds=True, needs_crown=True)
