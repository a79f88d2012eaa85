"""SABR, small adversarial bounding regions: Müller et al. 2023 (arXiv:2210.04871)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.losses.base import Loss, Perturbed, of_ibp
from verify_pipeline.losses.certified import ibp_loss
from verify_pipeline.losses.expressive import MTL_IBP
from verify_pipeline.problem import Box


def sabr_box(images: Tensor, points: Tensor, epsilon: float, share: float) -> Box:
    """The box of half-width ``τ = λ ε`` around the attack's point, shifted into the whole box.

    The whole box is [l, u] with ``l = max(0, x - ε)`` and ``u = min(1, x + ε)``. The small box's
    centre is ``clip(x_adv, l + τ, u - τ)``: Müller et al. 2023 (arXiv:2210.04871), eq. 4. The whole
    box is cut to [0, 1] first, as in the code of De Palma et al. 2024 (arXiv:2305.13991), so that
    the small box keeps its full width near black and white. Where [l, u] is narrower than 2τ, the
    small box is [l, u], while their code leaves the whole box there. (In CTBench, τ is λ times the
    half-width of [l, u].)

    Args:
        images: ``N x *X``, pixels in [0, 1].
        points: the attack's points inside the whole box, ``N x *X``.
        epsilon: ε of the attack, >= 0.
        share: λ in (0, 1].
    """
    return Box(*_limits(Box.around(images, epsilon), points, share * epsilon))


def _limits(whole: Box, points: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Lower and upper sides ``N x *X`` of the small boxes of half-width ``tau``."""
    # if the two limits cross, the lower limit wins; both sides are cut to [l, u] below
    center = torch.maximum(torch.minimum(points, whole.upper - tau), whole.lower + tau)
    # rounding may move a side beyond the whole box
    lower = torch.maximum(center - tau, whole.lower)
    return lower, torch.maximum(torch.minimum(center + tau, whole.upper), lower)


def small_box(perturbed: Perturbed, share: float) -> Box:
    """The :func:`sabr_box` of a training step, inside the box that its attack searches.

    Raises:
        ValueError: there are no attack points.
    """
    points = perturbed.points
    if points is None:
        raise ValueError("SABR bounds a box around the attack's points, which were not given")
    whole = Box.around_pixels(perturbed.images, perturbed.attack_epsilon)
    return Box.unread(*_limits(whole, points, share * perturbed.attack_epsilon))


SABR = Loss("sabr", of_ibp(ibp_loss), needs_attack=True, needs_bounds=True, bounded_box=small_box)

MTL_SABR = replace(MTL_IBP, name="mtl-sabr", bounded_box=small_box)
"""MTL-IBP whose bounds are over SABR's box: α = 1 is SABR (the code of De Palma et al. 2024)."""
