"""Seconds as words."""

import pytest

from verify_pipeline.reporting.durations import TimeRange, duration, pace


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.04, "0 s"),
        (0.4, "0.4 s"),
        (1.04, "1 s"),
        (9.96, "10 s"),
        (42.4, "42 s"),
        (89, "89 s"),
        (90, "1.5 min"),
        (180, "3 min"),
        (89 * 60, "89 min"),
        (90 * 60, "1.5 h"),
        (47 * 3600, "47 h"),
        (48 * 3600, "2 days"),
        (3e8, "3,472 days"),
    ],
)
def test_durations_have_two_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("images", "seconds", "text"),
    [(24690, 2, "12,345/s"), (10, 4, "2.5/s"), (1, 4, "15/min"), (1, 90, "40/h")],
)
def test_a_rate_has_the_first_unit_in_which_one_is_done(
    images: float, seconds: float, text: str
) -> None:
    assert pace(images, seconds) == text


def test_a_rate_may_name_what_is_done() -> None:
    assert pace(10, 4, "steps") == "2.5 steps/s"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (40, None, "at least 40 s"),
        (100, 130, "about 2.2 min"),  # 30 % apart
        (100, 131, "1.7 min to 2.2 min"),
        (0, 90, "at most 1.5 min"),
        (0, 0, "about 0 s"),
        (120, 5400, "2 min to 1.5 h"),
    ],
)
def test_a_range_says_what_is_known(low: float, high: float | None, text: str) -> None:
    assert TimeRange(low, high).text == text


@pytest.mark.parametrize(("low", "high"), [(2, 1), (-1, None), (float("nan"), None)])
def test_a_range_in_the_wrong_order_cannot_be_made(low: float, high: float | None) -> None:
    with pytest.raises(ValueError, match="expected 0 <= low <= high"):
        TimeRange(low, high)
