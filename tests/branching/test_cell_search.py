"""An instance in cells: it pauses and goes on, and verdicts are the oracle's."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.branching.searching import (
    NUDGES,
    QUICK,
    Instances,
    by_graph,
    check_against_oracle,
    in_order,
    query_of,
)
from verify_pipeline.branching.config.search_settings import EarlySplitSettings
from verify_pipeline.branching.search import portfolio
from verify_pipeline.branching.search.cell_search import CellSearch
from verify_pipeline.branching.search.early_split import EarlySplits
from verify_pipeline.branching.search.loop import Search
from verify_pipeline.branching.search.portfolio import search_in_turns
from verify_pipeline.problem import Counterexample, Decision, Reason, Status

ALWAYS = EarlySplitSettings(most=12, first=1, first_parts=1, better=0.5, growth=100.0, late=1)
"""Cells for every instance that has open rows after a domain or two."""


def decide(case: Any) -> list[Decision]:
    query = query_of(case)
    replay, settings = by_graph(query.spec, query.graph), replace(QUICK, early=ALWAYS)
    found = search_in_turns(query, settings, replay, time.perf_counter)
    return in_order(found, len(query))


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many cells there were after each turn that cut; cells are not late."""
    grown, honest = [], CellSearch.cut

    def watched(self: CellSearch, count: int, until: float) -> Any:
        ended = honest(self, count, until)
        grown.append(self.bounded)
        return ended

    monkeypatch.setattr(CellSearch, "cut", watched)
    monkeypatch.setattr(portfolio, "in_domains", _one)
    return grown


def _one(functionals: torch.Tensor, steps: int, settings: Any) -> torch.Tensor:
    return torch.ones_like(functionals, dtype=torch.float64)


def cells_of(case: Any, n: int, early: EarlySplitSettings | None = None) -> CellSearch:
    """One instance of a case in cells."""
    query = query_of(case)
    exact = query.instances(query.spec)[n : n + 1]

    def replay(_: int, point: torch.Tensor) -> Counterexample | None:
        return by_graph(query.spec, query.graph)(n, point)

    return CellSearch(exact, QUICK, early or EarlySplitSettings(), replay, time.perf_counter)


@pytest.mark.parametrize("seed", range(3))
def test_mlps_in_cells_get_the_oracles_verdicts(
    seed: int, make_case: Any, make_mlp: Any, bounded: list[int]
) -> None:
    case = make_case(make_mlp(seed), 12, seed, NUDGES)
    found = decide(case)
    check_against_oracle(case, found)
    assert any(count > 2 for count in bounded)


def test_convolutions_in_cells_get_the_oracles_verdicts(
    make_case: Any, make_conv: Any, bounded: list[int]
) -> None:
    case = make_case(make_conv(1), 12, 1, NUDGES)
    check_against_oracle(case, decide(case))
    assert any(count > 2 for count in bounded)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_of_what_is_not_verified_are_the_boxes_own(
    seed: int, make_case: Any, make_mlp: Any, bounded: list[int]
) -> None:
    """A cell's bound says nothing of the rest of the box, whatever ends in the cell."""
    case = make_case(make_mlp(seed), 12, seed, (-1.0, -0.05))
    for n, end in enumerate(decide(case)):
        assert end.bound is None or end.bound <= float(case.exact[n]) + 1e-6
    assert bounded


def test_cells_go_on_where_they_paused() -> None:
    """As many cells are bounded in one go as in many, and each turn has its own number."""
    case = Instances(4, [1e-3])
    whole, paused = (cells_of(case, 0) for _ in range(2))
    end = whole.cut(10_000, math.inf)
    turns, ended = [], None
    while ended is None and len(turns) < 1000:
        before = paused.bounded
        ended = paused.cut(2, math.inf)
        turns.append(paused.bounded - before)
    assert end is not None
    assert ended is not None
    assert (end.status, end.bound) == (ended.status, ended.bound) == (Status.VERIFIED, end.bound)
    assert end.bound is not None
    assert 0 < end.bound <= 1e-3 + 1e-6
    assert paused.bounded == whole.bounded
    assert paused.open_share == whole.open_share == 0.0
    assert len(turns) > 2
    assert min(turns) > 0


def test_cells_pause_when_their_time_is_over(make_case: Any, make_mlp: Any) -> None:
    cells = cells_of(make_case(make_mlp(4, 3, (8, 8, 8)), 6, 4, (-0.5,)), 0)
    assert cells.cut(100, -math.inf) is None
    assert (cells.bounded, cells.open_share, cells.count) == (0, 1.0, 1)
    assert cells.search(100, -math.inf) is None
    assert (cells.bounded, cells.open_share) == (0, 1.0)


