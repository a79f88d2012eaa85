"""What a finished sample says about other images, and which samples say nothing."""

from dataclasses import replace

import pytest

from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.job_plan import LEAST_SAMPLE, Sample
from verify_pipeline.certify.records import Record
from verify_pipeline.problem import Status

ROW = Record(0, "0", 0, Status.VERIFIED, None, "ibp", 1.0, None, 1.0, 20.0, 1, "", "", 0.0)
ROWS = [replace(ROW, index=n, seconds=1.0 + 2.0 * (n % 2)) for n in range(LEAST_SAMPLE)]
ALL = Extent.of(range(LEAST_SAMPLE))


def test_a_finished_request_is_a_sample() -> None:
    sample = Sample.of(ROWS, ALL, 20.0)
    assert sample is not None
    assert (sample.images, sample.mean) == (20, 2.0)
    assert sample.deviation == pytest.approx((20 / 19) ** 0.5)


def test_seconds_of_other_images_are_an_interval() -> None:
    """100 images of 2 ± 1 s by 25 images: 200 s, two errors of sqrt(100 + 100² / 25)."""
    low, high = Sample(25, 2.0, 1.0).seconds(100)
    error = 2 * 500**0.5
    assert (low, high) == pytest.approx((200 - error, 200 + error))
    assert Sample(25, 0.01, 1.0).seconds(100)[0] == 0


@pytest.mark.parametrize(
    ("rows", "asked", "timeout"),
    [
        (ROWS[:-1], Extent.of(range(LEAST_SAMPLE - 1)), 20.0),  # too few
        (ROWS, Extent.of(range(100)), 20.0),  # interrupted: easy images come first
        (ROWS, None, 20.0),
        (ROWS, ALL, 60.0),  # more seconds now
        ([*ROWS[1:], replace(ROW, attempts=2)], ALL, 20.0),
    ],
)
def test_what_is_biased_is_no_sample(
    rows: list[Record], asked: Extent | None, timeout: float
) -> None:
    assert Sample.of(rows, asked, timeout) is None
