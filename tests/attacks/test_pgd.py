"""The training attack."""

from __future__ import annotations

from collections.abc import Callable

import torch

from verify_pipeline.attacks.pgd import pgd
from verify_pipeline.problem import Box


def linear_objective(weights: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: (x * weights).flatten(1).sum(1)


def test_one_long_step_reaches_the_corner_of_a_linear_function() -> None:
    weights = torch.tensor([1.0, -2.0, 3.0])
    images = torch.rand(5, 3, generator=torch.Generator().manual_seed(0))
    box = Box.around(images, 0.1)
    points = pgd(linear_objective(weights), box, steps=1, step_size=10.0)
    assert torch.equal(points, torch.where(weights > 0, box.upper, box.lower))


def test_points_stay_inside_and_carry_no_gradient() -> None:
    box = Box.around(torch.rand(4, 2, 3, 3, generator=torch.Generator().manual_seed(1)), 0.05)
    points = pgd(lambda x: x.sin().flatten(1).sum(1), box, steps=3, step_size=0.7, restarts=2)
    assert bool(box.contains(points).all())
    assert not points.requires_grad


def test_the_best_iterate_is_kept() -> None:
    # a step of 10 half-widths jumps from side to side of a maximum in the middle: later iterates
    # are worse than a random start near the middle
    box = Box(torch.full((50, 1), -1.0), torch.full((50, 1), 1.0))

    def objective(x: torch.Tensor) -> torch.Tensor:
        return -x.square().flatten(1).sum(1)

    generator = torch.Generator().manual_seed(3)
    start = torch.rand(50, 1, generator=torch.Generator().manual_seed(3)) * 2 - 1
    points = pgd(objective, box, steps=2, step_size=10.0, generator=generator)
    assert bool((objective(points) >= objective(start)).all())
    assert float(points.abs().min()) < 0.2


def test_restarts_only_help() -> None:
    box = Box(torch.full((40, 1), 0.0), torch.full((40, 1), 1.0))

    def objective(x: torch.Tensor) -> torch.Tensor:
        return (12 * x).sin().flatten(1).sum(1)

    def value(restarts: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return objective(
            pgd(objective, box, steps=2, step_size=0.02, restarts=restarts, generator=generator)
        )

    assert bool((value(4) >= value(1) - 1e-6).all())
    assert float((value(4) - value(1)).max()) > 0.1


def test_same_seed_same_points() -> None:
    box = Box.around(torch.rand(3, 4, generator=torch.Generator().manual_seed(0)), 0.1)
    draws = [
        pgd(
            linear_objective(torch.ones(4)),
            box,
            steps=1,
            step_size=0.1,
            generator=torch.Generator().manual_seed(9),
        )
        for _ in range(2)
    ]
    assert torch.equal(*draws)
