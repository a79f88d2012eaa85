"""Projected gradient ascent in a box: the attack of a training step.

PGD: Madry et al. 2018 (arXiv:1706.06083). FGSM with a random start is one step of it: Wong et al.
2020 (arXiv:2001.03994).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from verify_pipeline.problem import Box

Objective = Callable[[Tensor], Tensor]
"""Maps points ``N x *X`` to one value per instance, ``N``, which the attack maximises."""


def pgd(
    objective: Objective,
    box: Box,
    *,
    steps: int,
    step_size: float,
    restarts: int = 1,
    generator: torch.Generator | None = None,
    rand: Callable[..., Tensor] = torch.rand,
) -> Tensor:
    """Points of the boxes that approximately maximise an objective.

    Each restart starts at a uniformly random point of the box. It makes ``steps`` steps of
    ``step_size`` half-widths along the sign of the gradient, each projected into the box. With one
    step and one restart, the final point is returned without an evaluation, which saves a forward
    pass. Otherwise, the iterate with the greatest objective is returned for each instance.

    Args:
        objective: a differentiable function in which instances do not influence each other.
        box: ``N`` boxes.
        steps: at least 1.
        step_size: step size in half-widths of the box, for each coordinate.
        restarts: at least 1.
        generator: random generator of the starting points; None: torch's global generator.
        rand: draws them as ``torch.rand`` does.

    Returns:
        Points inside the boxes, ``N x *X``, without gradient.
    """
    step = step_size * box.radius
    best = best_value = None
    for _ in range(restarts):
        noise = rand(
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
    """For each instance, the better of the kept and the new point; if equal, the kept one."""
    if best is None or best_value is None:
        return points, value
    better = value > best_value
    mask = better.view(-1, *[1] * (points.dim() - 1))
    return torch.where(mask, points, best), torch.where(better, value, best_value)
