"""Histograms of margins: how clearly images are verified, falsified, or left open."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from verify_pipeline.certify.tally import Summary
from verify_pipeline.problem import Status

BINS = 40
"""At most so many bins."""

KEPT = 0.98
"""Share of the values that the bins span at least; the others are counted beside them."""


@dataclass(frozen=True)
class RunMargins:
    """The margins of a run's images.

    Attributes:
        label: of the run.
        verified: the best lower bound of each verified image, > 0.
        open: the best lower bound of each image that no stage decided, where there is one.
        counterexamples: the least margin at each counterexample, <= 0; without images that are
            classified wrongly as they are.
        unbounded: open images without a finite bound.
    """

    label: str
    verified: tuple[float, ...]
    open: tuple[float, ...]
    counterexamples: tuple[float, ...]
    unbounded: int = 0

    @property
    def all(self) -> tuple[float, ...]:
        """Every margin."""
        return self.verified + self.open + self.counterexamples


def run_margins(summary: Summary, label: str) -> RunMargins:
    """The margins of one run, as far as its ledger has them."""
    open_ = [r.bound for r in summary.records if r.status is Status.UNKNOWN]
    return RunMargins(
        label,
        _finite(r.bound for r in summary.records if r.status is Status.VERIFIED),
        _finite(open_),
        _finite(
            r.margin for r in summary.records if r.status is Status.FALSIFIED and r.stage != "clean"
        ),
        unbounded=len(open_) - len(_finite(open_)),
    )


@dataclass(frozen=True)
class Bins:
    """Bins of equal width, with 0 among their edges, so that no bin has both signs.

    A bin holds ``lower < value <= upper``: a margin of 0 is no proof and stands on the left.

    Attributes:
        width: of a bin.
        first: the lowest edge is ``first * width``.
        count: how many bins there are.
    """

    width: float
    first: int
    count: int

    @property
    def edges(self) -> tuple[float, ...]:
        """The bins' edges, ascending."""
        return tuple((self.first + place) * self.width for place in range(self.count + 1))

    def counts(self, values: Sequence[float]) -> tuple[int, ...]:
        """How many of the values are in each bin."""
        edges = self.edges
        return tuple(
            sum(lower < value <= upper for value in values) for lower, upper in pairwise(edges)
        )

    def outside(self, values: Sequence[float]) -> tuple[int, int]:
        """How many of the values lie below all bins, and above."""
        edges = self.edges
        return sum(v <= edges[0] for v in values), sum(v > edges[-1] for v in values)


def common_bins(values: Sequence[float]) -> Bins:
    """Bins for all values but the most extreme.

    Args:
        values: finite, at least one.
    """
    ordered = sorted(values)
    spare = math.floor(len(ordered) * (1 - KEPT) / 2)
    lowest, highest = min(ordered[spare], 0.0), max(ordered[-1 - spare], 0.0)
    width = _round_number((highest - lowest) / (BINS - 2) or 1.0)
    first = math.ceil(lowest / width) - 1
    last = max(math.ceil(highest / width), first + 1)
    return Bins(width, first, last - first)


def _round_number(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least ``least``."""
    power = math.floor(math.log10(least))
    candidates = [float(f"{digit}e{power + more}") for more in (0, 1) for digit in (1, 2, 5)]
    return candidates[bisect_right(candidates, least * (1 - 1e-12))]


def _finite(values: Iterable[float | None]) -> tuple[float, ...]:
    return tuple(value for value in values if value is not None and math.isfinite(value))
