"""SABR: Müller et al. 2023 (arXiv:2210.04871)."""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.losses.base import Loss
from verify_pipeline.losses.certified import ibp
from verify_pipeline.problem import Box


def small_box(images: Tensor, points: Tensor | None, epsilon: float, share: float) -> Box:
    """The box of half-width ``τ = λ ε`` around the attack's point, inside the whole box.

    The point is first moved so far towards the image that the small box fits into the ball of
    half-width ε (eq. 4: ``x* = clip(x_adv, x - ε + τ, x + ε - τ)``); what lies outside [0, 1] is
    then cut off, as it is from the whole box.

    Args:
        images: ``N x *X``.
        points: the attack's points, ``N x *X``.
        epsilon: ε, half-width of the whole box.
        share: λ, in (0, 1].
    """
    if points is None:
        raise ValueError("SABR bounds a box around the attack's points, which were not given")
    tau = share * epsilon
    room = epsilon - tau
    center = images + (points - images).clamp(-room, room)
    whole, small = Box.around(images, epsilon), Box.around(center, tau)
    # rounding may push a side over the whole box's
    lower = torch.maximum(small.lower, whole.lower)
    return Box(lower, torch.maximum(torch.minimum(small.upper, whole.upper), lower))


SABR = Loss("sabr", ibp, needs_attack=True, needs_bounds=True, bounded_box=small_box)
