"""How long workers take for images of known seconds, if these are handed out as a pool does."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from verify_pipeline.certify.hand_out import batch_size

Limit = Literal["work", "longest image", "starting", "none"]
"""What decides how long workers take: their share of the work, one image, or their start."""

Costs = Sequence[float] | NDArray[np.float64]
"""Seconds of each image."""


@dataclass(frozen=True)
class Finish:
    """When workers are done.

    Attributes:
        seconds: from the start of the workers to the end of the last one.
        work: seconds of all images together.
        longest: seconds of the longest image.
        start: seconds until a worker takes images.
        workers: how many there are.
    """

    seconds: float
    work: float
    longest: float
    start: float
    workers: int

    @property
    def efficiency(self) -> float:
        """The share of the workers' seconds in which they certify; 1 if there is nothing to do."""
        return self.work / (self.workers * self.seconds) if self.seconds else 1.0

    @property
    def limit(self) -> Limit:
        """What takes longest; more workers shorten their share of the work only."""
        parts: dict[Limit, float] = {
            "work": self.work / self.workers,
            "longest image": self.longest,
            "starting": self.start,
        }
        longest = max(parts, key=lambda name: parts[name])
        return longest if parts[longest] else "none"


def finish(costs: Costs, workers: int, start: float = 0.0) -> Finish:
    """Hand out images as a pool does, if each takes the same seconds on every worker.

    Args:
        costs: seconds of each image, in the order in which they are handed out.
        workers: at least 1; all start at the same time.
        start: seconds until a worker takes its first images.
    """
    ends = list(_batch_ends(len(costs), workers))
    sums = np.concatenate([[0.0], np.cumsum(costs)])
    free = [start] * min(workers, len(costs))
    for seconds in np.diff(sums[[0, *ends]]).tolist():
        heapq.heapreplace(free, free[0] + seconds)
    return Finish(max(free, default=0.0), float(sums[-1]), _longest(costs), start, workers)


def finish_of_shards(costs: Costs, shards: int, start: float = 0.0) -> Finish:
    """Each of N machines takes every N-th image; see ``Shard``."""
    parts = [math.fsum(costs[first::shards]) for first in range(shards)]
    return Finish(start + max(parts), math.fsum(parts), _longest(costs), start, shards)


def _longest(costs: Costs) -> float:
    return float(np.max(costs)) if len(costs) else 0.0


def _batch_ends(images: int, workers: int) -> Iterator[int]:
    """The place behind the last image of each batch."""
    end = 0
    while end < images:
        end += batch_size(images - end, workers)
        yield end
