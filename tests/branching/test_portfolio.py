"""Whose turn it is: by counted work alone, so that a busy machine goes the way of an idle one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.branching.searching import QUICK, Instances, root_bounds, ticking
from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search import portfolio
from verify_pipeline.branching.search.portfolio import _Turns, search_in_turns
from verify_pipeline.branching.search.relu_split import Search
from verify_pipeline.branching.search.split_then_rebound import (
    SplitThenRebound,
    are_promising,
    cost_of_cell,
)
from verify_pipeline.branching.tree.search_instances import SearchInstances as Exact
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Linear, Relu
from verify_pipeline.problem import Box, Reason, Specification, Status


def decide(instances: Any, seconds: float, clock: Callable[[], float]) -> list[Found]:
    found = search_in_turns(
        instances.graph,
        instances.box,
        instances.spec,
        root_bounds(instances.graph, instances.box),
        QUICK,
        Deadlines.alone(torch.full((len(instances.box),), seconds)),
        clock=clock,
    )
    return sorted(found, key=lambda one: one.instance)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What every turn asked for; turns are short."""
    monkeypatch.setattr(portfolio, "FIRST", 32)
    monkeypatch.setattr(portfolio, "LATE", 1)
    asked: list[tuple[str, int]] = []
    honest_run, honest_cut = Search.run, SplitThenRebound.cut

    def run(self: Search, allowed: Any = None, *more: Any) -> Any:
        asked.append(("usual", int(allowed.nan_to_num(posinf=-1).sum())))
        yield from honest_run(self, allowed, *more)

    def cut(self: SplitThenRebound, count: int, until: float) -> Any:
        asked.append(("cells", count))
        return honest_cut(self, count, until)

    monkeypatch.setattr(Search, "run", run)
    monkeypatch.setattr(SplitThenRebound, "cut", cut)
    return asked


def test_a_busy_machine_takes_the_same_turns(turns: list[tuple[str, int]]) -> None:
    seen, ends = [], []
    for step in (1e-7, 1e-4):
        turns.clear()
        found = decide(Instances(6, [1e-3, 2e-3, -1e-6]), 1e6, ticking(step))
        seen.append(list(turns))
        ends.append([(one.status, one.bound, one.domains) for one in found])
    assert any(name == "cells" for name, _ in seen[0])
    assert seen[0] == seen[1]
    assert ends[0] == ends[1]


def test_time_ends_what_work_does_not(turns: list[tuple[str, int]]) -> None:
    (found,) = decide(Instances(12, [1e-6]), 5.0, ticking(0.05))
    assert (found.status, found.reason) == (Status.UNKNOWN, Reason.TIMEOUT)
    assert 5.0 <= found.seconds <= 7.5
    assert any(name == "cells" for name, _ in turns)
    assert turns[-1][0] in ("usual", "cells")


def test_cells_that_decide_nothing_leave_the_usual_search_its_share(
    turns: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells cost what they are asked for and bound nothing; the usual search goes on."""

    def idle(self: SplitThenRebound, count: int, until: float) -> None:
        self.bounded += count
        self._begun()

    monkeypatch.setattr(SplitThenRebound, "cut", idle)
    found = decide(Instances(6, [1e-3, 100.0]), 1e6, ticking(1e-6))
    assert [one.status for one in found] == [Status.VERIFIED, Status.VERIFIED]


def test_a_usual_search_without_progress_leaves_cells_theirs(
    turns: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual search counts domains and closes none; cells decide all the same."""

    def idle(self: Search, allowed: Any = None, *more: Any) -> Any:
        self.accounts.work = torch.where(allowed.isfinite(), allowed, 1e9)
        yield from self.ends()

    monkeypatch.setattr(Search, "run", idle)
    monkeypatch.setattr(Search, "open_share", lambda self: torch.ones(1, dtype=torch.float64))
    (found,) = decide(Instances(3, [1e-3]), 1e6, ticking(1e-6))
    assert found.status is Status.VERIFIED


def turns_of(share: float = 0.75) -> _Turns:
    return _Turns(SplitThenRebound.__new__(SplitThenRebound), cost=10.0, share=share)


def test_one_that_ends_soon_keeps_its_turn() -> None:
    turn = turns_of()
    turn.usual.note(100.0, 0.5)  # as much again is expected
    assert turn.usual.ends_soon
    assert not turn.is_for_cells
    turn.usual.note(400.0, 0.499)
    assert not turn.usual.ends_soon
    assert turn.is_for_cells
    turn.in_cells.note(1201.0, 0.9)
    assert not turn.is_for_cells  # they had three quarters
    turn.in_cells.note(2600.0, 0.2)
    assert turn.in_cells.ends_soon
    assert turn.is_for_cells
    turn.are_over = True
    assert not turn.is_for_cells
    assert turn.of_usual == math.inf


def test_a_broken_promise_is_not_believed_again() -> None:
    """The open share halves with every doubling: always as much again is expected."""
    turn = turns_of()
    turn.usual.note(100.0, 0.5)
    assert turn.usual.expected == pytest.approx(100.0)
    turn.usual.note(199.0, 0.25)
    assert turn.usual.ends_soon
    turn.usual.note(201.0, 0.1)
    assert turn.usual.expected < 201.0
    assert not turn.usual.ends_soon
    assert turn.is_for_cells


def test_turns_bring_each_search_to_its_share() -> None:
    turn = turns_of()
    assert (turn.of_cells, turn.of_usual) == (10.0, 10.0)  # a cell at least
    turn.usual.note(100.0, 1.0)
    turn.in_cells.note(300.0, 1.0)
    later = (1 + portfolio.GROWTH) * 400.0
    assert turn.of_cells == 0.75 * later - 300.0
    assert turn.of_usual == 0.25 * later - 100.0


def three_layers(unstable: tuple[int, int, int], size: int = 200) -> Exact:
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
    return Exact(builder.build(), box, spec, bounds)


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
    assert are_promising(three_layers(unstable)).tolist() == [promising]


def test_a_cell_costs_what_its_bounds_do() -> None:
    instance = three_layers((30, 60, 150))
    expected = 240 * 0.1 * 6 / (QUICK.domain.iterations + 1)  # half of both bounds
    assert cost_of_cell(instance, QUICK).tolist() == pytest.approx([expected])
    assert not math.isnan(expected)
