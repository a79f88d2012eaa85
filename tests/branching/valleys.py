"""Intervals of one number whose bounds are exact: kinds of splits for tests of the loop.

An instance is a function ``least + |x - at|`` over [0, 1], whose least value over an interval is
known. So the search can be compared with the minimum, and everything that a kind of split may do
wrong can be done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.loop import Roots, Search, SearchLimits, Step
from verify_pipeline.branching.tree.frontier import Subproblems
from verify_pipeline.problem import Counterexample, Decision, Reason

F64 = torch.float64
NO_LIMITS = SearchLimits()
FLAT = 1.0
"""How much worse a bound is than the minimum, for each unit of an interval's width."""


@dataclass(frozen=True, eq=False)
class Parts(Subproblems):
    """Intervals.

    Attributes:
        low: ``D``.
        high: ``D``.
    """

    low: Tensor
    high: Tensor


class Valleys:
    """Splits of intervals; a :class:`SplitKind` of N functions ``least + |x - at|``.

    Args:
        least: of each function, its minimum.
        at: where.
        narrowest: intervals that are no wider are leaves.
    """

    exhausted, refuted = Reason.EXHAUSTED, Reason.NOT_REPLAYED

    def __init__(
        self, least: list[float], at: list[float] | None = None, narrowest: float = 2**-12
    ) -> None:
        self.batch = 4
        self.least = torch.tensor(least, dtype=F64)
        self.at = torch.tensor(at or [0.3] * len(least), dtype=F64)
        self.narrowest = narrowest
        self.unbounded = torch.zeros(len(least), dtype=torch.bool)
        self.steps: list[list[int]] = []
        self.breaks = True

    def roots(self) -> Roots[Parts]:
        zeros = torch.zeros_like(self.least)
        unknown = torch.full_like(zeros, -torch.inf)
        everything = torch.arange(len(zeros))
        whole = Parts(everything, unknown, zeros + 1, zeros, zeros + 1)
        return Roots(unknown.unsqueeze(1), whole)

    def bound(self, roots: Parts, meter: Meter) -> Step[Parts]:
        self.steps.append(roots.instance.tolist())
        n = roots.instance
        nearest = torch.minimum(torch.maximum(self.at[n], roots.low), roots.high)
        value = self.least[n] + (nearest - self.at[n]).abs()
        width = roots.high - roots.low
        lower = torch.maximum(value - FLAT * width, roots.lower)
        middle = (roots.low + roots.high) / 2
        broken = {}
        for d in range(len(n)):
            if self.breaks and float(self.value(int(n[d]), middle[d])) <= 0:
                broken[int(n[d])] = middle[d : d + 1]
        return Step(replace(roots, lower=lower), lower, width <= self.narrowest, broken)

    def split(self, parents: Parts, meter: Meter) -> Step[Parts]:
        middle, twice = (parents.low + parents.high) / 2, parents.with_more(parents)
        low, high = torch.cat([parents.low, middle]), torch.cat([middle, parents.high])
        return self.bound(replace(twice, low=low, high=high, share=twice.share / 2), meter)

    def value(self, n: int, x: Tensor) -> Tensor:
        return self.least[n] + (x - self.at[n]).abs()

    def replay(self, n: int, point: Tensor) -> Counterexample | None:
        margin = float(self.value(n, point[0]))
        return Counterexample(point, torch.tensor([margin]), margin) if margin <= 0 else None


def searching(
    kind: Valleys,
    limits: SearchLimits = NO_LIMITS,
    seconds: float | list[float] = 1e9,
    clock: Callable[[], float] | None = None,
    replay: Any = None,
    group: list[int] | None = None,
) -> Search[Parts]:
    count = len(kind.least)
    each = torch.as_tensor(seconds, dtype=F64).expand(count).clone()
    groups = torch.arange(count) if group is None else torch.tensor(group)
    deadlines = Deadlines(each, groups)
    return Search(kind, limits, deadlines, replay or kind.replay, clock or (lambda: 0.0))


def decided(search: Search[Parts], **more: Any) -> dict[int, Decision]:
    found = list(search.run(**more))
    assert len({one.place for one in found}) == len(found)
    return {one.place: one for one in found}


class Watch:
    """Seconds that go on as a step says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(Valleys):
    """Each part takes a second."""

    def __init__(self, least: list[float], watch: Watch, each: float = 1.0) -> None:
        super().__init__(least, narrowest=0.0)
        self.watch, self.each = watch, each

    def bound(self, roots: Parts, meter: Meter) -> Step[Parts]:
        self.watch.now += self.each * len(roots)
        return super().bound(roots, meter)
