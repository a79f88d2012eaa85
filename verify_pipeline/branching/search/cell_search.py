"""The search of one instance in cells: early splits, then splits of ReLUs in each cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from verify_pipeline.branching.config.search_settings import EarlySplitSettings, SearchSettings
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.early_split import Cells, EarlySplits
from verify_pipeline.branching.search.loop import ReplayAt, Search, SearchLimits
from verify_pipeline.branching.search.relu_split import ReluSplits
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import Domains
from verify_pipeline.problem import Decision, Status


class CellSearch:
    """A search that can pause and resume; its caller limits its time.

    Args:
        instance: one instance, in float64.
        settings: settings of the search.
        early: settings of early splits.
        replay: called for the points that break the specification.
        clock: returns seconds.
        input_dtype: dtype of counterexamples.
    """

    def __init__(
        self,
        instance: SearchInstances,
        settings: SearchSettings,
        early: EarlySplitSettings,
        replay: ReplayAt,
        clock: Callable[[], float],
        input_dtype: torch.dtype = torch.float32,
    ) -> None:
        self._instance, self._settings, self._early = instance, settings, early
        self._input_dtype = input_dtype
        self._replay, self._clock = replay, clock
        kind = EarlySplits(instance, early, settings.budget)
        self._cutting = Search(kind, SearchLimits(), _patience(1), replay, clock)
        self._inside: Search[Domains] | None = None
        self._cells: Cells | None = None
        self._proved = math.inf

    @property
    def bounded(self) -> int:
        """How many subproblems were bounded: cells, and domains of cells."""
        inside = 0 if self._inside is None else int(self._inside.books.bounded.sum())
        return int(self._cutting.books.bounded) + inside

    def work(self, cost: float) -> float:
        """Counted work so far, in domains; a cell counts ``cost`` domains."""
        inside = 0.0 if self._inside is None else float(self._inside.books.work.sum())
        return cost * float(self._cutting.books.bounded) + inside

    @property
    def count(self) -> int:
        """How many cells are open; at least 1 until their search begins."""
        if self._inside is not None:
            return int((~self._inside.books.ended).sum())
        return max(len(self._cutting.frontier), 1)

    @property
    def can_be_cut(self) -> bool:
        """Whether more cells can be made; not once their search has begun."""
        if self._inside is not None or len(self._cutting.frontier) >= self._early.most:
            return False
        begun = int(self._cutting.books.bounded) > 0
        return not begun or bool(self._cutting.frontier.all().can_be_split.any())

    @property
    def open_share(self) -> float:
        """The share of the instance's box that is not proved."""
        if self._inside is None or self._cells is None:
            return float(self._cutting.open_share)
        return float((self._inside.open_share * self._cells.share).sum())

    def cut(self, count: int, until: float) -> Decision | None:
        """Cut the worst cells until ``count`` more are bounded, or enough cells are open.

        Args:
            count: number of cells.
            until: the clock's time at which to pause.

        Returns:
            The decision, if the instance has ended.
        """
        room = self._early.most - len(self._cutting.frontier)
        allowed = self._cutting.books.work + min(count, max(room, 1))
        return next(iter(self._cutting.run(allowed, until)), None) if self.can_be_cut else None

    def search(self, domains: int, until: float) -> Decision | None:
        """Search the open cells by splits of ReLUs; from then on no more cells are made.

        Args:
            domains: work for each cell, in domains.
            until: the clock's time at which to pause.

        Returns:
            The decision, if the instance has ended. UNKNOWN: the cells do not decide it.
        """
        if self._inside is None:
            if not int(self._cutting.books.bounded):
                return self.cut(1, until)
            self._cells = self._cutting.frontier.all()
            self._proved = float(self._cutting.books.proved)
            self._inside = self._search_inside(self._cells)
        books = self._inside.books
        for found in self._inside.run(books.work + domains, until):
            if found.status is not Status.VERIFIED or found.bound is None:
                return replace(found, place=0)
            self._proved = min(self._proved, found.bound)
        if not bool(books.ended.all()):
            return None
        return Decision(0, Status.VERIFIED, bound=self._proved)

    def forget(self) -> None:
        """Release all cells: their search is over."""
        self._cutting.frontier.drop(0)
        self._inside = self._cells = None

    def _search_inside(self, cells: Cells) -> Search[Domains]:
        """A search whose instances are the cells."""
        # the bounds of cells are optimised already, and those of the margins nearly so
        settings = replace(
            self._settings,
            root=self._settings.domain,
            tighten=replace(self._settings.tighten, iterations=0),
        )
        parts = replace(self._instance[cells.instance], bounds=cells.bounds)
        kind = ReluSplits(parts, settings, None, input_dtype=self._input_dtype)
        return Search(kind, SearchLimits(), _patience(len(cells)), self._replay, self._clock)


def _patience(count: int) -> Deadlines:
    return Deadlines.alone(torch.full((count,), math.inf))
