"""The search: one loop for every kind of split, over the subproblems of many instances at once.

A kind of split defines what a subproblem is, how it is bounded, and what its two parts are. The
loop takes the worst subproblems of every instance and has them split. It closes parts whose bounds
are confirmed above zero in float64, and keeps the others. An instance ends with a counterexample,
when nothing is open, or at a limit. It is VERIFIED only if every part of its box is closed. The
loop can pause while other searches work on the same instances, and resume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol

import torch
from torch import Tensor

from verify_pipeline.bounds.memory import unless_memory_ends
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.limits.bookkeeping import Bookkeeping
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.limits.progress_estimate import ProgressEstimate
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.tree.frontier import Frontier, S
from verify_pipeline.problem import Counterexample, Decision, Reason, Status

ReplayAt = Callable[[int, Tensor], Counterexample | None]
"""Replays a point ``*X`` of the box of an instance, given by index: a counterexample, or None."""

PARTS = 2
"""Number of parts that a split makes of a subproblem."""


@dataclass(frozen=True, eq=False)
class Roots(Generic[S]):
    """The start of a search.

    Attributes:
        lower: ``N x S`` float64, bounds of the rows that are known already; ``-inf``: unknown.
        subproblems: subproblems for the instances' whole boxes, not bounded yet.
    """

    lower: Tensor
    subproblems: S


@dataclass(frozen=True, eq=False)
class Step(Generic[S]):
    """The result of a step on a batch of subproblems.

    Attributes:
        parts: all ``D`` parts of the batch's subproblems, with their bounds.
        proved: ``D`` float64, confirmed lower bounds; ``-inf``: none. A part whose bound is above
            zero is closed.
        leaves: ``D`` booleans, parts that cannot be split. A leaf is closed in any case; without a
            proof, its instance cannot be VERIFIED.
        broken: index of an instance -> a point ``*X`` that breaks its specification.
        empty: ``D`` booleans, parts that provably contain no input; they are closed. None: no part.
    """

    parts: S
    proved: Tensor
    leaves: Tensor
    broken: dict[int, Tensor] = field(default_factory=dict)
    empty: Tensor | None = None


class SplitKind(Protocol[S]):
    """A kind of split.

    Attributes:
        batch: largest number of subproblems that may be split at once.
        exhausted: the reason for UNKNOWN if nothing is left to split.
        refuted: the reason for UNKNOWN if a point rules out a proof, but its replay gives no
            counterexample; None: such a point ends nothing.
        unbounded: ``N`` booleans, instances that cannot be bounded; their number may grow.
    """

    batch: int
    exhausted: Reason
    unbounded: Tensor

    @property
    def refuted(self) -> Reason | None:
        """The reason for UNKNOWN if a point rules out a proof, but is no counterexample."""

    def roots(self) -> Roots[S]:
        """The subproblems for the instances' whole boxes."""

    def bound(self, roots: S, meter: Meter) -> Step[S]:
        """Bound roots without splitting them: each root is its own part."""

    def split(self, parents: S, meter: Meter) -> Step[S]:
        """Split each subproblem into two parts, and bound these."""


@dataclass(frozen=True)
class SearchLimits:
    """Limits at which a search leaves an instance.

    Attributes:
        subproblems: largest number of bounded subproblems of an instance; None: no limit.
        bytes: limit for all open subproblems together; beyond it, the instance with most of them
            is left.
        give_up: an instance is given up if it is expected to take more than this multiple of its
            seconds; infinite: never.
        patience: the same once ``GIVES_WAY`` of its seconds are used; the instance is then left to
            other searches.
    """

    subproblems: int | None = None
    bytes: int = 1 << 31
    give_up: float = math.inf
    patience: float = math.inf


_LOST = "a split lost or made up a part of an instance's box"

GIVES_WAY = 0.5
"""An instance gets this share of its seconds before it may be left to another search."""


