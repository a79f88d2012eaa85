"""One battery over all kinds of splits: decisions are the oracle's, whatever is split."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.grids import Problem, grid, random_image, robust
from tests.branching.milp import milp_margin
from tests.branching.searching import QUICK, by_graph, in_order, query_of
from verify_pipeline.bounds import MemoryBudget, needed_places
from verify_pipeline.branching.config.search_settings import EarlySplitSettings
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.search.early_split import EarlySplits
from verify_pipeline.branching.search.input_split import InputSplits
from verify_pipeline.branching.search.interval_split import IntervalSplits
from verify_pipeline.branching.search.loop import Search, SearchLimits, SplitKind, Step
from verify_pipeline.branching.search.portfolio import search_in_turns
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.search.relu_split import ReluSplits
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Decision, Reason, Specification, Status

F64 = torch.float64
MOST = 400
NEVER_VERIFIED = (-1.0, -0.05, -1e-3, -1e-5)
WANTED = (*NEVER_VERIFIED, 1e-3, 0.05, 1.0, 50.0)


def relus(query: SearchQuery) -> SplitKind[Any]:
    return ReluSplits(query.instances(query.sufficient), QUICK, None)


def intervals(query: SearchQuery) -> SplitKind[Any]:
    return IntervalSplits(query, QUICK)


def inputs(query: SearchQuery) -> SplitKind[Any]:
    return InputSplits(query, QUICK, 32, MemoryBudget())


def cells(query: SearchQuery) -> SplitKind[Any]:
    return EarlySplits(query.instances(query.sufficient), EarlySplitSettings(), MemoryBudget())


KINDS = (relus, intervals, inputs, cells)
COMPLETE = (relus, inputs)
"""Those that decide what is not too close; intervals tell nothing of the input, cells stay open."""

each_kind = pytest.mark.parametrize("make", KINDS)


@dataclass(frozen=True, eq=False)
class Case:
    """Instances with their exact least margins."""

    problem: Problem
    exact: Tensor


@pytest.fixture(scope="module")
def case(make_mlp: Callable[..., Graph]) -> Case:
    """ReLUs of two inputs; margins on both sides of zero, some very close to it, by a MILP."""
    one = robust(make_mlp(3, 2, (6, 6)).to(F64), random_image(3), 0.4)
    exact = milp_margin(one.graph, one.box, one.spec, 0).value.min()
    same = torch.zeros(len(WANTED), dtype=torch.long)
    wanted = torch.tensor(WANTED, dtype=F64)
    offsets = one.spec.offsets[same] + (wanted - exact).unsqueeze(1)
    moved = Specification(one.spec.rows[same], offsets)
    return Case(Problem(one.graph, one.box[same], moved), wanted)


def search_of(make: Callable[[SearchQuery], SplitKind[Any]], problem: Problem) -> Search[Any]:
    query = query_of(problem)
    replay = by_graph(query.spec, query.graph)
    limits = SearchLimits(subproblems=MOST)
    return Search(make(query), limits, query.deadlines, replay, time.perf_counter)


def check(problem: Problem, exact: Tensor, found: list[Decision]) -> None:
    """Evidence of every decision."""
    for one in found:
        least = float(exact[one.place])
        assert one.bound is None or one.bound <= least + 1e-6
        if one.status is Status.VERIFIED:
            assert one.bound is not None
            assert one.bound > 0
            assert least > 0
        elif one.status is Status.FALSIFIED:
            assert one.counterexample is not None
            point = one.counterexample.input.double().unsqueeze(0)
            assert bool(problem.box[one.place : one.place + 1].contains(point).all())
            spec = problem.spec[one.place : one.place + 1]
            assert float(spec.values(problem.graph(point)).min()) <= 0
        else:
            assert one.reason is not None
            assert one.counterexample is None


@each_kind
def test_decisions_are_the_oracles(make: Any, case: Case) -> None:
    search = search_of(make, case.problem)
    found = list(search.run())
    check(case.problem, case.exact, found)
    statuses = {one.place: one.status for one in found}
    for n, wanted in enumerate(WANTED):
        if make in COMPLETE and abs(wanted) >= 1e-3:
            assert statuses[n] is (Status.VERIFIED if wanted > 0 else Status.FALSIFIED)
    assert statuses[len(WANTED) - 1] is Status.VERIFIED
    # of what is undecided, something is open, or was left without a proof
    share = search.open_share
    for n in range(len(WANTED)):
        if n not in statuses:
            assert make is cells
            assert share[n] > 0


@each_kind
def test_pauses_change_no_decision(make: Any, case: Case) -> None:
    def ends(found: list[Decision]) -> list[Any]:
        ended = [(one.place, one.status) for one in found if one.status is not Status.UNKNOWN]
        return sorted(ended, key=lambda one: one[0])

    whole = ends(list(search_of(make, case.problem).run()))
    paused, found = search_of(make, case.problem), []
    for _ in range(60):
        found += list(paused.run(paused.books.work + 3))
    found += list(paused.run())
    check(case.problem, case.exact, found)
    assert len({one.place for one in found}) == len(found)
    assert ends(found) == whole


def of_points(step: Step[Any], make: Any, problem: Problem, points: Tensor) -> Tensor:
    """Which points lie in which parts of the first instance, ``D x P`` booleans."""
    parts, values = step.parts, problem.graph.values(points)
    inside = torch.ones(len(parts), len(points), dtype=torch.bool)
    if make is inputs:
        low, high = parts.low.unsqueeze(1), parts.high.unsqueeze(1)
        return ((points >= low) & (points <= high)).all(2)
    if make is intervals:
        for place, low in parts.bounds.lower.items():
            value, high = values[place], parts.bounds.upper[place]
            for d in range(len(parts)):
                within = (value >= low[d]) & (value <= high[d])
                inside[d] &= within.flatten(1).all(1)
        return inside
    raise NotImplementedError(make)


@pytest.mark.parametrize("make", [intervals, inputs])
def test_bounds_hold_in_the_parts_and_parts_cover_the_whole(make: Any, case: Case) -> None:
    """Three generations of the instance whose margin is -1, with a fine grid of points."""
    problem = Problem(case.problem.graph, case.problem.box[:1], case.problem.spec[:1])
    search, kind = search_of(make, problem), make(query_of(problem))
    meter = Meter(search.books, 64, time.perf_counter)
    points = grid(problem.box)
    margins = problem.spec.values(problem.graph(points)).amin(1)
    step = kind.bound(kind.roots().subproblems, meter)
    for _ in range(3):
        inside = of_points(step, make, problem, points)
        assert bool(inside.any(0).all())
        assert float(step.parts.share.sum()) == pytest.approx(1.0)
        for d in range(len(inside)):
            if bool(inside[d].any()):
                assert float(margins[inside[d]].min()) >= float(step.proved[d])
        if bool(step.leaves.any()):
            break
        step = kind.split(step.parts, meter)


@each_kind
def test_parts_are_two_of_each_parent(make: Any, case: Case) -> None:
    query = query_of(case.problem)
    kind, search = make(query), search_of(make, case.problem)
    meter = Meter(search.books, 64, time.perf_counter)
    roots = kind.roots().subproblems
    step = kind.bound(roots, meter)
    assert step.parts.instance.equal(roots.instance)
    assert step.parts.share.equal(roots.share)
    open_ = ~(step.proved > 0) & ~step.leaves & step.parts.can_be_split
    parents = step.parts[open_]
    assert len(parents) >= len(NEVER_VERIFIED)
    parts = kind.split(parents, meter).parts
    count = len(case.exact)
    twice = 2 * torch.bincount(parents.instance, minlength=count)
    assert torch.bincount(parts.instance, minlength=count).equal(twice)
    shares = torch.zeros(count, dtype=F64)
    shares.index_add_(0, parts.instance, parts.share)
    shares.index_add_(0, parents.instance, -parents.share)
    assert shares.abs().max() < 1e-12


@each_kind
def test_points_that_do_not_replay_prove_and_refute_nothing(make: Any, case: Case) -> None:
    query = query_of(case.problem)
    limits = SearchLimits(subproblems=MOST)
    search = Search(make(query), limits, query.deadlines, lambda *_: None, time.perf_counter)
    found = {one.place: one for one in search.run()}
    for n in range(len(NEVER_VERIFIED)):
        if n in found:
            assert found[n].status is Status.UNKNOWN
            assert found[n].counterexample is None
    assert not any(one.status is Status.FALSIFIED for one in found.values())
    if make is inputs:  # other parts of the box may hold another point
        assert found[0].reason is Reason.BUDGET
    elif make is not cells:
        assert found[0].reason is Reason.NOT_REPLAYED


@each_kind
def test_memory_that_ends_now_and_then_changes_no_decision(
    make: Any, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {one.place: one.status for one in search_of(make, case.problem).run()}
    search = search_of(make, case.problem)
    for name in ("bound", "split"):
        honest = getattr(search._kind, name)

        def tight(batch: Any, meter: Meter, honest: Any = honest) -> Any:
            if len(batch) > 3:
                raise MemoryError
            return honest(batch, meter)

        monkeypatch.setattr(search._kind, name, tight)
    found = list(search.run())
    check(case.problem, case.exact, found)
    for one in found:
        if one.status is not Status.UNKNOWN and whole[one.place] is not Status.UNKNOWN:
            assert one.status is whole[one.place]
    assert {one.place for one in found} == set(whole)


@each_kind
def test_nothing_to_search_is_nothing_found(make: Any, case: Case) -> None:
    nobody = torch.zeros(0, dtype=torch.long)
    problem = Problem(case.problem.graph, case.problem.box[nobody], case.problem.spec[nobody])
    assert list(search_of(make, problem).run()) == []


@pytest.mark.parametrize("make", [relus, intervals, cells])
def test_bounds_of_neurons_that_are_not_finite_prove_nothing(make: Any, case: Case) -> None:
    query = query_of(case.problem)
    place = max(needed_places(query.graph))
    query.root.upper[place] = query.root.upper[place].clone()
    query.root.upper[place][-1] = torch.inf
    replay = by_graph(query.spec, query.graph)
    search = Search(make(query), SearchLimits(MOST), query.deadlines, replay, time.perf_counter)
    found = {one.place: one for one in search.run()}
    last = found[len(WANTED) - 1]
    assert (last.status, last.reason) == (Status.UNKNOWN, Reason.NOT_FINITE)


@pytest.mark.parametrize("seed", range(4))
def test_cells_and_splits_of_relus_together_decide_all(
    seed: int, make_case: Any, make_mlp: Any
) -> None:
    solved = make_case(make_mlp(seed, 3, (6, 6)), 8, seed, (1.0, 0.05, -0.05, -1.0))
    early = EarlySplitSettings(first=1, first_parts=1, late=1, better=0.5)
    query = query_of(solved)
    replay, settings = by_graph(query.spec, query.graph), replace(QUICK, early=early)
    found = in_order(search_in_turns(query, settings, replay, time.perf_counter), 8)
    check(Problem(query.graph, query.box, query.spec), solved.exact, found)
    for one in found:
        verified = float(solved.exact[one.place]) > 0
        assert one.status is (Status.VERIFIED if verified else Status.FALSIFIED)


def test_kinds_agree_on_images(make_mlp: Any) -> None:
    """Robustness of a few boxes: nobody's VERIFIED is another one's FALSIFIED."""
    graph = make_mlp(5, 2, (8, 8)).to(F64)
    decisive = 0
    for seed in range(3):
        problem = robust(graph, random_image(seed), 0.3).with_least(0.02, -0.02)
        for make in KINDS:
            for one in search_of(make, problem).run():
                right = (Status.VERIFIED, Status.FALSIFIED)[one.place]
                assert one.status in (right, Status.UNKNOWN)
                decisive += one.status is right
    assert decisive >= 12
