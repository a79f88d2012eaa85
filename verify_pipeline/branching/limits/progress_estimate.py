"""Whether a search will end in its time, as far as its progress so far can tell.

Progress is the weight of the closed part of the trees: a domain of d splits weighs 2^-d of its root
(the tree weight of Hendel et al. 2022, "Estimating the size of branch-and-bound trees", INFORMS J.
Computing 34). It rises fast while easy parts are closed and slowly at the end, so what counts is
how it rose over about the last half of the time: at that rate, the rest is expected to take
``(1 - p) (t - t0) / (p - p0)`` seconds. Nothing of it touches a verdict: an instance that is given
up is UNKNOWN.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SURE = 0.15
"""Share of its time that every instance gets before it may be given up."""

EARLIEST, AGAIN, LOOKS = 0.02, 1.1, 7
"""An instance is looked at first after such a share of its time, then whenever it has taken so many
times the seconds that it had at the last look; it is compared with that many looks earlier, which
was at about half of its seconds."""


class ProgressEstimate:
    """Who of N instances is given up, looked at from time to time.

    Args:
        allowed: seconds that each may take, with what it may get of others, ``N``.
        factor: times these seconds that it may be expected to take; infinite: any.
    """

    def __init__(self, allowed: Tensor, factor: float) -> None:
        self._allowed, self._factor = allowed, factor
        first = EARLIEST * allowed
        self._next = first if math.isfinite(factor) else torch.full_like(allowed, math.inf)
        self._seconds, self._proved = (allowed.new_zeros(LOOKS, len(allowed)) for _ in range(2))

    def hopeless(
        self, seconds: Tensor, going: Tensor, open_share: Callable[[], Tensor]
    ) -> list[int]:
        """The places of instances that are to be given up, of those that are due for a look.

        Args:
            seconds: that each has taken, ``N``.
            going: instances that have not ended, ``N`` booleans.
            open_share: makes the share of each instance's trees that is open, ``N`` in [0, 1];
                asked where somebody is due.
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
    """Of one search of one instance, in counted work; by its rate over the last half or more.

    Easy parts are closed first, so a search looks near its end for a long time. It is believed
    until the end that it has promised has passed.

    Attributes:
        work: done so far.
        expected: work that is left, at that rate; infinite before there is any progress.
    """

    def __init__(self) -> None:
        self._noted = [(0.0, 1.0)]
        self._promised = math.inf
        self.work, self.expected = 0.0, math.inf

    def note(self, work: float, open_share: float) -> None:
        """Take in how much work was done in all, and what share of the box is open."""
        earlier = [one for one in self._noted if one[0] <= work / 2]
        then, open_then = earlier[-1]
        closed = open_then - open_share
        self.work = work
        self.expected = open_share * (work - then) / closed if closed > 0 else math.inf
        self._promised = min(self._promised, work + self.expected)
        self._noted.append((work, open_share))

    @property
    def ends_soon(self) -> bool:
        """Whether no more work is expected than was done so far, and no promise was broken."""
        return self.expected <= self.work <= self._promised


def _pushed(looks: Tensor, new: Tensor) -> Tensor:
    """``LOOKS x N``, the first left out and ``new`` behind the last."""
    return torch.cat([looks[1:], new.unsqueeze(0)])
