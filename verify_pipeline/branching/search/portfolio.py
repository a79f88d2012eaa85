"""A portfolio of two searches that take turns: splits of ReLUs, and cells made by early splits.

Neither suits every network: cells decide deep networks with few unstable neurons in the first
layers, and splits of ReLUs decide most others. Therefore both are paused and resumed, with turns
that grow (algorithm portfolios: Gomes & Selman 2001, Artificial Intelligence 126). Splits of ReLUs
begin. Counted work alone decides which search is next and how long its turn is. It is the same on a
busy machine and on an idle one; a cell counts as many domains as its bounds cost. The more
promising search gets three quarters of the work. A search that is expected to end soon keeps its
turn unless an earlier prediction of its end has failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from verify_pipeline.bounds.memory import unless_memory_ends
from verify_pipeline.branching.config.search_settings import EarlySplitSettings, SearchSettings
from verify_pipeline.branching.limits.cost import in_domains
from verify_pipeline.branching.limits.progress_estimate import ProgressRate
from verify_pipeline.branching.search.cell_search import CellSearch
from verify_pipeline.branching.search.early_split import are_promising
from verify_pipeline.branching.search.loop import ReplayAt, Search, SearchLimits
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.search.relu_split import ReluSplits
from verify_pipeline.branching.tree.splittable import is_splittable
from verify_pipeline.branching.tree.subproblems import Domains, Neurons
from verify_pipeline.problem import Counterexample, Decision, Reason, Status

STILL_UNSTABLE = 0.5
"""The approximate share of the box's unstable neurons that are still unstable in a cell."""


OUT_OF_MEMORY = (Decision(0, Status.UNKNOWN, reason=Reason.MEMORY),)
"""The decision of a search in cells that runs out of memory; splits of ReLUs may still fit."""


def relu_search(
    query: SearchQuery, settings: SearchSettings, replay: ReplayAt, clock: Callable[[], float]
) -> Search[Domains]:
    """The search by splits of ReLUs for the sufficient specifications of a query."""
    refuted = Reason.EXHAUSTED if query.spec.spare else Reason.NOT_REPLAYED
    exact = query.instances(query.sufficient)
    kind = ReluSplits(exact, settings, query.start, refuted, query.input_dtype, query.rows)
    limits = SearchLimits(settings.max_domains, settings.max_bytes, settings.allowed_multiple)
    return Search(kind, limits, query.deadlines, replay, clock)


@dataclass
class Turns:
    """The turns of the two searches of one instance.

    Attributes:
        cells: the search in cells.
        settings: settings of early splits.
        cost: cost of a cell, in domains.
        share: share of the work for cells.
        splits: progress of splits of ReLUs, in domains of work.
        in_cells: progress of cells, in domains of work.
        are_over: whether cells have ended without a decision.
    """

    cells: CellSearch
    settings: EarlySplitSettings
    cost: float
    share: float
    splits: ProgressRate = field(default_factory=ProgressRate)
    in_cells: ProgressRate = field(default_factory=ProgressRate)
    are_over: bool = False

    @property
    def is_for_cells(self) -> bool:
        """Whether it is the turn of cells: they have had less than their share, or end sooner."""
        if self.are_over:
            return False
        if self.splits.ends_soon or self.in_cells.ends_soon:
            return self.in_cells.expected < self.splits.expected
        return self.in_cells.work < self.share * (self.splits.work + self.in_cells.work)

    @property
    def of_cells(self) -> float:
        """Length of the next turn of cells, in domains."""
        return self._length(self.share, self.in_cells.work)

    @property
    def of_splits(self) -> float:
        """Length of the next turn of splits of ReLUs, in domains; infinite once cells are over."""
        return math.inf if self.are_over else self._length(1 - self.share, self.splits.work)

    def _length(self, share: float, had: float) -> float:
        total = self.splits.work + self.in_cells.work
        return max(share * (1 + self.settings.growth) * total - had, self.cost)

    def take(self, used: float, left: float, now: float) -> tuple[Decision | None]:
        """Run one turn of cells: cut cells, or search them once cutting is over.

        Args:
            used: the share of its time that the instance has used.
            left: seconds that the instance has left.
            now: the clock's time in seconds.

        Returns:
            The decision, if the instance has ended; a tuple with one element.
        """
        last = self.settings.until
        if self.cells.can_be_cut and used < last:
            until = now + left * (last - used) / (1 - used)
            return (self.cells.cut(max(1, int(self.of_cells / self.cost)), until),)
        each = max(1, int(self.of_cells / max(self.cells.count, 1)))
        return (self.cells.search(each, now + left),)


