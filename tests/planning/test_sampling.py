"""Measuring a sample: rounds, the clock that ends them, and what open images cost."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.onnx_networks import two_pixel_file, written_network
from verify_pipeline.certify.certifier import Certifier
from verify_pipeline.certify.contract import Task
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.run import ask_settings
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.data import ImageSet
from verify_pipeline.planning.estimates import Cost, spread_order
from verify_pipeline.planning.sampling import (
    FIRST_ROUND,
    ROUNDS,
    Measured,
    StoppingClock,
    measure,
    round_seconds,
    round_size,
)
from verify_pipeline.problem import Decision, Reason, Status

TIMEOUT = 100.0


class Hands:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Takes:
    """A stage that verifies each image, one by one, after as many seconds as are said."""

    name = "ibp"
    bytes_per_instance = 1

    def __init__(self, costs: Mapping[int, float], hands: Hands, tasks: int | None = 1) -> None:
        self._costs, self._hands, self.largest_task = costs, hands, tasks

    def run(self, task: Task) -> Iterator[Decision]:
        for place, index in enumerate(task.indices):
            ends = self._hands.now + self._costs.get(index, 1.0)
            while self._hands.now < ends and task.has_time():
                self._hands.now += 0.5
            if self._hands.now < ends:
                yield Decision(place, Status.UNKNOWN, reason=Reason.TIMEOUT)
            else:
                yield Decision(place, Status.VERIFIED, bound=1.0)


Sampler = Callable[[int, float, Mapping[int, float]], tuple[Measured, Hands]]


@pytest.fixture
def sampled(tmp_path: Path) -> Sampler:
    """Measures images of 1 s each, but for some."""

    def sample(count: int, seconds: float, costs: Mapping[int, float]) -> tuple[Measured, Hands]:
        network = written_network(tmp_path / "two.onnx", two_pixel_file(np.eye(2)))
        pixels = torch.zeros(count, 1, 1, 2)
        images = ImageSet("toy", "test", pixels, torch.zeros(count, dtype=torch.int64), 2)
        settings = CertifySettings(epsilon=0.1, stages=("clean", "ibp"), timeout=TIMEOUT)
        asked = ask_settings(network, images, settings, Question())
        hands = Hands()
        clock = StoppingClock(hands)
        made = Certifier.of(network, images, asked, settings, torch.device("cpu"), clock)
        made = replace(made, stages=(Takes(costs, hands),))
        open_ = list(range(count))
        found = measure(made, asked.instances, open_, seconds, clock, lambda images, passed: None)
        return found, hands

    return sample


def test_a_stopping_clock_leaps_each_time_and_never_goes_back() -> None:
    hands = Hands()
    clock = StoppingClock(hands)
    clock.stop_after(10.0)
    hands.now = 9.0
    assert (clock(), clock.over) == (9.0, False)
    hands.now = 10.0
    first, second = clock(), clock()
    assert clock.over
    assert second - first == first - 10.0 > 1e6
    clock.stop_after(5.0)
    assert not clock.over
    hands.now = 11.0
    assert clock() == second + 1.0


@pytest.mark.parametrize(
    ("rounds", "passed", "seconds"),
    [(0, 0.0, 15.0), (1, 0.0, 20.0), (1, 15.0, 15.0), (3, 30.0, 30.0), (9, 50.0, 10.0)],
)
def test_the_first_rounds_get_equal_parts_of_the_time(
    rounds: int, passed: float, seconds: float
) -> None:
    assert round_seconds(rounds, passed, 60.0) == seconds


@pytest.mark.parametrize("passed", [54.5, 60.0, 70.0])
def test_no_round_begins_in_the_last_tenth(passed: float) -> None:
    assert round_seconds(1, passed, 60.0) == 0.0


@pytest.mark.parametrize(
    ("last", "measured", "passed", "available", "size"),
    [
        (0, 0, 0.0, 15.0, FIRST_ROUND),
        (8, 8, 1.0, 20.0, 16),  # twice as many fit: 0.7 · 20 · 8
        (8, 8, 15.0, 15.0, 5),  # 0.7 · 8
        (16, 24, 30.0, 15.0, 8),  # 0.7 · 15 · 24 / 30 = 8.4
        (8, 8, 50.0, 5.0, 0),
        (8, 8, 1.0, 0.0, 0),
    ],
)
def test_rounds_grow_as_long_as_they_fit(
    last: int, measured: int, passed: float, available: float, size: int
) -> None:
    assert round_size(last, measured, passed, available) == size


def test_easy_images_are_measured_exactly(sampled: Sampler) -> None:
    """16 s, 0.7 of a third of the other 64, of half of 50, of 33, of 10."""
    found, hands = sampled(1000, 80.0, {})
    assert len(found.images) == 16 + 14 + 17 + 23 + 7
    assert set(found.costs) == {Cost(1.0, 1.0)}
    assert found.seconds == hands.now == 77.0
    assert found.open == 0
    assert found.stages == {"ibp": (1.0,) * 77}
    assert 0 < found.row < 5000
    assert sorted(each.index for each in found.images) == sorted(spread_order(1000)[:77])


def test_a_hard_image_ends_its_round_only_and_costs_a_range(sampled: Sampler) -> None:
    """Image 0 is in the first round, which gets a quarter of the time; others wait behind it."""
    hard = 0
    assert hard in spread_order(1000)[:FIRST_ROUND]
    found, hands = sampled(1000, 80.0, {hard: 90.0})
    assert hands.now <= 80.0 + 0.5
    costs = {each.index: each.cost for each in found.images}
    assert costs[hard].high == TIMEOUT
    of_round = [costs[index] for index in spread_order(1000)[:FIRST_ROUND]]
    assert sum(cost.low for cost in of_round) == pytest.approx(80.0 / ROUNDS, abs=0.5)
    later = [cost for index, cost in costs.items() if index not in spread_order(1000)[:FIRST_ROUND]]
    assert len(later) > 20
    assert set(later) == {Cost(1.0, 1.0)}


def test_costs_add_up_to_the_time_that_passes(sampled: Sampler) -> None:
    found, _ = sampled(300, 40.0, dict.fromkeys(range(0, 300, 7), 30.0))
    assert found.open
    assert sum(cost.low for cost in found.costs) == pytest.approx(found.seconds)


def test_a_deadline_that_passes_within_the_time_is_no_range(sampled: Sampler) -> None:
    """Its own deadline ended the image, as it will when all are certified."""
    found, _ = sampled(1, 1000.0, {0: 500.0})
    (image,) = found.images
    assert image.verdict is not None
    assert image.verdict.reason is Reason.TIMEOUT
    assert image.cost.low == image.cost.high == pytest.approx(TIMEOUT, abs=0.5)


def test_all_images_may_fit(sampled: Sampler) -> None:
    found, _ = sampled(5, 60.0, {})
    assert len(found.images) == 5
