"""SABR: Müller et al. 2023 (arXiv:2210.04871)."""

from __future__ import annotations

import torch
from torch import Tensor

from verify_pipeline.losses.base import Loss, Perturbed, of_ibp
from verify_pipeline.losses.certified import ibp_loss
from verify_pipeline.problem import Box


def sabr_box(images: Tensor, points: Tensor, epsilon: float, share: float) -> Box:
    """The box of half-width ``τ = λ ε`` around the attack's point, moved into the whole box.

    The whole box goes from ``l = max(0, x - ε)`` to ``u = min(1, x + ε)``. The centre is
    ``clip(x_adv, l + τ, u - τ)``: Müller et al. 2023 (arXiv:2210.04871), eq. 4, with the box cut
    to [0, 1] as De Palma et al. 2024 (arXiv:2305.13991) compute it, so that the small box has its
    full width beside black and white too. Where [l, u] is narrower than 2τ, the small box is
    [l, u]; their code leaves the whole box there. (CTBench takes λ times the half-width of [l, u]
    for τ.)

    Args:
        images: ``N x *X``, pixels in [0, 1].
        points: the attack's points, ``N x *X``, in the whole box.
        epsilon: ε of the attack, >= 0.
        share: λ, in (0, 1].
    """
    whole = Box.around(images, epsilon)
    tau = share * epsilon
    # where the two bounds cross, the lower one: both sides are cut to [l, u] below
    center = torch.maximum(torch.minimum(points, whole.upper - tau), whole.lower + tau)
    # rounding may push a side over the whole box's
    lower = torch.maximum(center - tau, whole.lower)
    return Box(lower, torch.maximum(torch.minimum(center + tau, whole.upper), lower))


def small_box(perturbed: Perturbed, share: float) -> Box:
    """The :func:`sabr_box` of a training step, in the box that its attack looks in."""
    points = perturbed.points
    if points is None:
        raise ValueError("SABR bounds a box around the attack's points, which were not given")
    return sabr_box(perturbed.images, points, perturbed.attack_epsilon, share)


SABR = Loss("sabr", of_ibp(ibp_loss), needs_attack=True, needs_bounds=True, bounded_box=small_box)
