"""What the search keeps of every instance: time, domains, and what is proved so far."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.problem import Reason, Status

LEAST_STEP = 0.02
"""Share of its time that an instance's part of a batch may take, however little it has left."""


@dataclass(frozen=True, eq=False)
class Found:
    """What the search knows of an instance at the end.

    Attributes:
        instance: its place in the batch.
        status: VERIFIED, FALSIFIED or UNKNOWN.
        bound: a float64 lower bound of its least margin, the least over all leaves where it is
            VERIFIED, that of the root elsewhere; None if it is not finite.
        point: FALSIFIED: ``*X`` float32, in the box, to be replayed.
        seconds: charged to it: its share of every batch that it was in.
        domains: that were bounded for it.
        reason: UNKNOWN: why.
    """

    instance: int
    status: Status
    bound: float | None
    point: Tensor | None
    seconds: float
    domains: int
    reason: Reason | None


class Bookkeeping:
    """The accounts of N instances.

    Attributes:
        charged: ``N`` seconds.
        domains: ``N``, how many were bounded.
        work: ``N`` float64, counted: 1 for the steps of one domain's bound.
        elsewhere: ``N``, how many parts of its box another search has bounded.
        open: ``N``, how many domains are neither closed nor split.
        at_root: ``N``, the least row's float64 bound without splits.
        proved: ``N``, the least float64 bound of closed rows and domains; at most 0 once a leaf
            had to be left without a decision.
        ended: ``N`` booleans.
    """

    def __init__(self, at_root: Tensor, deadlines: Deadlines) -> None:
        """Open the accounts.

        Args:
            at_root: ``N x S``, every row's float64 bound without splits.
            deadlines: of the ``N`` instances.
        """
        zeros = torch.zeros_like(at_root[:, 0])
        self.charged = zeros.clone()
        self.domains = zeros.long()
        self.work = zeros.double()
        self.elsewhere = zeros.long()
        self.open = zeros.long()
        self.at_root = at_root.amin(1)
        self.proved = torch.where(at_root > 0, at_root, math.inf).amin(1)
        self.ended = zeros.bool()
        self._deadlines = deadlines.to(at_root.device).to(at_root.dtype)

    @property
    def used(self) -> Tensor:
        """The share of its deadline that each instance has used up, ``N``."""
        return self.charged / self._deadlines.seconds

    @property
    def left(self) -> Tensor:
        """Seconds that each instance may still be charged, ``N``."""
        return self._deadlines.seconds - self.charged

    def for_a_batch(self, going: Tensor) -> float:
        """Seconds that one batch of the open instances among ``going``, ``N`` booleans, may take.

        Each of them may use up half of what it has left, and in any case a small part of its time.
        """
        open_ = going & (self.open > 0) & ~self.ended
        if not bool(open_.any()):
            return 0.0
        each = torch.maximum(self.left / 2, LEAST_STEP * self._deadlines.seconds)[open_]
        return float(each.min()) * int(open_.sum())

    def charge(self, share: Tensor, seconds: float) -> None:
        """Divide seconds among the instances in proportion to ``share``, ``N`` numbers >= 0."""
        total = float(share.sum())
        if total > 0:
            self.charged += share * (seconds / total)

    def begin(self, instance: Tensor) -> None:
        """Count new open domains ``D``."""
        self.open += torch.bincount(instance, minlength=len(self.open))

    def close(self, instance: Tensor, bounds: Tensor) -> None:
        """Count domains ``D`` as closed with their float64 bounds."""
        self.open -= torch.bincount(instance, minlength=len(self.open))
        self.proved.scatter_reduce_(0, instance, bounds, "amin")

    def complete(self) -> list[int]:
        """Instances that have not ended and have no open domain."""
        return _places((self.open == 0) & ~self.ended)

    def overdue(self) -> list[int]:
        """Instances that have not ended and were charged as much as they may."""
        return _places((self.charged >= self._deadlines.seconds) & ~self.ended)

    def over(self, domains: int) -> list[int]:
        """Instances that have not ended and have had more than that many domains, anywhere."""
        return _places((self.domains + self.elsewhere > domains) & ~self.ended)

    def end(
        self, n: int, status: Status, reason: Reason | None = None, point: Tensor | None = None
    ) -> Found:
        """Close an instance's account; what it leaves of its time goes to its group."""
        self.ended[n] = True
        self._deadlines = self._deadlines.after(n, self.charged, ~self.ended)
        bound = float((self.proved if status is Status.VERIFIED else self.at_root)[n])
        return Found(
            instance=n,
            status=status,
            bound=bound if math.isfinite(bound) else None,
            point=point,
            seconds=float(self.charged[n]),
            domains=int(self.domains[n] + self.elsewhere[n]),
            reason=reason,
        )


class Pace:
    """How many domains go into the next batch: more and more, up to what time allows.

    Until then sizes do not depend on the clock, so that a busy machine takes the same domains
    together as an idle one.

    Attributes:
        size: of the next batch.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._since = self._lap = clock()
        self._seconds_each = 0.0
        self.size = min(limit, 8)

    def start(self, seconds: float = math.inf) -> None:
        """A batch begins; it should take no more than so many seconds."""
        self._since = self._lap = self._clock()
        if self._seconds_each > 0 and seconds < self.size * self._seconds_each:
            self.size = max(1, int(seconds / self._seconds_each))

    def lap(self) -> float:
        """Seconds since the last lap, or since the batch began."""
        now = self._clock()
        seconds, self._lap = now - self._lap, now
        return seconds

    def stop(self, count: int) -> float:
        """A batch of ``count`` ends; returns the seconds of its last lap."""
        seconds = self.lap()
        self._seconds_each = (self._lap - self._since) / max(count, 1)
        self.size = max(1, min(self._limit, 2 * self.size))
        return seconds

    def limit_to(self, count: int) -> None:
        """From now on, no batch is larger."""
        self._limit = count
        self.size = min(self.size, count)

    def passed(self) -> float:
        """Seconds since the batch began."""
        return self._clock() - self._since


def _places(mask: Tensor) -> list[int]:
    places: list[int] = mask.nonzero().squeeze(1).tolist()
    return places