def search_in_turns(
    query: SearchQuery, settings: SearchSettings, replay: ReplayAt, clock: Callable[[], float]
) -> Iterator[Decision]:
    """Decide each instance once: by splits of ReLUs and, in a long search, in cells, too.

    Args:
        query: the instances; their sufficient specifications are proved.
        settings: settings of the search.
        replay: called for the points that break a specification.
        clock: returns seconds; the caller's work between two decisions is not charged.
    """
    usual = relu_search(query, settings, replay, clock)
    early = settings.early if is_splittable(query.graph) else None
    if early is None:
        yield from usual.run()
    else:
        yield from _Portfolio(query, usual, settings, early, replay, clock).run()


class _Portfolio:
    """N instances and their searches."""

    def __init__(
        self,
        query: SearchQuery,
        usual: Search[Domains],
        settings: SearchSettings,
        early: EarlySplitSettings,
        replay: ReplayAt,
        clock: Callable[[], float],
    ) -> None:
        self._exact, self._usual = query.instances(query.sufficient), usual
        self._input_dtype = query.input_dtype
        self._settings, self._early = settings, early
        self._replay, self._clock = replay, clock
        unstable = Neurons.of(query.graph).unstable(self._exact.bounds).sum(1)
        cost = in_domains(2 * STILL_UNSTABLE * unstable, early.neurons.iterations, settings)
        self._cost = cost.clamp(min=1.0).double()
        self._promising = are_promising(self._exact, early)
        begins = (early.first_parts * self._cost).clamp(min=early.first)
        begins *= torch.where(self._promising, 1, early.late)
        self._allowed = torch.where(self._exact.are_finite(), begins, math.inf)
        self._turns: dict[int, Turns] = {}

    def run(self) -> Iterator[Decision]:
        """The decision of every instance."""
        books = self._usual.books
        while True:
            yield from self._usual.run(self._allowed)
            self._turns = {n: one for n, one in self._turns.items() if not books.ended[n]}
            if bool(books.ended.all()):
                return
            shares = self._usual.open_share
            for n in (~books.ended).nonzero().flatten().tolist():
                turns = self._turns_of(n)
                turns.splits.note(float(books.work[n]), float(shares[n]))
                yield from self._in_cells(n, turns)
                self._allowed[n] = books.work[n] + turns.of_splits

    def _turns_of(self, n: int) -> Turns:
        if n not in self._turns:
            share = self._early.better if bool(self._promising[n]) else 1 - self._early.better

            def replay(_: int, point: Tensor) -> Counterexample | None:
                return self._replay(n, point)

            cells = CellSearch(
                self._exact[n : n + 1],
                self._settings,
                self._early,
                replay,
                self._clock,
                self._input_dtype,
            )
            self._turns[n] = Turns(cells, self._early, float(self._cost[n]), share)
        return self._turns[n]

    def _in_cells(self, n: int, turns: Turns) -> Iterator[Decision]:
        """Run turns of an instance's cells until the other search is next or the instance ends."""
        usual, books, cells = self._usual, self._usual.books, turns.cells
        while turns.is_for_cells and not bool(books.ended[n]):
            began, parts = self._clock(), cells.bounded
            used, left = float(books.used[n]), float(books.left[n])
            (ended,) = unless_memory_ends(turns.take, used, left, began) or OUT_OF_MEMORY
            turns.are_over = ended is not None and ended.status is Status.UNKNOWN
            # parts that cells closed do not count if cells end without a decision
            share = 1.0 if turns.are_over else cells.open_share
            usual.searched_elsewhere(n, self._clock() - began, cells.bounded - parts, share)
            turns.in_cells.note(cells.work(turns.cost), share)
            if ended is not None and not turns.are_over:
                yield usual.end_elsewhere(n, ended)
            yield from usual.ends()
        if turns.are_over or bool(books.ended[n]):
            cells.forget()
