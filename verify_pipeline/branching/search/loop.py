"""The search: one loop for every kind of split, over the subproblems of many instances at once.

A kind of split says what a subproblem is, how it is bounded, and what its two parts are. The loop
takes the worst subproblems of every instance, lets them be split, closes parts whose bounds were
confirmed above zero in float64, keeps the others, and ends instances: with a counterexample, with
nothing left open, or at a limit. An instance is VERIFIED only if every part of its box is closed.
It can pause, for other searches of the same instances, and go on.
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
"""Replays a point ``*X`` of an instance's box, by its place: a counterexample, or None."""

PARTS = 2
"""What a split makes of a subproblem."""


@dataclass(frozen=True, eq=False)
class Roots(Generic[S]):
    """Where a search begins.

    Attributes:
        lower: ``N x S`` float64, bounds of the rows that are known by then; ``-inf``: unknown.
        subproblems: of the instances' whole boxes, not bounded yet.
    """

    lower: Tensor
    subproblems: S


@dataclass(frozen=True, eq=False)
class Step(Generic[S]):
    """What became of a batch of subproblems.

    Attributes:
        parts: all of theirs, ``D``, bounded.
        proved: ``D`` float64, lower bounds that hold; ``-inf``: none is confirmed. A part whose
            bound is above zero is closed.
        leaves: ``D`` booleans, parts that are closed without a proof, since no split is left.
        broken: an instance's place -> a point ``*X`` that breaks its specification.
        empty: ``D`` booleans, parts that are shown to hold no input, which closes them; None: none.
    """

    parts: S
    proved: Tensor
    leaves: Tensor
    broken: dict[int, Tensor] = field(default_factory=dict)
    empty: Tensor | None = None


class SplitKind(Protocol[S]):
    """A kind of split.

    Attributes:
        batch: subproblems that may be split at once, at most.
        exhausted: why an instance is UNKNOWN that has nothing left to split.
        refuted: why one is UNKNOWN whose proof is ruled out by a point that is no counterexample.
        unbounded: ``N`` booleans, instances that no bound can be made for; there may become more.
    """

    batch: int
    exhausted: Reason
    refuted: Reason
    unbounded: Tensor

    def roots(self) -> Roots[S]:
        """The instances' whole boxes."""

    def bound(self, roots: S, meter: Meter) -> Step[S]:
        """Bound roots, each of which is its own only part."""

    def split(self, parents: S, meter: Meter) -> Step[S]:
        """Split each subproblem in two, and bound the parts."""


@dataclass(frozen=True)
class SearchLimits:
    """When a search leaves an instance.

    Attributes:
        subproblems: of one instance that may be bounded; None: any number.
        bytes: of all open subproblems together; the instance that holds most of them is left.
        give_up: times its seconds that an instance may be expected to take; infinite: any.
        patience: the same once half of its seconds are used; what is left goes to other searches.
    """

    subproblems: int | None = None
    bytes: int = 1 << 31
    give_up: float = math.inf
    patience: float = math.inf


_LOST = "a split lost or made up a part of an instance's box"

GIVES_WAY = 0.5
"""Share of its seconds that an instance has before it may be left to another search."""


