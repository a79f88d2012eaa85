"""SABR: Müller et al. 2023 (arXiv:2210.04871)."""

from __future__ import annotations

import torch

from verify_pipeline.losses.base import Loss, Perturbed
from verify_pipeline.losses.certified import ibp
from verify_pipeline.problem import Box


def small_box(perturbed: Perturbed, share: float) -> Box:
    """The box of half-width ``τ = λ ε`` around the attack's point, moved into the whole box.

    ε is the attack's, and the whole box the one that the attack looks in: from
    ``l = max(0, x - ε)`` to ``u = min(1, x + ε)``. The centre is ``clip(x_adv, l + τ, u - τ)``:
    eq. 4 with the box cut to [0, 1], as De Palma et al. 2024 (arXiv:2305.13991) compute it, so
    that the small box has its full width beside black and white too. Where [l, u] is narrower than
    2τ, the small box is [l, u]; their code leaves the whole box there. (CTBench takes λ times the
    half-width of [l, u] for τ.)

    Args:
        perturbed: with the attack's points.
        share: λ, in (0, 1].
    """
    points = perturbed.points
    if points is None:
        raise ValueError("SABR bounds a box around the attack's points, which were not given")
    whole = Box.around(perturbed.images, perturbed.attack_epsilon)
    tau = share * perturbed.attack_epsilon
    # where the two bounds cross, the lower one: both sides are cut to [l, u] below
    center = torch.maximum(torch.minimum(points, whole.upper - tau), whole.lower + tau)
    # rounding may push a side over the whole box's
    lower = torch.maximum(center - tau, whole.lower)
    return Box(lower, torch.maximum(torch.minimum(center + tau, whole.upper), lower))


SABR = Loss("sabr", ibp, needs_attack=True, needs_bounds=True, bounded_box=small_box)
