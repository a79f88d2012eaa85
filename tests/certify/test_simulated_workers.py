"""Workers that are simulated: their end by hand, and what limits it."""

import pytest

from verify_pipeline.certify.hand_out import batch_size
from verify_pipeline.certify.simulated_workers import finish, finish_of_shards

COSTS = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


@pytest.mark.parametrize(
    ("waiting", "workers", "size"), [(8, 2, 2), (9, 2, 3), (1, 4, 1), (0, 4, 0), (10, 1, 5)]
)
def test_a_batch_is_half_of_a_workers_share(waiting: int, workers: int, size: int) -> None:
    assert batch_size(waiting, workers) == size


def test_one_worker_does_all() -> None:
    found = finish(COSTS, 1, start=3.0)
    assert (found.seconds, found.work, found.longest) == (39.0, 36.0, 8.0)
    assert found.efficiency == pytest.approx(36 / 39)
    assert found.limit == "work"


def test_two_workers_by_hand() -> None:
    """Batches of 2, 2, 1, 1, 1, 1: A has 1+2 until 3, B 3+4 until 7; A 5 until 8, B 6 until 13, A 7
    until 15, B 8 until 21."""
    found = finish(COSTS, 2)
    assert found.seconds == 21.0
    assert found.efficiency == pytest.approx(36 / 42)


def test_a_worker_takes_its_first_images_after_its_start() -> None:
    assert finish(COSTS, 2, start=10.0).seconds == 31.0
    assert finish([0.5], 4, start=10.0).limit == "starting"


def test_the_longest_image_bounds_the_end() -> None:
    found = finish([1.0, 1.0, 100.0, 1.0], 64, start=1.0)
    assert found.seconds == 101.0
    assert found.limit == "longest image"
    assert found.efficiency == pytest.approx(103 / (64 * 101))


def test_nothing_to_do_takes_no_time() -> None:
    found = finish([], 4, start=5.0)
    assert (found.seconds, found.efficiency, found.limit) == (0.0, 1.0, "starting")


def test_shards_take_every_nth_image() -> None:
    """1+4+7, 2+5+8, 3+6."""
    found = finish_of_shards(COSTS, 3, start=1.0)
    assert (found.seconds, found.work) == (16.0, 36.0)
    assert finish_of_shards([4.0], 2).seconds == 4.0
