"""Whose turn it is: by counted work alone, so that a busy machine goes the way of an idle one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.branching.searching import QUICK, Instances, by_graph, in_order, query_of, ticking
from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.config.search_settings import EarlySplitSettings, SearchSettings
from verify_pipeline.branching.search.cell_search import CellSearch
from verify_pipeline.branching.search.early_split import are_promising
from verify_pipeline.branching.search.loop import Search
from verify_pipeline.branching.search.portfolio import Turns, _Portfolio, search_in_turns
from verify_pipeline.branching.search.relu_split import ReluSplits
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Linear, Relu
from verify_pipeline.problem import Box, Counterexample, Decision, Reason, Specification, Status

EARLY = EarlySplitSettings()
SHORT = replace(QUICK, early=EarlySplitSettings(first=32, late=1))
"""Turns are short."""


def decide(
    instances: Any, seconds: float, clock: Callable[[], float], settings: SearchSettings = SHORT
) -> list[Decision]:
    query = query_of(instances, seconds)
    replay = by_graph(query.spec, query.graph)
    return in_order(search_in_turns(query, settings, replay, clock), len(query))


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What every turn asked for."""
    asked: list[tuple[str, int]] = []
    honest_run, honest_cut = Search.run, CellSearch.cut

    def run(self: Search[Any], allowed: Any = None, until: float = math.inf) -> Any:
        if isinstance(self._kind, ReluSplits) and until == math.inf:  # not inside of cells
            total = -1 if allowed is None else int(allowed.nan_to_num(posinf=-1).sum())
            asked.append(("splits", total))
        yield from honest_run(self, allowed, until)

    def cut(self: CellSearch, count: int, until: float) -> Any:
        asked.append(("cells", count))
        return honest_cut(self, count, until)

    monkeypatch.setattr(Search, "run", run)
    monkeypatch.setattr(CellSearch, "cut", cut)
    return asked


def test_a_busy_machine_takes_the_same_turns(turns: list[tuple[str, int]]) -> None:
    seen, ends = [], []
    for step in (1e-7, 1e-4):
        turns.clear()
        found = decide(Instances(6, [1e-3, 2e-3, -1e-6]), 1e6, ticking(step))
        seen.append(list(turns))
        ends.append([(one.status, one.bound, one.subproblems) for one in found])
    assert any(name == "cells" for name, _ in seen[0])
    assert seen[0] == seen[1]
    assert ends[0] == ends[1]


def test_time_ends_what_work_does_not(turns: list[tuple[str, int]]) -> None:
    (found,) = decide(Instances(12, [1e-6]), 5.0, ticking(0.05))
    assert (found.status, found.reason) == (Status.UNKNOWN, Reason.TIMEOUT)
    assert found.seconds is not None
    assert 5.0 <= found.seconds <= 7.5
    assert any(name == "cells" for name, _ in turns)


def test_without_early_splits_there_are_no_cells(turns: list[tuple[str, int]]) -> None:
    instances = Instances(6, [1e-3])
    (found,) = decide(instances, 1e6, ticking(1e-7), replace(SHORT, early=None))
    assert found.status is Status.VERIFIED
    assert not any(name == "cells" for name, _ in turns)