def test_open_cells_are_searched_and_their_shares_shrink(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(2), 12, 2, NUDGES)
    searched = 0
    for n in range(12):
        cells = cells_of(case, n)
        if cells.cut(1, math.inf) is not None:
            continue
        shares, ended = [cells.open_share], None
        while ended is None and len(shares) < 200:
            ended = cells.search(4, math.inf)
            shares.append(cells.open_share)
        assert ended is not None
        assert ended.place == 0
        assert ended.status is (Status.VERIFIED if case.exact[n] > 0 else Status.FALSIFIED)
        if ended.status is Status.VERIFIED:
            assert ended.bound is not None
            assert 0 < ended.bound <= float(case.exact[n]) + 1e-6
            assert shares == sorted(shares, reverse=True)
            assert shares[-1] == 0.0
        else:
            assert ended.counterexample is not None
            assert ended.counterexample.margin <= 0
        searched += 1
    assert searched >= 2


def test_cells_that_are_searched_are_not_cut_any_more(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(2), 12, 2, NUDGES)
    searched = 0
    for n in range(12):
        cells = cells_of(case, n)
        if cells.cut(1, math.inf) is not None or cells.search(1, math.inf) is not None:
            continue
        before = cells.bounded, cells.count, cells.open_share
        cut = int(cells._cutting.books.bounded)
        assert not cells.can_be_cut
        assert cells.cut(100, math.inf) is None
        assert (cells.bounded, cells.count, cells.open_share) == before
        assert cells.work(7.0) > 7.0 * cut
        searched += 1
    assert searched >= 1


def test_no_more_cells_are_open_than_there_may_be() -> None:
    cells = cells_of(Instances(6, [1e-3]), 0, ALWAYS)
    while cells.can_be_cut:
        assert cells.cut(1000, math.inf) is None
    # a batch is split whole
    assert ALWAYS.most <= cells.count <= ALWAYS.most + EarlySplits.batch
    assert cells.cut(1000, math.inf) is None


def test_cells_that_are_let_go_of_take_no_memory() -> None:
    cells = cells_of(Instances(6, [1e-3]), 0)
    cells.cut(4, math.inf)
    assert cells._cutting.frontier.bytes > 0
    cells.forget()
    assert cells._cutting.frontier.bytes == 0


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_no_room_for_cells_leaves_splits_of_relus(
    error: Exception,
    make_case: Any,
    make_mlp: Any,
    bounded: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def full(self: EarlySplits, *_: Any) -> Any:
        tried.append(self)
        raise error

    monkeypatch.setattr(EarlySplits, "bound", full)
    case = make_case(make_mlp(1), 8, 1, NUDGES)
    check_against_oracle(case, decide(case))
    assert tried


def test_cells_that_refuse_a_point_decide_nothing(make_case: Any, make_mlp: Any) -> None:
    """What does not replay is no counterexample, and no proof is left."""
    case = make_case(make_mlp(2), 12, 2, (-1.0,))
    query = query_of(case)
    n = int(torch.where(case.exact < 0, case.exact, -torch.inf).argmax())
    exact = query.instances(query.spec)[n : n + 1]
    early = EarlySplitSettings()
    cells = CellSearch(exact, QUICK, early, lambda *_: None, time.perf_counter)
    ended = None
    while ended is None:
        ended = cells.search(50, math.inf)
    assert (ended.status, ended.reason) == (Status.UNKNOWN, Reason.NOT_REPLAYED)
    assert isinstance(cells._inside, Search)


def test_the_bound_is_no_better_than_that_of_a_cell_closed_while_cutting(
    make_case: Any, make_mlp: Any
) -> None:
    """A cell that was closed before the others were searched counts as well."""
    case = make_case(make_mlp(2), 12, 2, NUDGES)
    closed_at, verified = 1e-9, 0
    for n in range(12):
        cells = cells_of(case, n)
        if case.exact[n] <= 0 or cells.cut(1, math.inf) is not None:
            continue
        cells._cutting.books.proved.fill_(closed_at)
        ended = None
        while ended is None:
            ended = cells.search(50, math.inf)
        assert (ended.status, ended.bound) == (Status.VERIFIED, closed_at)
        verified += 1
    assert verified >= 1
