"""CROWN-IBP with loss fusion: a bound of the cross-entropy from one backward row.

Xu et al. 2020 (arXiv:2002.12920) bound the loss itself instead of each margin. Over the box, IBP
gives ``v_j = -z_j`` in ``[l_j, u_j]``. The exponential is convex, so there

    exp(v_j) <= exp(u_j) - c_j (u_j - v_j),    c_j = (exp(u_j) - exp(l_j)) / (u_j - l_j),

and the cross-entropy ``log(1 + Σ_j exp(v_j))`` is at most

    log(1 + Σ_j exp(u_j) - gain),    gain = B - Σ_j c_j (-u_j),    B <= Σ_j c_j z_j,

where B is one CROWN bound of one combination of margins. With gain = 0, this is the loss of the IBP
bounds. CROWN needs one row for it, whatever the number of classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.losses.base import Loss, LossMargins, required

LEAST_WIDTH = 1e-6
"""Chords of narrower intervals have the slope of this width, which is smaller and sound too."""


def chord_slopes(ibp: Tensor, ibp_upper: Tensor) -> Tensor:
    """The weights ``c_j exp(-max_k u_k)``, ``N x S``, in (0, 1], of the margins that are summed.

    Scaled like this, they do not overflow: :func:`crown_ibp_fused_loss` scales back.

    Args:
        ibp: IBP lower bounds of the margins, ``-u``, ``N x S``.
        ibp_upper: their upper bounds, ``-l``, ``N x S``.
    """
    width = (ibp_upper - ibp).clamp_min(LEAST_WIDTH)
    return _scaled(ibp) * (-(-width).expm1() / width)


def crown_ibp_fused_loss(crown: Tensor, ibp: Tensor, ibp_upper: Tensor, weight: float) -> Tensor:
    """``mean log(1 + Σ_j exp(-z_ibp,j) - β gain)``: CROWN-IBP with loss fusion.

    Xu et al. 2020 (arXiv:2002.12920), loss fusion; this module writes it out. β mixes the bounds of
    the sum of exponentials. For every β in [0, 1], it is at least the cross-entropy at any point of
    the box, up to rounding.

    Args:
        crown: CROWN-IBP lower bounds, ``N x 1``, of the margins summed with the weights
            :func:`chord_slopes`; see ``AutoLirpaBounder.crown_of_last_ibp``.
        ibp: IBP lower bounds of the margins, ``N x S``; see ``AutoLirpaBounder.ibp_interval``.
        ibp_upper: their IBP upper bounds, ``N x S``.
        weight: β in [0, 1], which decreases from 1 to 0 during training. This package's settings
            call it α.

    Returns:
        A scalar, >= 0.
    """
    gain = crown.squeeze(-1) - (chord_slopes(ibp, ibp_upper) * ibp).sum(-1)
    # at least one exponential is 1, so a rest of less than its rounding has no digits
    rest = (_scaled(ibp).sum(-1) - weight * gain).clamp_min(torch.finfo(ibp.dtype).eps)
    return F.softplus(_greatest(ibp).squeeze(-1) + rest.log()).mean()


def _greatest(ibp: Tensor) -> Tensor:
    """``max_k u_k``, ``N x 1``; the loss does not depend on it, and neither does its gradient."""
    return -ibp.detach().amin(-1, keepdim=True)


def _scaled(ibp: Tensor) -> Tensor:
    """``exp(u_j - max_k u_k)``, ``N x S``, in [0, 1]."""
    return (-ibp - _greatest(ibp)).exp()


def _value(margins: LossMargins, alpha: float) -> Tensor:
    return crown_ibp_fused_loss(
        required(margins.crown, "CROWN"),
        required(margins.ibp, "IBP"),
        required(margins.ibp_upper, "upper IBP"),
        alpha,
    )


CROWN_IBP_FUSED = Loss(
    "crown-ibp-fused",
    _value,
    needs_bounds=True,
    needs_crown=True,
    combination=chord_slopes,
)
