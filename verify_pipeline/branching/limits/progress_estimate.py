"""Estimates from its progress so far whether a search will end in time.

Progress p is the weight of the closed part of the trees: a domain of d splits weighs 2^-d of its
root (the tree weight of Hendel et al. 2022, "Estimating the size of branch-and-bound trees",
INFORMS J. Computing 34). It rises fast while easy parts are closed and slowly at the end. Therefore
the rate over about the last half of the time counts: at that rate, the rest is expected to take
``(1 - p) (t - t0) / (p - p0)`` seconds. The estimate proves nothing: an instance that is given up
is UNKNOWN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SURE = 0.15
"""Every instance gets this share of its time before it may be given up."""

EARLIEST, AGAIN, LOOKS = 0.02, 1.1, 7
"""The first look at an instance is after ``EARLIEST`` of its time, each later one after ``AGAIN``
times the seconds of the look before. A look compares with the one ``LOOKS`` earlier, which was at
about half of the seconds."""


class ProgressEstimate:
    """Decides from time to time which of N instances are given up.

    Args:
        allowed: seconds that each instance may take, including those its group may leave, ``N``.
        factor: an instance is given up once it is expected to take more than this multiple of its
            seconds; infinite: never.
    """

    def __init__(self, allowed: Tensor, factor: float) -> None:
        self._allowed, self._factor = allowed, factor
        first = EARLIEST * allowed
        self._next = first if math.isfinite(factor) else torch.full_like(allowed, math.inf)
        self._seconds, self._proved = (allowed.new_zeros(LOOKS, len(allowed)) for _ in range(2))

    def hopeless(
        self, seconds: Tensor, going: Tensor, open_share: Callable[[], Tensor]
    ) -> list[int]:
        """The instances that are due for a look and are to be given up.

        Args:
            seconds: seconds that each instance has taken, ``N``.
            going: instances that have not ended, ``N`` booleans.
            open_share: returns the open share of each instance's trees, ``N`` in [0, 1]; called
                only if an instance is due.
        """
        due = going & (seconds >= self._next)
        if not bool(due.any()):
            return []
        proved = 1 - open_share()
        self._next = torch.where(due, AGAIN * seconds, self._next)
        passed, gained = seconds - self._seconds[0], (proved - self._proved[0]).clamp(min=0)
        left = (self._factor * self._allowed - seconds).clamp(min=0)
        given_up = due & (seconds >= SURE * self._allowed)
        given_up &= (1 - proved) * passed > left * gained
        self._seconds = torch.where(due, _pushed(self._seconds, seconds), self._seconds)
        self._proved = torch.where(due, _pushed(self._proved, proved), self._proved)
        places: list[int] = given_up.nonzero().squeeze(1).tolist()
        return places


class ProgressRate:
    """The progress of one search of one instance per counted work, over the last half or more.

    Easy parts are closed first, so a search looks near its end for a long time. An estimate is
    believed until the end that it predicted has passed.

    Attributes:
        work: counted work so far.
        expected: work that is left at this rate; infinite before there is any progress.
    """

    def __init__(self) -> None:
        self._noted = [(0.0, 1.0)]
        self._promised = math.inf
        self.work, self.expected = 0.0, math.inf

    def note(self, work: float, open_share: float) -> None:
        """Record the total work so far, and the share of the box that is open."""
        earlier = [one for one in self._noted if one[0] <= work / 2]
        then, open_then = earlier[-1]
        closed = open_then - open_share
        self.work = work
        self.expected = open_share * (work - then) / closed if closed > 0 else math.inf
        self._promised = min(self._promised, work + self.expected)
        self._noted.append((work, open_share))

    @property
    def ends_soon(self) -> bool:
        """Whether the expected work is at most the work so far, and no predicted end has passed."""
        return self.expected <= self.work <= self._promised


def _pushed(looks: Tensor, new: Tensor) -> Tensor:
    """``LOOKS x N``: the first row removed, ``new`` appended."""
    return torch.cat([looks[1:], new.unsqueeze(0)])
