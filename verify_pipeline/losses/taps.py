"""TAPS and STAPS: Mao et al. 2023 (arXiv:2305.04574).

The network is cut into a feature extractor and a classifier. IBP bounds the outputs of the
extractor: the *latent box*. An attack in the latent box searches, for each class by itself, the
point where the margin is least. STAPS is TAPS over SABR's small box.

Two things are no derivatives of what is computed: the gradient connector, which passes gradients
from the attack's points on to the sides of the latent box (:func:`connected`), and the weight of
the attack's part (:func:`gradient_weighted`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from verify_pipeline.losses.base import Loss, margin_cross_entropy, of_latent_and_ibp
from verify_pipeline.losses.certified import IBP
from verify_pipeline.losses.sabr import SABR, small_box


def taps_loss(latent: Tensor, ibp: Tensor) -> Tensor:
    """``mean L(z_latent) · mean L(z_ibp)``: TAPS's product of both estimates of the worst case.

    Mao et al. 2023 (arXiv:2305.04574), section 3. Its gradient there is
    ``2α ∂L_latent L_ibp + (2 - 2α) L_latent ∂L_ibp``. Margins that went through
    :func:`gradient_weighted` give ``w ∂L_latent L_ibp + L_latent ∂L_ibp`` with
    ``w = α / (1 - α)``, as in the authors' code: the same direction.

    Args:
        latent: margins at the attack's points in the latent box, ``N x S``; see ``LatentMargins``.
        ibp: IBP lower bounds of the margins, ``N x S``; see ``AutoLirpaBounder.ibp``.

    Returns:
        A scalar, >= 0.
    """
    return margin_cross_entropy(latent).mean() * margin_cross_entropy(ibp).mean()


def gradient_weighted(x: Tensor, weight: float) -> Tensor:
    """``x``, whose gradient counts ``weight`` times.

    Args:
        x: finite, of any shape.
        weight: >= 0.
    """
    return x.detach() + weight * (x - x.detach())


def connected(points: Tensor, lower: Tensor, upper: Tensor, share: float) -> Tensor:
    """The points, unchanged; their gradient goes to the sides of the box that they lie at.

    The rectified linear gradient connector: Mao et al. 2023 (arXiv:2305.04574), section 3.2. A
    coordinate x of a point in [l, u] passes ``max(0, 1 - (u - x) / (c (u - l)))`` of its gradient
    to u, and ``max(0, 1 - (x - l) / (c (u - l)))`` to l: all of it from the side itself, none from
    farther away than the share c of the width. Where ``l = u``, each side gets half.

    Args:
        points: in the boxes, ``N x S x *V``, without gradient.
        lower: l of N boxes, ``N x *V``.
        upper: u, likewise.
        share: c in (0, 1]; up to 1/2, a point passes its gradient to one side at most.
    """
    sides = (side.unsqueeze(1).expand_as(points) for side in (lower, upper))
    out: Tensor = _Connector.apply(points, *sides, share)  # type: ignore[no-untyped-call]
    return out


class _Connector(torch.autograd.Function):
    """Identity of the points, with gradients for the sides instead."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, lower: Tensor, upper: Tensor, share: float) -> Tensor:
        ctx.save_for_backward(points, lower, upper)
        ctx.share = share
        return points.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, None]:
        points, lower, upper = ctx.saved_tensors
        reach = ctx.share * (upper - lower)
        of_lower = gradients[0] * _passed(points - lower, reach)
        of_upper = gradients[0] * _passed(upper - points, reach)
        return None, of_lower, of_upper, None


def _passed(distance: Tensor, reach: Tensor) -> Tensor:
    """Which part of its gradient a point passes to a side at this distance."""
    part = (1 - distance / reach).clamp_min(0)
    return torch.where(reach > 0, part, torch.full_like(part, 0.5))


TAPS = Loss(
    "taps",
    of_latent_and_ibp(taps_loss),
    needs_bounds=True,
    needs_latent=True,
    while_growing=IBP,
)
STAPS = Loss(
    "staps",
    of_latent_and_ibp(taps_loss),
    needs_attack=True,
    needs_bounds=True,
    needs_latent=True,
    bounded_box=small_box,
    while_growing=SABR,
)
