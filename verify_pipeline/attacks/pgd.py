"""Projected gradient ascent in a box: the attack inside a training step.

FGSM is one step of it from a random start (Wong et al. 2020, arXiv:2001.03994); PGD is Madry et
al. 2018 (arXiv:1706.06083).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from verify_pipeline.problem import Box

Objective = Callable[[Tensor], Tensor]
"""From points ``N x *X`` to a value per instance, ``N``, that the attack makes great."""


def pgd(
    objective: Objective,
    box: Box,
    *,
    steps: int,
    step_size: float,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Points of the boxes with a great objective.

    Each restart begins at a uniformly random point of the box and makes ``steps`` steps of
    ``step_size`` half-widths along the gradient's sign, projected into the box. One step and one
    restart return the final point without looking at its value (one gradient, no further forward);
    otherwise the iterate of greatest objective is kept, per instance.

    Args:
        objective: differentiable; instances must not influence each other.
        box: ``N`` boxes.
        steps: at least 1.
        step_size: in half-widths of the box, per coordinate.
        restarts: at least 1.
        generator: of the random starts.

    Returns:
        ``N x *X``, inside the boxes, without gradient.
    """
    step = step_size * box.radius
    best = best_value = None
    for _ in range(restarts):
        noise = torch.rand(
            box.lower.shape, generator=generator, dtype=box.lower.dtype, device=box.lower.device
        )
        points = _project(box.lower + noise * (box.upper - box.lower), box)
        for _ in range(steps):
            points.requires_grad_()
            value = objective(points)
            (gradient,) = torch.autograd.grad(value.sum(), points)
            points = points.detach()
            if steps > 1 or restarts > 1:
                best, best_value = _keep(best, best_value, points, value.detach())
            points = _project(points + step * gradient.sign(), box)
        if steps > 1 or restarts > 1:
            with torch.no_grad():
                best, best_value = _keep(best, best_value, points, objective(points))
    return points if best is None else best


def _project(points: Tensor, box: Box) -> Tensor:
    return torch.minimum(torch.maximum(points, box.lower), box.upper)


def _keep(
    best: Tensor | None, best_value: Tensor | None, points: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    """Per instance the better of the kept point and the new one; the kept one where equal."""
    if best is None or best_value is None:
        return points, value
    better = value > best_value
    mask = better.view(-1, *[1] * (points.dim() - 1))
    return torch.where(mask, points, best), torch.where(better, value, best_value)
