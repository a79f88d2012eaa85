"""Cells: they cover the box, their bounds hold in them, and verdicts are the oracle's."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
import torch

from tests.branching.searching import NUDGES, QUICK, check_against_oracle, root_bounds
from verify_pipeline.bounds import clamp_to_splits
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search import portfolio
from verify_pipeline.branching.search import split_then_rebound as cells_module
from verify_pipeline.branching.search.portfolio import search_in_turns
from verify_pipeline.branching.search.split_then_rebound import SplitThenRebound
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.problem import Status


def instances(case: Any) -> SearchInstances:
    root = root_bounds(case.graph, case.box)
    return SearchInstances(case.graph, case.box, case.spec, root).to(torch.float64)


def decide(case: Any, seconds: float = 1e6) -> list[Any]:
    deadlines = Deadlines.alone(torch.full((len(case.box),), seconds))
    root = root_bounds(case.graph, case.box)
    found = list(search_in_turns(case.graph, case.box, case.spec, root, QUICK, deadlines))
    assert sorted(f.instance for f in found) == list(range(len(case.box)))
    return sorted(found, key=lambda f: f.instance)


@pytest.fixture
def always_cells(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cells for every instance that has open rows at the root; how many each turn bounded."""
    monkeypatch.setattr(portfolio, "FIRST", 1)
    monkeypatch.setattr(portfolio, "FIRST_CELLS", 1e-9)
    monkeypatch.setattr(portfolio, "LATE", 1)
    monkeypatch.setattr(portfolio, "BETTER", 0.5)
    monkeypatch.setattr(portfolio, "GROWTH", 100.0)
    monkeypatch.setattr(cells_module, "MOST", 12)
    grown, honest = [], SplitThenRebound.cut

    def watched(self: SplitThenRebound, count: int, until: float) -> Any:
        ended = honest(self, count, until)
        grown.append(self.bounded)
        return ended

    monkeypatch.setattr(SplitThenRebound, "cut", watched)
    return grown


@pytest.mark.parametrize("seed", range(3))
def test_mlps_in_cells_get_the_oracles_verdicts(
    seed: int, make_case: Any, make_mlp: Any, always_cells: list[int]
) -> None:
    case = make_case(make_mlp(seed), 12, seed, NUDGES)
    check_against_oracle(case, decide(case))
    assert any(bounded > 2 for bounded in always_cells)


def test_convolutions_in_cells_get_the_oracles_verdicts(
    make_case: Any, make_conv: Any, always_cells: list[int]
) -> None:
    case = make_case(make_conv(1), 12, 1, NUDGES)
    check_against_oracle(case, decide(case))
    assert any(bounded > 2 for bounded in always_cells)


def test_cells_cover_the_box_and_their_bounds_hold_in_them(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(4, 3, (8, 8, 8)), 6, 4, (-0.5,))
    exact = instances(case)
    one = SearchInstances(exact.graph, exact.box[:1], exact.spec[:1], exact.bounds[:1])
    search = SplitThenRebound(one, QUICK, time.perf_counter)
    root = search._bound(one.bounds, search._nowhere())
    assert len(root) == 1
    parents, splits = search._cut(root)
    assert sum(int(sides.abs().sum()) for sides in splits.values()) == 2
    both = clamp_to_splits(parents, exact.graph, splits)
    children = search._bound(parents, splits)
    x = one.box.lower + 2 * one.box.radius * torch.rand(4000, *one.box.lower.shape[1:])
    values = exact.graph.values(x.double())
    held = torch.zeros(len(x), dtype=torch.long)
    for child in range(2):
        inside = torch.ones(len(x), dtype=torch.bool)
        for place in both.lower:
            lower, upper = both.lower[place][child], both.upper[place][child]
            at = (values[place] >= lower - 1e-9) & (values[place] <= upper + 1e-9)
            inside &= at.flatten(1).all(1)
        held += inside
        if len(children) < 2:
            continue
        for place, lower in children.bounds.lower.items():
            assert bool((values[place][inside] >= lower[child] - 1e-9).all())
            assert bool((values[place][inside] <= children.bounds.upper[place][child] + 1e-9).all())
    assert bool((held >= 1).all())
    assert bool((held == 1).any())


def test_cells_go_on_where_they_paused(make_case: Any, make_mlp: Any) -> None:
    """As many cells are bounded in one go as in many, and each turn has its own number."""
    case = make_case(make_mlp(4, 3, (8, 8, 8)), 6, 4, (1e-3,))
    exact = instances(case)
    open_ = next(n for n in range(6) if float(case.exact[n]) > 0)
    one = SearchInstances(
        exact.graph,
        exact.box[open_ : open_ + 1],
        exact.spec[open_ : open_ + 1],
        exact.bounds[open_ : open_ + 1],
    )
    whole, paused = (SplitThenRebound(one, QUICK, time.perf_counter) for _ in range(2))
    end = whole.cut(10_000, math.inf)
    turns, ended = [], None
    while ended is None and len(turns) < 1000:
        before = paused.bounded
        ended = paused.cut(2, math.inf)
        turns.append(paused.bounded - before)
    assert end is not None
    assert ended is not None
    assert (end.status, end.bound) == (ended.status, ended.bound) == (Status.VERIFIED, end.bound)
    assert paused.bounded == whole.bounded
    assert paused.open_share == whole.open_share == 0.0


def test_open_cells_are_searched_and_their_shares_shrink(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(2), 12, 2, NUDGES)
    exact, searched = instances(case), 0
    for n in range(12):
        some = slice(n, n + 1)
        one = SearchInstances(exact.graph, exact.box[some], exact.spec[some], exact.bounds[some])
        cells = SplitThenRebound(one, QUICK, time.perf_counter)
        if cells.cut(1, math.inf) is not None:
            continue
        shares, ended = [cells.open_share], None
        while ended is None and len(shares) < 200:
            ended = cells.search(4, math.inf)
            shares.append(cells.open_share)
        assert ended is not None
        assert ended.status is (Status.VERIFIED if case.exact[n] > 0 else Status.FALSIFIED)
        if ended.status is Status.VERIFIED:
            assert ended.bound is not None
            assert 0 < ended.bound <= float(case.exact[n]) + 1e-6
            assert shares == sorted(shares, reverse=True)
        searched += 1
    assert searched >= 2


def test_cells_that_are_searched_are_not_cut_any_more(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(2), 12, 2, NUDGES)
    exact, searched = instances(case), 0
    for n in range(12):
        some = slice(n, n + 1)
        one = SearchInstances(exact.graph, exact.box[some], exact.spec[some], exact.bounds[some])
        cells = SplitThenRebound(one, QUICK, time.perf_counter)
        if cells.cut(1, math.inf) is not None or cells.search(1, math.inf) is not None:
            continue
        before = cells.bounded, cells.count, cells.open_share
        assert cells.are_cut
        assert cells.cut(100, math.inf) is None
        assert (cells.bounded, cells.count, cells.open_share) == before
        assert cells.work(7.0) > 7.0 * cells.bounded
        searched += 1
    assert searched >= 1


def test_no_room_for_cells_leaves_the_usual_search(
    make_case: Any, make_mlp: Any, always_cells: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def full(self: SplitThenRebound, *_: Any) -> Any:
        tried.append(self)
        raise MemoryError

    monkeypatch.setattr(SplitThenRebound, "_bound", full)
    case = make_case(make_mlp(1), 8, 1, NUDGES)
    check_against_oracle(case, decide(case))
    assert tried
