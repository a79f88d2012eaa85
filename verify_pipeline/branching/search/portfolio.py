"""Two searches for the same instances, in turns: domains as usual, and cells.

Neither search suits every network: cells decide deep networks with few unstable neurons in their
first layers, the search without cells decides most others. So both are paused and resumed (restarts
with growing shares, as algorithm portfolios have them: Gomes & Selman 2001, Artificial Intelligence
126). The search without cells begins. Whose turn is next, and how long it is, follows from counted
work alone, which is the same on a busy machine and on an idle one: a cell counts as many domains as
its bounds cost. The search that looks better has three quarters of the work. A search that is
expected to end soon keeps its turn, as long as it has not promised that before in vain.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from verify_pipeline.bounds import Multipliers, NodeBounds, needed_places
from verify_pipeline.bounds.memory import unless_memory_ends
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.limits.progress_estimate import ProgressRate
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.relu_split import Search
from verify_pipeline.branching.search.split_then_rebound import (
    Ended,
    SplitThenRebound,
    are_promising,
    cost_of_cell,
)
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.splittable import is_splittable
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Reason, Specification, Status

FIRST, FIRST_CELLS = 256, 4
"""Work on an instance, and cells by their cost, before it is cut: the greater of both."""

BETTER = 0.75
"""Share of the work for the search that looks better."""

GROWTH = 0.5
"""Of all work on an instance so far, what is added before each search has had its share again."""

LATE = 16
"""Times as many where the search in cells does not look better."""

CUTTING = 0.8
"""Of an instance's time, after which its cells are searched and not cut any more."""


def search_in_turns(
    graph: Graph,
    box: Box,
    spec: Specification,
    root: NodeBounds,
    settings: SearchSettings,
    deadlines: Deadlines,
    start: Multipliers | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Found]:
    """Decide instances, some of them in cells, too; arguments and order as of ``search``."""
    if len(box) == 0:
        return
    exact = SearchInstances(graph, box, spec, root.only(needed_places(graph))).to(torch.float64)
    yield from _Portfolio(exact, settings, deadlines, start, clock).run()


@dataclass
class _Turns:
    """The two searches of one instance.

    Attributes:
        cells: the search in cells.
        cost: of a cell, in domains.
        share: of the work that is for cells.
        usual: progress of the usual search, in domains.
        in_cells: progress in cells, likewise.
        are_over: whether cells have ended without a decision.
    """

    cells: SplitThenRebound
    cost: float
    share: float
    usual: ProgressRate = field(default_factory=ProgressRate)
    in_cells: ProgressRate = field(default_factory=ProgressRate)
    are_over: bool = False

    @property
    def is_for_cells(self) -> bool:
        """Whether it is the turn of cells: they had less than their share, or end soon."""
        if self.are_over:
            return False
        if self.usual.ends_soon or self.in_cells.ends_soon:
            return self.in_cells.expected < self.usual.expected
        return self.in_cells.work < self.share * (self.usual.work + self.in_cells.work)

    @property
    def of_cells(self) -> float:
        """Length of the next turn of cells, in domains."""
        return self._length(self.share, self.in_cells.work)

    @property
    def of_usual(self) -> float:
        """Length of the next turn of the usual search; without end where cells are over."""
        return math.inf if self.are_over else self._length(1 - self.share, self.usual.work)

    def _length(self, share: float, had: float) -> float:
        total = self.usual.work + self.in_cells.work
        return max(share * (1 + GROWTH) * total - had, self.cost)


OUT_OF_MEMORY = Ended(Status.UNKNOWN, reason=Reason.MEMORY)
"""Of cells; the usual search may fit."""


class _Portfolio:
    """N instances and their searches."""

    def __init__(
        self,
        exact: SearchInstances,
        settings: SearchSettings,
        deadlines: Deadlines,
        start: Multipliers | None,
        clock: Callable[[], float],
    ) -> None:
        self._exact, self._settings, self._clock = exact, settings, clock
        self._usual = Search(exact, settings, deadlines, start, clock)
        self._cost = cost_of_cell(exact, settings)
        self._promising = are_promising(exact)
        begins = (FIRST_CELLS * self._cost).clamp(min=FIRST)
        begins *= torch.where(self._promising, 1, LATE)
        wanted = is_splittable(exact.graph) and settings.tighten.iterations > 0
        cuttable = exact.are_finite() & wanted
        self._allowed = torch.where(cuttable, begins, math.inf)
        self._turns: dict[int, _Turns] = {}

    def run(self) -> Iterator[Found]:
        """Every instance's end."""
        accounts = self._usual.accounts
        while True:
            yield from self._usual.run(self._allowed)
            self._turns = {n: one for n, one in self._turns.items() if not accounts.ended[n]}
            if bool(accounts.ended.all()):
                return
            shares = self._usual.open_share()
            for n in (~accounts.ended).nonzero().flatten().tolist():
                turns = self._turns_of(n)
                turns.usual.note(float(accounts.work[n]), float(shares[n]))
                yield from self._in_cells(n, turns)
                self._allowed[n] = accounts.work[n] + turns.of_usual

    def _turns_of(self, n: int) -> _Turns:
        if n not in self._turns:
            one, exact = slice(n, n + 1), self._exact
            alone = SearchInstances(exact.graph, exact.box[one], exact.spec[one], exact.bounds[one])
            share = BETTER if bool(self._promising[n]) else 1 - BETTER
            cells = SplitThenRebound(alone, self._settings, self._clock)
            self._turns[n] = _Turns(cells, float(self._cost[n]), share)
        return self._turns[n]

    def _in_cells(self, n: int, turns: _Turns) -> Iterator[Found]:
        """The turns of an instance's cells, until it is the usual search's or the end."""
        usual, accounts = self._usual, self._usual.accounts
        while turns.is_for_cells and not bool(accounts.ended[n]):
            began, cells = self._clock(), turns.cells
            used, left = float(accounts.used[n]), float(accounts.left[n])
            taken = unless_memory_ends(self._turn, turns, used, left)
            (ended,) = (OUT_OF_MEMORY,) if taken is None else taken
            turns.are_over = ended is not None and ended.status is Status.UNKNOWN
            # what ended without a decision has closed nothing that counts
            share = 1.0 if turns.are_over else cells.open_share
            seconds, parts = self._clock() - began, cells.bounded + cells.domains
            usual.searched_elsewhere(n, seconds, parts, share)
            turns.in_cells.note(cells.work(turns.cost), share)
            if ended is not None and not turns.are_over:
                yield usual.end_elsewhere(n, ended.status, ended.bound, ended.point)
            yield from usual.ends()
        if turns.are_over or bool(accounts.ended[n]):
            turns.cells.forget()

    def _turn(self, turns: _Turns, used: float, left: float) -> tuple[Ended | None]:
        """One turn of cells: they are cut, or in the end searched.

        Args:
            turns: of the instance.
            used: the share of its time that it has used.
            left: seconds.

        Returns:
            The instance's end, if it has come.
        """
        cells, now = turns.cells, self._clock()
        if not cells.are_cut and used < CUTTING:
            until = now + left * (CUTTING - used) / (1 - used)
            return (cells.cut(max(1, int(turns.of_cells / turns.cost)), until),)
        return (cells.search(max(1, int(turns.of_cells / max(cells.count, 1))), now + left),)