class Search(Generic[S]):
    """One kind of split, applied to N instances until each has come to an end.

    Args:
        kind: of split.
        limits: other than time.
        deadlines: of the instances.
        replay: asked of every point that breaks a specification.
        clock: in seconds; what the caller does between two decisions is not charged.

    Attributes:
        books: of the instances.
        frontier: the open subproblems.
        open_elsewhere: ``N``, the share of each instance's box that another search has left open;
            1 where there is none. The lesser share tells whether an instance is given up.
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
        """Of each instance's box, what is not closed here, ``N`` float64."""
        waiting = torch.zeros_like(self.books.charged)
        waiting.index_add_(0, self._waiting.instance, self._waiting.share)
        return self.frontier.shares + waiting

    def run(self, allowed: Tensor | None = None, until: float = math.inf) -> Iterator[Decision]:
        """Search until every instance has come to an end, or had the work that it is allowed.

        Args:
            allowed: ``N``, of ``books.work``, counted from the beginning on; an instance that has
                had so much rests, whole, until it is allowed more. None: any.
            until: the clock's seconds from which on no batch begins: all instances rest.

        Yields:
            The instances' decisions, each once.
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
        """Whether there are roots that are not bounded, of instances that have not ended."""
        self._waiting = self._waiting[~self.books.ended[self._waiting.instance]]
        return len(self._waiting) > 0

    def _step(
        self, step: Callable[[S, Meter], Step[S]], batch: S, parts: int, until: float
    ) -> dict[int, Tensor] | None:
        """Take in what becomes of a batch.

        Returns:
            Points that break their instance's specification; None if memory did not suffice: then
            the batch is as it was.
        """
        self._meter.serve(batch.instance, until)
        found = unless_memory_ends(step, batch, self._meter)
        if found is None:
            return None
        whose, proved = found.parts.instance, sound_lower(found.proved)
        if not torch.equal(self.books.count(whose), parts * self.books.count(batch.instance)):
            raise RuntimeError(_LOST)
        if found.empty is not None:  # only here does an infinite bound mean something
            proved = proved.masked_fill(found.empty, math.inf)
        closed = proved > 0
        leaves = found.leaves & ~closed
        self.books.split(batch.instance, parts)
        self.books.close(whose[closed], proved[closed])
        self.books.close(whose[leaves], proved[leaves].clamp(max=0))
        self.frontier.push(found.parts[~closed & ~leaves])
        if parts == 1:
            least = self.books.proved.scatter_reduce(0, whose, proved, "amin")
            # bounds of some of an instance's trees are no bounds of its box
            known = least.isfinite() & (self.books.count(whose) == self._trees)
            self._at_root = torch.where(known, least, self._at_root)
        self._meter.stop(batch.instance, whose)
        return found.broken

    def ends(self, broken: Mapping[int, Tensor] | None = None) -> Iterator[Decision]:
        """Instances that have come to an end by now.

        Args:
            broken: points that break their instance's specification.
        """
        for n, point in (broken or {}).items():
            if not self.books.ended[n]:
                yield self._broken(n, point)
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
        """Another search has worked on an instance, to whose time that belongs.

        Args:
            n: the instance.
            seconds: that it took.
            parts: of the box that it has bounded since the last time.
            open_share: of the box that it has left open.
        """
        self.books.charged[n] += seconds
        self.books.bounded[n] += parts
        self.open_elsewhere[n] = min(open_share, float(self.open_elsewhere[n]))

    def end_elsewhere(self, n: int, found: Decision) -> Decision:
        """The end of an instance that another search has decided, with its evidence."""
        self.frontier.drop(n)
        proved = found.bound if found.status is Status.VERIFIED else None
        bound = float(self._at_root[n]) if proved is None else proved
        return self.books.end(n, found.status, bound, found.reason, found.counterexample)

    def _open_anywhere(self) -> Tensor:
        """What neither this search nor another one has closed, ``N``."""
        return torch.minimum(self.open_share, self.open_elsewhere)

    def _out_of_memory(self, batch: S) -> Iterator[Decision]:
        """Go on with smaller batches, or without the instance that is too large alone."""
        self._meter.spent_on(batch.instance)
        self._meter.limit_to(max(1, len(batch) // 2))
        if len(batch) == 1:
            yield self._end(int(batch.instance), Reason.MEMORY)

    def _broken(self, n: int, point: Tensor) -> Decision:
        counterexample = self._replay(n, point)
        if counterexample is None:
            return self._end(n, self._kind.refuted)
        self.frontier.drop(n)
        at_root = float(self._at_root[n])
        return self.books.end(n, Status.FALSIFIED, at_root, counterexample=counterexample)

    def _complete(self, n: int) -> Decision:
        """The end of an instance without open subproblems."""
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
