"""Whether a search will end in its time, as far as what it has proved so far can tell.

A domain of d splits is 2^-d of its root, in the sense in which a tree whose splits all take equally
long is cut into equal parts. If closed domains are the share p of an instance's trees after t
seconds, the whole is expected to take t / p: the weighted backtrack estimator (Kilby et al. 2006,
"Estimating search tree size", AAAI), which sees the hardest domains first here, as the worst come
first. Nothing of it touches a verdict: an instance that is given up is UNKNOWN.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SURE = 0.2
"""Share of its time that every instance gets before it may be given up."""

AGAIN = 1.25
"""An instance is looked at again after so many times the seconds that it had at the last look."""


def is_hopeless(seconds: Tensor, proved: Tensor, allowed: Tensor, factor: float) -> Tensor:
    """Instances that are expected to take more than ``factor`` times what they may, ``N`` booleans.

    Args:
        seconds: that each has taken, ``N``.
        proved: the share of its trees that is closed, ``N`` in [0, 1].
        allowed: seconds that it may take, ``N``.
        factor: > 0; infinite: none is given up.
    """
    if math.isinf(factor):
        return torch.zeros_like(seconds, dtype=torch.bool)
    return (seconds >= SURE * allowed) & (seconds > factor * allowed * proved)


def looks_hopeless(seconds: float, proved: float, allowed: float, factor: float) -> bool:
    """:func:`is_hopeless` of one instance."""
    taken, share, may = torch.tensor([[seconds], [proved], [allowed]], dtype=torch.float64)
    return bool(is_hopeless(taken, share, may, factor))


class Prospects:
    """Who of N instances is given up, looked at from time to time.

    Args:
        allowed: seconds that each may take, with what it may get of others, ``N``.
        factor: times these seconds that it may be expected to take; infinite: any.
    """

    def __init__(self, allowed: Tensor, factor: float) -> None:
        self._allowed, self._factor = allowed, factor
        self._next = SURE * allowed if math.isfinite(factor) else torch.full_like(allowed, math.inf)

    def are_due(self, seconds: Tensor) -> bool:
        """Whether an instance is to be looked at, by the seconds that each has taken, ``N``."""
        return bool((seconds >= self._next).any())

    def hopeless(self, seconds: Tensor, proved: Tensor) -> list[int]:
        """The places of instances that are to be given up; arguments as :func:`is_hopeless`."""
        self._next = torch.where(seconds >= self._next, AGAIN * seconds, self._next)
        given_up = is_hopeless(seconds, proved, self._allowed, self._factor)
        places: list[int] = given_up.nonzero().squeeze(1).tolist()
        return places
