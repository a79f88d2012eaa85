"""SABR: Müller et al. 2023 (arXiv:2210.04871)."""

from __future__ import annotations

from torch import Tensor

from verify_pipeline.losses.base import Loss
from verify_pipeline.losses.certified import ibp
from verify_pipeline.problem import Box


def small_box(box: Box, points: Tensor | None, share: float) -> Box:
    """The box of ``share`` times the half-width around the attack's point, inside the whole box.

    The point is first moved so far inside that the small box fits (eq. 4: ``x* = clip(x_adv,
    x - ε + τ, x + ε - τ)`` with ``τ = λ ε``).

    Args:
        box: the perturbation box.
        points: the attack's points, ``N x *X``.
        share: λ, in (0, 1].
    """
    if points is None:
        raise ValueError("SABR bounds a box around the attack's points, which were not given")
    tau = share * box.radius
    center = points.clamp(box.lower + tau, box.upper - tau)
    # rounding may push a side over the edge, or past the other side where the box is a point
    lower = (center - tau).clamp(box.lower, box.upper)
    return Box(lower, (center + tau).clamp(lower, box.upper))


SABR = Loss("sabr", ibp, needs_attack=True, needs_bounds=True, bounded_box=small_box)