def test_cells_that_decide_nothing_leave_splits_of_relus_their_share(
    turns: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells cost what they are asked for and bound nothing; splits of ReLUs go on."""
    idled = []

    def idle(self: CellSearch, count: int, until: float) -> None:
        idled.append(count)
        self._cutting.books.bounded += count

    monkeypatch.setattr(CellSearch, "cut", idle)
    found = decide(Instances(6, [1e-3, 100.0]), 1e6, ticking(1e-6))
    assert [one.status for one in found] == [Status.VERIFIED, Status.VERIFIED]
    assert idled


@pytest.fixture
def idle_splits(monkeypatch: pytest.MonkeyPatch) -> list[Search[Any]]:
    """The usual searches, which count domains and bound none: only cells decide."""
    honest_portfolio, usual = _Portfolio.run, []
    honest_run = Search.run

    def noted(self: _Portfolio) -> Any:
        usual.append(self._usual)
        yield from honest_portfolio(self)

    def run(self: Search[Any], allowed: Any = None, until: float = math.inf) -> Any:
        if self not in usual:
            yield from honest_run(self, allowed, until)
            return
        self.books.work = torch.where(allowed.isfinite(), allowed, 1e9)
        yield from self.ends()

    monkeypatch.setattr(_Portfolio, "run", noted)
    monkeypatch.setattr(Search, "run", run)
    return usual


def test_splits_of_relus_without_progress_leave_cells_theirs(
    idle_splits: list[Search[Any]],
) -> None:
    """The usual search counts domains and closes none; cells decide all the same."""
    (found,) = decide(Instances(3, [1e-3]), 1e6, ticking(1e-6))
    assert found.status is Status.VERIFIED
    assert idle_splits[0].open_share.tolist() == [1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cells_give_points_of_the_files_type(
    dtype: torch.dtype, idle_splits: list[Search[Any]]
) -> None:
    """A file that takes float64 is given the points themselves, not their roundings."""
    query = replace(query_of(Instances(3, [-1e-3])), input_dtype=dtype)
    honest, given = by_graph(query.spec, query.graph), []

    def replay(n: int, point: torch.Tensor) -> Counterexample | None:
        given.append(point.dtype)
        return honest(n, point)

    (found,) = search_in_turns(query, SHORT, replay, ticking(1e-6))
    assert found.status is Status.FALSIFIED
    assert set(given) == {dtype}
    assert len(idle_splits) == 1


def test_the_end_in_cells_is_that_of_the_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another search decided comes under the instance's place, with all that it took."""
    honest, ended = CellSearch.cut, []

    def cut(self: CellSearch, count: int, until: float) -> Decision | None:
        found = honest(self, count, until)
        ended.append(found)
        return found

    monkeypatch.setattr(CellSearch, "cut", cut)
    early = EarlySplitSettings(first=1, first_parts=1, late=1, better=0.01, growth=100.0)
    found = decide(Instances(3, [100.0, 0.5]), 1e6, ticking(1e-6), replace(QUICK, early=early))
    assert [one.status for one in found] == [Status.VERIFIED, Status.VERIFIED]
    (decided,) = [one for one in ended if one is not None]
    assert decided.bound == found[1].bound
    assert found[1].subproblems >= decided.subproblems > 0


def test_the_bound_of_a_cell_is_not_the_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A counterexample in a cell whose own bound is nearly zero: the box may hold worse ones."""
    point = Counterexample(torch.zeros(3), torch.zeros(1), 0.0)
    ended = Decision(0, Status.FALSIFIED, -1e-9, point)
    monkeypatch.setattr(CellSearch, "cut", lambda *_: ended)
    early = EarlySplitSettings(first=1, first_parts=1, late=1, better=0.01, growth=100.0)
    (found,) = decide(Instances(3, [1e-3]), 1e6, ticking(1e-6), replace(QUICK, early=early))
    assert (found.status, found.counterexample) == (Status.FALSIFIED, point)
    assert found.bound is not None
    assert found.bound < -1.0


def turns_of(share: float = 0.75) -> Turns:
    return Turns(CellSearch.__new__(CellSearch), EARLY, cost=10.0, share=share)


def test_one_that_ends_soon_keeps_its_turn() -> None:
    turn = turns_of()
    turn.splits.note(100.0, 0.5)  # as much again is expected
    assert turn.splits.ends_soon
    assert not turn.is_for_cells
    turn.splits.note(400.0, 0.499)
    assert not turn.splits.ends_soon
    assert turn.is_for_cells
    turn.in_cells.note(1201.0, 0.9)
    assert not turn.is_for_cells  # they had three quarters
    turn.in_cells.note(2600.0, 0.2)
    assert turn.in_cells.ends_soon
    assert turn.is_for_cells
    turn.are_over = True
    assert not turn.is_for_cells
    assert turn.of_splits == math.inf


def test_a_broken_promise_is_not_believed_again() -> None:
    """The open share halves with every doubling: always as much again is expected."""
    turn = turns_of()
    turn.splits.note(100.0, 0.5)
    assert turn.splits.expected == pytest.approx(100.0)
    turn.splits.note(199.0, 0.25)
    assert turn.splits.ends_soon
    turn.splits.note(201.0, 0.1)
    assert turn.splits.expected < 201.0
    assert not turn.splits.ends_soon
    assert turn.is_for_cells


def test_turns_bring_each_search_to_its_share() -> None:
    turn = turns_of()
    assert (turn.of_cells, turn.of_splits) == (10.0, 10.0)  # a cell at least
    turn.splits.note(100.0, 1.0)
    turn.in_cells.note(300.0, 1.0)
    later = (1 + EARLY.growth) * 400.0
    assert turn.of_cells == 0.75 * later - 300.0
    assert turn.of_splits == 0.25 * later - 100.0


def three_layers(unstable: tuple[int, int, int], size: int = 200) -> SearchInstances:
    """An instance of whose neurons so many are unstable, layer by layer."""
    builder, place = GraphBuilder((size,)), 0
    bounds = NodeBounds({}, {})
    for count in unstable:
        source = builder.add(Linear(torch.eye(size)), place)
        place = builder.add(Relu(), source)
        lower = torch.full((1, size), 0.5, dtype=torch.float64)
        lower[:, :count] = -1.0
        bounds.lower[source], bounds.upper[source] = lower, torch.ones_like(lower)
    builder.add(Linear(torch.ones(1, size)), place)
    box = Box(torch.zeros(1, size), torch.ones(1, size))
    spec = Specification(torch.ones(1, 1, 1), torch.zeros(1, 1))
    return SearchInstances(builder.build(), box, spec, bounds).to(torch.float64)


@pytest.mark.parametrize(
    ("unstable", "promising"),
    [
        ((30, 60, 150), True),
        ((0, 30, 60), True),  # the first layer that has any
        ((65, 150, 150), False),  # too many to settle
        ((30, 10, 10), False),  # little behind them
        ((0, 0, 0), False),
    ],
)
def test_cells_look_better_where_few_neurons_decide_many(
    unstable: tuple[int, int, int], promising: bool
) -> None:
    assert are_promising(three_layers(unstable), EARLY).tolist() == [promising]


def test_a_cell_costs_what_its_bounds_do() -> None:
    exact = three_layers((30, 60, 150))
    query = replace(query_of(exact), root=exact.bounds)
    usual = Search.__new__(Search)
    made = _Portfolio(query, usual, QUICK, EARLY, lambda *_: None, ticking(1.0))
    expected = 240 * 0.1 * 6 / (QUICK.domain.iterations + 1)  # half of both bounds
    assert made._cost.tolist() == pytest.approx([expected])
    # it looks better, so its turn is not late; four cells are less than 256 domains
    assert made._allowed.tolist() == [256.0]