class Search(Generic[S]):
    """Searches N instances with one kind of split until each has a decision.

    Args:
        kind: the kind of split.
        limits: limits other than time.
        deadlines: time limits of the instances.
        replay: called for the points that break a specification.
        clock: returns seconds; the caller's work between two decisions is not charged.

    Attributes:
        books: the records of the instances.
        frontier: the open subproblems.
        open_elsewhere: ``N``, the share of each instance's box that another search has left open; 1
            if there is no other search. The lesser of the two open shares decides whether an
            instance is given up.
    """

    def __init__(
        self,
        kind: SplitKind[S],
        limits: SearchLimits,
        deadlines: Deadlines,
        replay: ReplayAt,
        clock: Callable[[], float],
    ) -> None:
        began = clock()
        self._kind, self._limits, self._replay, self._clock = kind, limits, replay, clock
        roots = kind.roots()
        self._waiting = roots.subproblems
        at_root = sound_lower(roots.lower)
        self._at_root = at_root.amin(1)
        self.books = Bookkeeping(at_root, deadlines)
        self.frontier = Frontier(roots.subproblems, len(self._at_root))
        self.open_elsewhere = torch.ones_like(self.books.charged)
        allowed = deadlines.shared().to(self.books.charged)
        self._hope = ProgressEstimate(allowed, limits.give_up)
        self._patience = ProgressEstimate(allowed, limits.patience)
        self._trees = self.books.count(self._waiting.instance)
        without = (self._trees == 0) & ~self._kind.unbounded
        if bool((without & ~(at_root > 0).all(1)).any()):
            raise RuntimeError(_LOST)
        self.books.opened(self._waiting.instance)
        everybody = torch.arange(len(self._at_root), device=self._at_root.device)
        self._meter = Meter(self.books, kind.batch, clock)
        self.books.charge(everybody, clock() - began)

    @property
    def open_share(self) -> Tensor:
        """The share of each instance's box that this search has not closed, ``N`` float64."""
        waiting = torch.zeros_like(self.books.charged)
        waiting.index_add_(0, self._waiting.instance, self._waiting.share)
        return self.frontier.shares + waiting

    def run(self, allowed: Tensor | None = None, until: float = math.inf) -> Iterator[Decision]:
        """Search until every instance has ended or has used its allowed work.

        Args:
            allowed: ``N``, the largest total ``books.work`` of each instance. An instance that has
                used it keeps all its subproblems and waits until it is allowed more. None: no
                limit.
            until: the clock's time after which no batch begins; then all instances wait.

        Yields:
            One decision for each instance that ends.
        """
        if allowed is None:
            allowed = torch.full_like(self.books.work, math.inf)
        yield from self.ends()
        while self._is_waiting() and self._clock() < until:
            self._meter.start(until - self._clock())
            part = self._waiting[: self._meter.size]
            broken = self._step(self._kind.bound, part, 1, until)
            if broken is None:
                yield from self._out_of_memory(part)
            else:
                self._waiting = self._waiting[len(part) :]
                yield from self.ends(broken)
        while not self._is_waiting() and self._clock() < until:
            going = (self.books.work < allowed) & self.books.going
            if not bool(going.any()):
                return
            seconds = self.books.for_a_batch(going)
            self._meter.start(min(seconds, until - self._clock()))
            parents = self.frontier.pop(self._meter.size, self.books.used, going)
            if not len(parents):
                return
            broken = self._step(self._kind.split, parents, PARTS, until)
            if broken is None:
                self.frontier.push(parents)
                yield from self._out_of_memory(parents)
            else:
                yield from self.ends(broken)

    def _is_waiting(self) -> bool:
        """Whether some instances that have not ended have roots that are not bounded yet."""
        self._waiting = self._waiting[~self.books.ended[self._waiting.instance]]
        return len(self._waiting) > 0

    def _step(
        self, step: Callable[[S, Meter], Step[S]], batch: S, parts: int, until: float
    ) -> dict[int, Tensor] | None:
        """Run a step on a batch, and record its result.

        Returns:
            Points that break their instance's specification; None if memory did not suffice: then
            nothing has changed.
        """
        self._meter.serve(batch.instance, until)
        found = unless_memory_ends(step, batch, self._meter)
        if found is None:
            return None
        whose, proved = found.parts.instance, sound_lower(found.proved)
        if not torch.equal(self.books.count(whose), parts * self.books.count(batch.instance)):
            raise RuntimeError(_LOST)
        if found.empty is not None:  # only an empty part may have an infinite bound
            proved = proved.masked_fill(found.empty, math.inf)
        closed = proved > 0
        leaves = found.leaves & ~closed
        self.books.split(batch.instance, parts)
        self.books.close(whose[closed], proved[closed])
        self.books.close(whose[leaves], proved[leaves].clamp(max=0))
        self.frontier.push(found.parts[~closed & ~leaves])
        if parts == 1:
            least = self.books.proved.scatter_reduce(0, whose, proved, "amin")
            # bounds of only some of an instance's trees do not bound its box
            known = least.isfinite() & (self.books.count(whose) == self._trees)
            self._at_root = torch.where(known, least, self._at_root)
        self._meter.stop(batch.instance, whose)
        return found.broken

    def ends(self, broken: Mapping[int, Tensor] | None = None) -> Iterator[Decision]:
        """Decisions of the instances that end now.

        Args:
            broken: points that break their instance's specification, by instance.
        """
        for n, point in (broken or {}).items():
            if not self.books.ended[n]:
                yield from self._broken(n, point)
        for n in _places(self._kind.unbounded & ~self.books.ended):
            yield self._end(n, Reason.NOT_FINITE)
        for n in self.books.complete():
            yield self._complete(n)
        for n in self.books.overdue():
            yield self._end(n, Reason.TIMEOUT)
        charged = self.books.charged
        for n in self._hope.hopeless(charged, ~self.books.ended, self._open_anywhere):
            yield self._end(n, Reason.GIVEN_UP)
        for n in self._patience.hopeless(charged, ~self.books.ended, self._open_anywhere):
            if self.books.used[n] >= GIVES_WAY:
                yield self._end(n, Reason.NOT_DECIDED)
        if self._limits.subproblems is not None:
            for n in self.books.over(self._limits.subproblems):
                yield self._end(n, Reason.BUDGET)
        while self.frontier.bytes > self._limits.bytes:
            yield self._end(int(self.frontier.counts.argmax()), Reason.BUDGET)

    def searched_elsewhere(self, n: int, seconds: float, parts: int, open_share: float) -> None:
        """Record the work of another search on an instance, and charge its time.

        Args:
            n: index of the instance.
            seconds: seconds that the other search took.
            parts: number of subproblems that it has bounded since the last call.
            open_share: share of the box that it has left open.
        """
        self.books.charged[n] += seconds
        self.books.bounded[n] += parts
        self.open_elsewhere[n] = min(open_share, float(self.open_elsewhere[n]))

    def end_elsewhere(self, n: int, found: Decision) -> Decision:
        """End an instance that another search has decided, with the evidence of ``found``."""
        self.frontier.drop(n)
        proved = found.bound if found.status is Status.VERIFIED else None
        bound = float(self._at_root[n]) if proved is None else proved
        return self.books.end(n, found.status, bound, found.reason, found.counterexample)

    def _open_anywhere(self) -> Tensor:
        """The lesser share of each box that this search and the other one have left open, ``N``."""
        return torch.minimum(self.open_share, self.open_elsewhere)

    def _out_of_memory(self, batch: S) -> Iterator[Decision]:
        """Go on with smaller batches, or end an instance whose single subproblem is too large."""
        self._meter.spent_on(batch.instance)
        self._meter.limit_to(max(1, len(batch) // 2))
        if len(batch) == 1:
            yield self._end(int(batch.instance), Reason.MEMORY)

    def _broken(self, n: int, point: Tensor) -> Iterator[Decision]:
        """The end of an instance that a point breaks, if it is one."""
        counterexample = self._replay(n, point)
        if counterexample is not None:
            self.frontier.drop(n)
            at_root = float(self._at_root[n])
            yield self.books.end(n, Status.FALSIFIED, at_root, counterexample=counterexample)
        elif self._kind.refuted is not None:
            yield self._end(n, self._kind.refuted)

    def _complete(self, n: int) -> Decision:
        """End an instance that has no open subproblem."""
        proved = float(self.books.proved[n])
        if 0 < proved < math.inf:
            return self.books.end(n, Status.VERIFIED, proved)
        return self._end(n, self._kind.exhausted)

    def _end(self, n: int, reason: Reason) -> Decision:
        self.frontier.drop(n)
        return self.books.end(n, Status.UNKNOWN, float(self._at_root[n]), reason)


def _places(mask: Tensor) -> list[int]:
    places: list[int] = mask.nonzero().squeeze(1).tolist()
    return places
