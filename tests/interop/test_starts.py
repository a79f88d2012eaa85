"""Where attacks start."""

from __future__ import annotations

import pytest
import torch

from tests.networks_by_hand import sum_of_inputs
from verify_pipeline.attacks.falsify import FalsifySettings
from verify_pipeline.interop.starts import starting_points
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification


def total(inputs: int) -> Graph:
    return sum_of_inputs(inputs).to(torch.float32)


def boxes(inputs: int) -> Box:
    lower = torch.full((2, inputs), 0.1, dtype=torch.float64)
    return Box(lower, lower + torch.tensor([[0.0], [1.0]], dtype=torch.float64))


SETTINGS = FalsifySettings()
SPEC = Specification(torch.tensor([[[1.0]], [[-1.0]]]).double(), torch.zeros(2, 1).double())


def test_few_inputs_start_at_the_least_margin() -> None:
    box = Box(torch.tensor([[0.0, 1.0], [0.0, 1.0]]).double(), torch.ones(2, 2).double() * 2)
    points = starting_points(total(2), box, SPEC, SETTINGS)
    assert points.dtype == torch.float32
    assert bool(box.contains(points.double()).all())
    low, high = points.sum(1).tolist()
    assert low < 1.1
    assert high > 3.9
    assert torch.equal(points, starting_points(total(2), box, SPEC, SETTINGS))
    assert torch.equal(points[1:], starting_points(total(2), box[1:], SPEC[1:], SETTINGS))


@pytest.mark.parametrize(
    ("inputs", "settings"),
    [(33, SETTINGS), (2, FalsifySettings(samples_up_to=1)), (2, FalsifySettings(samples=1))],
)
def test_many_inputs_or_no_samples_start_in_the_middle(
    inputs: int, settings: FalsifySettings
) -> None:
    box = boxes(inputs)
    points = starting_points(total(inputs), box, SPEC, settings)
    assert torch.allclose(points, box.center.float())


def test_limits_that_float32_does_not_have() -> None:
    points = starting_points(total(2), boxes(2), SPEC, SETTINGS)
    assert bool(torch.isfinite(points).all())
    assert bool(boxes(2).contains(points.double())[1])
