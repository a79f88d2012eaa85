"""Intervals of accuracies: over images, and over trainings with different seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Z = statistics.NormalDist().inv_cdf(0.975)
"""Half-width of a two-sided 95 % interval of the normal distribution, in standard deviations."""


@dataclass(frozen=True)
class Share:
    """A share of images in %, and how far it may be trusted.

    Attributes:
        value: the share; the mean over several runs.
        deviation: sample standard deviation over runs; None: there is one run.
        low: lower end of the 95 % Wilson interval over images; None: there are several runs.
        high: upper end likewise.
    """

    value: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None


def share_of(counts: Sequence[int], images: Sequence[int]) -> Share:
    """The share of images that have a property.

    Args:
        counts: how many have it in each run, at least one run.
        images: how many there are in each run, each > 0.
    """
    values = [100 * count / total for count, total in zip(counts, images, strict=True)]
    if len(values) > 1:
        return Share(statistics.fmean(values), statistics.stdev(values))
    low, high = wilson(counts[0], images[0])
    return Share(values[0], None, 100 * low, 100 * high)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a probability, in [0, 1] (Wilson 1927, J. Am. Stat. Assoc. 22).

    Args:
        successes: from 0 to ``trials``.
        trials: > 0.
    """
    share, weight = successes / trials, Z * Z / trials
    centre = (share + weight / 2) / (1 + weight)
    half = Z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high
