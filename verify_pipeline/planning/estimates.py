"""What a sample of images says of others: formulas alone, nothing is measured here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from verify_pipeline.certify.job_plan import LEAST_SAMPLE, Sample
from verify_pipeline.certify.simulated_workers import Limit, finish
from verify_pipeline.reporting.certification_state import OUTCOMES
from verify_pipeline.reporting.durations import TimeRange
from verify_pipeline.reporting.statistics import wilson

RESAMPLES = 200
"""Sets of images that are drawn from a sample."""

TAILS = (2.5, 97.5)
"""Percentiles between which 95 % lie."""


@dataclass(frozen=True)
class Cost:
    """Seconds that an image takes.

    Attributes:
        low: that it has taken.
        high: that it may take; more than ``low`` if measuring ended before its verdict.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"expected 0 <= low <= high; got {self.low}, {self.high}")


@dataclass(frozen=True)
class MeanRange:
    """The mean of something over a sample, with about its 95 % interval.

    Attributes:
        mean: None: single values are known as ranges only.
        low: lower end of the interval.
        high: upper end; None: the sample is too small for one.
    """

    mean: float | None
    low: float
    high: float | None


def mean_range(costs: Sequence[Cost]) -> MeanRange:
    """Mean seconds of an image; at least one has been measured."""
    lows, highs = [cost.low for cost in costs], [cost.high for cost in costs]
    mean = math.fsum(lows) / len(lows) if lows == highs else None
    if len(costs) < LEAST_SAMPLE:
        return MeanRange(mean, 0.0, None)
    low, high = Sample.of_seconds(lows), Sample.of_seconds(highs)
    return MeanRange(mean, low.mean_range[0], high.mean_range[1])


@dataclass(frozen=True)
class WorkersEstimate:
    """How long some workers take.

    Attributes:
        workers: how many.
        seconds: about the 95 % interval; without a high end, the sample says no more.
        efficiency: the share of the workers' seconds in which they certify.
        limit: what decides how long they take.
    """

    workers: int
    seconds: TimeRange
    efficiency: float
    limit: Limit


def workers_estimates(
    costs: Sequence[Cost], images: int, workers: Sequence[int], start: float
) -> tuple[WorkersEstimate, ...]:
    """How long workers take for images of which some were measured.

    Sets of ``images`` images are made of the sample and of random draws from it (drawn from a
    resample each, so that the sample's own chance counts), and are handed out to the workers. The
    range has 95 % of them. With fewer than :data:`LEAST_SAMPLE` of more images, only the images
    that were measured count, and there is no high end.

    Args:
        costs: of the sample, at least one.
        images: how many there are, the sample's among them.
        workers: numbers of workers.
        start: seconds until a worker takes images.
    """
    if len(costs) < LEAST_SAMPLE and len(costs) < images:
        return tuple(_at_least(costs, count, start) for count in workers)
    ends: dict[int, tuple[list[float], list[float]]] = {count: ([], []) for count in workers}
    shares: dict[int, list[float]] = {count: [] for count in workers}
    limits: dict[int, Counter[Limit]] = {count: Counter() for count in workers}
    for low, high in _drawn(costs, images):
        for count in workers:
            quick = finish(low, count, start)
            slow = quick if low is high else finish(high, count, start)
            ends[count][0].append(quick.seconds)
            ends[count][1].append(slow.seconds)
            shares[count].append(slow.efficiency)
            limits[count][slow.limit] += 1
    return tuple(
        WorkersEstimate(
            count,
            TimeRange(
                float(np.percentile(ends[count][0], TAILS[0])),
                float(np.percentile(ends[count][1], TAILS[1])),
            ),
            float(np.median(shares[count])),
            limits[count].most_common(1)[0][0],
        )
        for count in workers
    )


def _at_least(costs: Sequence[Cost], workers: int, start: float) -> WorkersEstimate:
    """No order of images ends earlier than an equal share of them, or than the longest one."""
    lows = [cost.low for cost in costs]
    least = start + max(sum(lows) / workers, *lows)
    found = finish(lows, workers, start)
    return WorkersEstimate(workers, TimeRange(least), found.efficiency, found.limit)


def _drawn(
    costs: Sequence[Cost], images: int
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """The low and the high seconds of some sets of images."""
    lows = np.array([cost.low for cost in costs])
    highs = np.array([cost.high for cost in costs])
    count, random = len(costs), np.random.default_rng(0)
    exact = bool((lows == highs).all())
    for _ in range(RESAMPLES):
        others = random.integers(count, size=count)
        drawn = others[random.integers(count, size=images - count)]
        places = random.permutation(np.concatenate([np.arange(count), drawn]))
        low = lows[places]
        yield low, low if exact else highs[places]


def unseen_share(images: int) -> float:
    """The largest share of images harder than all of a sample that is likely, in [0, 1].

    A share p is missed by n random images with probability (1 - p)^n; it is at least 5 % for p up
    to 1 - 0.05^(1/n).
    """
    return 1.0 - math.pow(0.05, 1.0 / images)


@dataclass(frozen=True)
class ExpectedShare:
    """The share of images that will have some outcome, in [0, 1].

    Attributes:
        low: lower end of about the 95 % interval.
        expected: as in the sample; None: some of it has no outcome.
        high: upper end.
    """

    low: float
    expected: float | None
    high: float


def expected_shares(
    known: Mapping[str, int], sample: Mapping[str, int], unknown: int, others: int
) -> dict[str, ExpectedShare]:
    """What will become of all images, by outcome.

    Args:
        known: how many have each outcome already, such as in the ledger.
        sample: how many of the sample have each.
        unknown: how many of the sample have none, as measuring ended before.
        others: images that are neither known nor in the sample.
    """
    measured = sum(sample.values()) + unknown
    total = sum(known.values()) + measured + others
    found = {}
    for name in OUTCOMES:
        sure, seen = known.get(name, 0) + sample.get(name, 0), sample.get(name, 0)
        low, high, share = 0.0, 1.0, 0.0
        if measured:
            low, high = wilson(seen, measured)[0], wilson(seen + unknown, measured)[1]
            share = seen / measured
        expected = None if unknown else (sure + others * share) / total
        ends = (sure + others * low, sure + unknown + others * high)
        found[name] = ExpectedShare(ends[0] / total, expected, ends[1] / total)
    return found


def spread_order(count: int) -> list[int]:
    """All places from 0 to ``count - 1``, so that the first ones of any number are spread evenly.

    Steps of about the golden section of the count, which has no common divisor with it: images
    that repeat with some period, such as classes in turn, are met as often as they occur.
    """
    step = max(1, round(count * 0.6180339887498949))
    while math.gcd(step, count) != 1:
        step += 1
    return [place * step % count for place in range(count)]
