"""What a recipe costs, from steps that are given: seconds and bytes by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from verify_pipeline.config import load_recipe
from verify_pipeline.planning.disk import ledger_row_bytes
from verify_pipeline.planning.recipe import Sizes, extra_numbers, steps_seconds
from verify_pipeline.reporting.durations import TimeRange
from verify_pipeline.training.settings import AverageSettings
from verify_pipeline.training.stopwatch import Phase, PhaseSteps

FULL = Phase("full ε", 5, load_recipe("digits-cc-ibp").train)


def test_few_steps_are_as_quick_as_the_quickest_and_as_slow_as_the_slowest() -> None:
    assert steps_seconds(PhaseSteps(FULL, 10, (1.0, 2.0, 4.0))) == TimeRange(50.0, 200.0)
    assert steps_seconds(PhaseSteps(FULL, 10, (3.0,))) == TimeRange(150.0, 150.0)


def test_many_steps_have_an_interval() -> None:
    """20 steps of 1 s or 3 s for 50 steps: two errors of sqrt(50 + 50² / 20)."""
    found = steps_seconds(PhaseSteps(FULL, 10, (1.0, 3.0) * 10))
    error = 2 * (20 / 19) ** 0.5 * (50 + 125) ** 0.5
    assert found.high is not None
    assert (found.low, found.high) == pytest.approx((100 - error, 100 + error))


def test_epochs_and_steps_multiply() -> None:
    twice = replace(FULL, epochs=10)
    assert steps_seconds(PhaseSteps(twice, 10, (2.0,) * 20)) == TimeRange(200.0, 200.0)


def test_sizes_are_those_of_weights_and_rows() -> None:
    """(3 · 2 + 2) weights of 4 bytes, and 5 numbers of 4 and 8 bytes of batch normalisation."""
    module = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    sizes = Sizes.of(module, (1, 28, 28), 10, 100)
    weights = 4 * (8 + 4)
    assert sizes.network == weights
    assert sizes.checkpoint == 3 * weights + 4 * 4 + 8
    low, high = ledger_row_bytes((1, 28, 28), 10)
    assert (sizes.ledger_low, sizes.ledger_high) == pytest.approx((100 * low, 100 * high), abs=1)


@pytest.mark.parametrize(
    ("optimiser", "average", "numbers"),
    [
        ({}, {}, 2),
        ({"name": "radam"}, {}, 2),
        ({"name": "sgd"}, {}, 0),
        ({"name": "sgd", "momentum": 0.9}, {"kind": "swa"}, 2),
        ({}, {"kind": "ema"}, 3),
    ],
)
def test_a_checkpoint_has_moments_and_an_average(
    optimiser: dict[str, Any], average: dict[str, Any], numbers: int
) -> None:
    made = FULL.settings
    chosen = replace(made.optimiser, **optimiser), AverageSettings(**average)
    assert extra_numbers(replace(made, optimiser=chosen[0], average=chosen[1])) == numbers
    module = nn.Linear(3, 2)
    assert Sizes.of(module, (1, 4, 4), 10, 1, numbers).checkpoint == 8 * 4 * (1 + numbers)


def test_a_counterexample_takes_its_pixels() -> None:
    """Noise in [0, 1) is compressed by the few bits of its exponents only."""
    low, high = ledger_row_bytes((3, 32, 32), 10)
    assert 300 < low < 1500
    assert 0.8 < (high - low) / (torch.zeros(3, 32, 32).numel() * 4) < 1.4
