"""What a sample says of other images, computed by hand."""

import pytest

from verify_pipeline.planning.estimates import (
    Cost,
    MeanRange,
    expected_shares,
    mean_range,
    spread_order,
    unseen_share,
    workers_estimates,
)
from verify_pipeline.reporting.durations import TimeRange
from verify_pipeline.reporting.statistics import wilson


def exactly(*seconds: float) -> list[Cost]:
    return [Cost(each, each) for each in seconds]


def test_the_mean_has_an_interval_of_two_errors() -> None:
    """25 images of 1 s or 3 s, 13 and 12 of them."""
    found = mean_range(exactly(*[1.0, 3.0] * 12, 1.0))
    variance = (13 * (1 - 1.96) ** 2 + 12 * (3 - 1.96) ** 2) / 24
    error = 2 * (variance / 25) ** 0.5
    assert found.high is not None
    assert (found.mean, found.low, found.high) == pytest.approx((1.96, 1.96 - error, 1.96 + error))


def test_few_images_have_no_interval() -> None:
    assert mean_range(exactly(1.0, 3.0)) == MeanRange(2.0, 0.0, None)


def test_an_open_image_widens_the_interval() -> None:
    found = mean_range([*exactly(*[1.0] * 19), Cost(1.0, 21.0)])
    assert (found.mean, found.low) == (None, 1.0)
    variance = (19 * 1.0**2 + 19.0**2) / 19  # around a mean of 2
    assert found.high == pytest.approx(2 + 2 * (variance / 20) ** 0.5)


def test_few_images_of_many_say_at_least() -> None:
    """4 + 6 s by two workers: 5 s each, but the longest takes 6 s."""
    one, two = workers_estimates(exactly(4.0, 6.0), 100, (1, 2), 1.0)
    assert one.seconds == TimeRange(11.0)
    assert two.seconds == TimeRange(7.0)


def test_all_images_measured_leave_only_their_order_open() -> None:
    (one, many) = workers_estimates(exactly(4.0, 6.0), 2, (1, 8), 1.0)
    assert one.seconds == TimeRange(11.0, 11.0)
    assert many.seconds == TimeRange(7.0, 7.0)
    assert (one.limit, many.limit) == ("work", "longest image")


def test_equal_images_take_equal_seconds() -> None:
    one, four = workers_estimates(exactly(*[2.0] * 20), 400, (1, 4), 0.0)
    assert one.seconds == TimeRange(800.0, 800.0)
    assert four.seconds == TimeRange(200.0, 200.0)
    assert four.efficiency == 1.0


def test_open_images_make_a_range() -> None:
    (one,) = workers_estimates([*exactly(*[1.0] * 29), Cost(1.0, 11.0)], 30, (1,), 0.0)
    assert one.seconds == TimeRange(30.0, 40.0)


def test_the_range_holds_what_the_mean_of_the_sample_may_miss() -> None:
    """50 images of 1 ± 1 s for 5,000: about ± 2 · 5000 / √50 · (1 ± its own error)."""
    (one,) = workers_estimates(exactly(*[0.0, 2.0] * 25), 5000, (1,), 0.0)
    assert one.seconds.high is not None
    error = 2 * 5000 / 50**0.5
    assert 5000 - one.seconds.low == pytest.approx(error, rel=0.25)
    assert one.seconds.high - 5000 == pytest.approx(error, rel=0.25)


@pytest.mark.parametrize(("images", "share"), [(1, 0.95), (2, 1 - 0.05**0.5), (58, 0.0503)])
def test_what_a_sample_may_have_missed(images: int, share: float) -> None:
    assert unseen_share(images) == pytest.approx(share, abs=5e-5)


def test_shares_add_what_is_known() -> None:
    """10 known, 10 measured, 80 others."""
    found = expected_shares({"verified": 5, "wrong": 5}, {"verified": 6, "falsified": 4}, 0, 80)
    verified = found["verified"]
    assert verified.expected == pytest.approx((5 + 6 + 80 * 0.6) / 100)
    assert verified.low == pytest.approx((11 + 80 * wilson(6, 10)[0]) / 100)
    assert verified.high == pytest.approx((11 + 80 * wilson(6, 10)[1]) / 100)
    assert found["undecided"].low == 0


def test_open_images_may_have_any_outcome() -> None:
    """10 known, 10 measured, of which 2 have no verdict, 80 others."""
    found = expected_shares({"verified": 5, "wrong": 5}, {"verified": 6, "falsified": 2}, 2, 80)
    verified = found["verified"]
    assert verified.expected is None
    assert verified.low == pytest.approx((11 + 80 * wilson(6, 10)[0]) / 100)
    assert verified.high == pytest.approx((11 + 2 + 80 * wilson(8, 10)[1]) / 100)


def test_shares_of_images_that_are_all_known_are_exact() -> None:
    found = expected_shares({"verified": 3, "wrong": 1}, {}, 0, 0)
    assert (found["verified"].low, found["verified"].high) == (0.75, 0.75)


def test_without_a_verdict_everything_is_possible() -> None:
    found = expected_shares({}, {}, 3, 7)
    assert (found["verified"].low, found["verified"].high) == (0.0, 1.0)


def test_a_cost_is_a_range() -> None:
    for low, high in ((2.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match="expected 0 <= low"):
            Cost(low, high)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 100, 360])
def test_the_order_has_each_image_once(count: int) -> None:
    assert sorted(spread_order(count)) == list(range(count))


@pytest.mark.parametrize("period", [2, 3, 4, 10])
def test_the_first_images_are_spread_evenly(period: int) -> None:
    """In each quarter of the set about a quarter, of classes in turn about as many of each."""
    first = spread_order(1000)[:40]
    quarters = [sum(place * 4 // 1000 == part for place in first) for part in range(4)]
    assert max(quarters) - min(quarters) <= 2
    classes = [sum(place % period == rest for place in first) for rest in range(period)]
    assert max(classes) - min(classes) <= 2
