"""The clock of a search: how large batches are, and which instances pay for their seconds."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from verify_pipeline.branching.limits.bookkeeping import Bookkeeping

FIRST_SIZE = 8
"""Subproblems in the first batch."""


class Meter:
    """Doubles the size of batches while time allows it, and charges their seconds.

    As long as time does not limit them, sizes do not depend on the clock: a busy machine forms the
    same batches as an idle one.

    Args:
        books: the records of the instances that are charged.
        limit: the largest number of subproblems in a batch.
        clock: returns seconds.

    Attributes:
        size: number of subproblems in the next batch.
    """

    def __init__(self, books: Bookkeeping, limit: int, clock: Callable[[], float]) -> None:
        self._books, self._limit, self._clock = books, limit, clock
        self._since = self._lap = clock()
        self._seconds_each = 0.0
        self._until = math.inf
        self.size = min(limit, FIRST_SIZE)

    @property
    def now(self) -> float:
        """The clock's time in seconds."""
        return self._clock()

    @property
    def left(self) -> Tensor:
        """Seconds that each instance may still be charged, ``N``."""
        return self._books.left

    def start(self, seconds: float = math.inf) -> None:
        """Begin a batch, which should take at most so many seconds."""
        self._since = self._lap = self._clock()
        if self._seconds_each > 0 and seconds < self.size * self._seconds_each:
            self.size = max(1, int(seconds / self._seconds_each))

    def serve(self, instance: Tensor, until: float) -> None:
        """Set the time limit of the batch's step from the instances that it serves.

        Args:
            instance: the instance of each of its ``D`` subproblems.
            until: the clock's time at which the search pauses.
        """
        self._until = min(until, self._since + self._books.for_a_step(instance))

    def has_time(self) -> bool:
        """Whether every instance that the step serves still has time left."""
        return self._clock() < self._until

    def spent_on(self, instance: Tensor, steps: float | Tensor = 0.0) -> None:
        """Charge the seconds since the last charge, or since the batch began, to instances.

        Args:
            instance: ``D`` instances, which share the seconds equally; if there are none, the next
                charge includes these seconds.
            steps: counted work to add for each of them, ``D`` or one number; bounding one
                subproblem counts 1.
        """
        if len(instance) == 0:
            return
        now = self._clock()
        self._books.charge(instance, now - self._lap)
        self._lap = now
        units = torch.as_tensor(steps, dtype=self._books.work.dtype, device=instance.device)
        self._books.work.index_add_(0, instance, units.expand(len(instance)))

    def stop(self, served: Tensor, bounded: Tensor) -> None:
        """End a batch: charge its remaining seconds and count its subproblems.

        Args:
            served: the instance of each subproblem that the batch took.
            bounded: the instance of each subproblem that the batch bounded.
        """
        self.spent_on(served)
        self._seconds_each = (self._lap - self._since) / max(len(served), len(bounded), 1)
        counts = self._books.count(bounded)
        self._books.bounded += counts
        self._books.work += counts
        self.size = max(1, min(self._limit, 2 * self.size))

    def limit_to(self, count: int) -> None:
        """Limit the size of all later batches."""
        self._limit = count
        self.size = min(self.size, count)
