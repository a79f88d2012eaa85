"""The clock of a search: how large batches are, and who pays for what was done in them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from verify_pipeline.branching.limits.bookkeeping import Bookkeeping

FIRST_SIZE = 8
"""Subproblems in the first batch."""


class Meter:
    """Batches that grow up to what time allows, and their seconds.

    Until then sizes do not depend on the clock, so that a busy machine takes the same subproblems
    together as an idle one.

    Args:
        books: of the instances that pay.
        limit: subproblems in a batch, at most.
        clock: in seconds.

    Attributes:
        size: of the next batch.
    """

    def __init__(self, books: Bookkeeping, limit: int, clock: Callable[[], float]) -> None:
        self._books, self._limit, self._clock = books, limit, clock
        self._since = self._lap = clock()
        self._seconds_each = 0.0
        self._until = math.inf
        self.size = min(limit, FIRST_SIZE)

    @property
    def now(self) -> float:
        """The clock's seconds."""
        return self._clock()

    @property
    def left(self) -> Tensor:
        """Seconds that each instance may still be charged, ``N``."""
        return self._books.left

    def start(self, seconds: float = math.inf) -> None:
        """A batch begins; it should take no more than so many seconds."""
        self._since = self._lap = self._clock()
        if self._seconds_each > 0 and seconds < self.size * self._seconds_each:
            self.size = max(1, int(seconds / self._seconds_each))

    def serve(self, instance: Tensor, until: float) -> None:
        """Say whom the batch's step is for.

        Args:
            instance: of each of its ``D`` subproblems.
            until: the clock's seconds at which the search pauses.
        """
        self._until = min(until, self._since + self._books.for_a_step(instance))

    def has_time(self) -> bool:
        """Whether the step has not used up what one of the instances that it serves has left."""
        return self._clock() < self._until

    def spent_on(self, instance: Tensor, steps: float | Tensor = 0.0) -> None:
        """Charge the seconds since the last charge, or since the batch began, to instances.

        Args:
            instance: ``D``, an instance for each of the things that it was spent on; none: whoever
                is charged next pays for it.
            steps: of bounds that it took for each, as work: 1 for the steps of a subproblem's
                bound; ``D`` or one number.
        """
        if len(instance) == 0:
            return
        now = self._clock()
        self._books.charge(instance, now - self._lap)
        self._lap = now
        units = torch.as_tensor(steps, dtype=self._books.work.dtype, device=instance.device)
        self._books.work.index_add_(0, instance, units.expand(len(instance)))

    def stop(self, served: Tensor, bounded: Tensor) -> None:
        """A batch ends: its last seconds are charged, its subproblems counted.

        Args:
            served: the instance of each subproblem that it took.
            bounded: the instance of each subproblem that it bounded.
        """
        self.spent_on(served)
        self._seconds_each = (self._lap - self._since) / max(len(served), len(bounded), 1)
        counts = self._books.count(bounded)
        self._books.bounded += counts
        self._books.work += counts
        self.size = max(1, min(self._limit, 2 * self.size))

    def limit_to(self, count: int) -> None:
        """From now on, no batch is larger."""
        self._limit = count
        self.size = min(self.size, count)
