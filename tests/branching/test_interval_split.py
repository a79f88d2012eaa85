"""Cut intervals of smooth activations: right where a fine grid knows the answer, and in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.grids import FINE, Problem, grid, least_on_grid, random_image, robust
from tests.branching.searching import by_graph, in_order, query_of, root_bounds, ticking
from verify_pipeline.bounds import Multipliers, OptimiseSettings, crown_margins, optimise
from verify_pipeline.bounds.intermediate import tighten as intermediate_module
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.search.interval_split import (
    IntervalSplits,
    Pieces,
    can_be_cut,
    has_smooth_neurons,
)
from verify_pipeline.branching.search.loop import Search, SearchLimits, Step
from verify_pipeline.branching.search.ways import split_intervals
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Elementwise, Linear, Mul, Op, Relu, Sub
from verify_pipeline.problem import Box, Decision, Reason, Specification, Status

F64 = torch.float64
QUICK = SearchSettings(max_domains=60)


def network(seed: int, act: Op, depth: int = 2) -> Graph:
    """Two inputs, three outputs."""
    generator = torch.Generator().manual_seed(seed)
    builder = GraphBuilder((2,))
    place, width = 0, 2
    for layer in range(depth + 1):
        size = 5 if layer < depth else 3
        weight = torch.randn(size, width, generator=generator) * (2 / width) ** 0.5
        place = builder.add(Linear(weight, 0.5 * torch.randn(size, generator=generator)), place)
        place = builder.add(act, place) if layer < depth else place
        width = size
    return builder.build().to(F64)


def deep(depth: int = 3) -> Problem:
    """One whose interval bounds are far from its minimum."""
    return robust(network(1, Elementwise("tanh"), depth), torch.full((1, 2), 0.5, dtype=F64), 1.0)


def run(
    problem: Problem,
    settings: SearchSettings = QUICK,
    seconds: float | Tensor = 1e6,
    clock: Callable[[], float] = time.perf_counter,
    start: Multipliers | None = None,
) -> list[Decision]:
    query = query_of(problem, seconds, start)
    found = split_intervals(query, settings, by_graph(query.spec, query.graph), clock)
    return in_order(found, len(problem.box))


def worst_root(problem: Problem) -> float:
    """The least row's CROWN bound."""
    bounds = root_bounds(problem.graph, problem.box)
    return float(crown_margins(problem.graph, problem.box, problem.spec, bounds).lower.min())


def breaks(problem: Problem, found: Decision) -> bool:
    assert found.counterexample is not None
    output = problem.graph(found.counterexample.input.double().unsqueeze(0))
    return float(problem.spec.values(output).min()) <= 0


@pytest.mark.parametrize("function", ["tanh", "sigmoid", "gelu", "silu", "hardswish"])
def test_verdicts_are_those_of_a_fine_grid(function: str) -> None:
    searched = 0
    for seed in range(3):
        problem = robust(network(seed, Elementwise(function)), random_image(seed), 0.4)
        gap = least_on_grid(problem) - worst_root(problem)
        for wanted in (0.9 * gap + 1e-3, 0.01, -0.05):
            moved = problem.with_least(wanted)
            (end,) = run(moved)
            if end.status is Status.VERIFIED:
                assert end.bound is not None
                assert 0 < end.bound <= wanted
                searched += end.subproblems > 1
            elif end.status is Status.FALSIFIED:
                assert breaks(moved, end)
                assert wanted < 0
            assert wanted > 0 or end.status is Status.FALSIFIED
    assert searched >= 1


@pytest.mark.parametrize("function", ["tanh", "sigmoid"])
def test_tangents_of_the_root_serve_all_pieces(function: str) -> None:
    """Verdicts are those of the grid, with as many pieces as without them or fewer."""
    pieces = []
    for seed in range(3):
        problem = robust(network(seed, Elementwise(function)), random_image(seed), 0.4)
        gap = least_on_grid(problem) - worst_root(problem)
        for wanted in (0.9 * gap + 1e-3, -0.05):
            moved = problem.with_least(wanted)
            bounds = root_bounds(moved.graph, moved.box)
            few = OptimiseSettings(iterations=20)
            _, start = optimise(moved.graph, moved.box, moved.spec, bounds, few)
            (end,) = run(moved, start=start)
            if end.status is Status.VERIFIED:
                assert end.bound is not None
                assert 0 < end.bound <= wanted
            assert wanted > 0 or end.status is Status.FALSIFIED
            (plain,) = run(moved)
            if plain.status is end.status is Status.VERIFIED:
                pieces.append((end.subproblems, plain.subproblems))
    assert sum(end for end, _ in pieces) < sum(plain for _, plain in pieces)


def test_pieces_cover_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point of a piece, whatever it makes of the neurons, lies in one of its parts."""
    problem = robust(network(3, Elementwise("tanh")), torch.zeros(1, 2, dtype=F64), 0.6)
    values = problem.graph.values(grid(problem.box))
    honest, cuts = IntervalSplits._cut, []

    def inside(piece: Pieces, n: int) -> Tensor:
        within = torch.ones(FINE**2, dtype=torch.bool)
        for place, low in piece.bounds.lower.items():
            value, high = values[place], piece.bounds.upper[place]
            within &= ((value >= low[n]) & (value <= high[n])).flatten(1).all(1)
        return within

    def watched(self: IntervalSplits, parents: Pieces, *more: Any) -> Any:
        children, corners = honest(self, parents, *more)
        for n in range(len(parents)):
            either = inside(children, n) | inside(children, n + len(parents))
            assert bool((either | ~inside(parents, n)).all())
            cuts.append(int(inside(parents, n).sum()))
        return children, corners

    monkeypatch.setattr(IntervalSplits, "_cut", watched)
    run(problem.with_least(0.01))
    assert len(cuts) > 3
    assert sum(cuts) > FINE**2


def test_activations_of_the_input_itself_are_cut() -> None:
    """``2 sigmoid(x) - tanh(x)``: its least value over [-2, 2] is 0.6997."""
    builder = GraphBuilder((1,))
    gate = builder.add(Linear(torch.tensor([[2.0]])), builder.add(Elementwise("sigmoid"), 0))
    graph = builder.build(builder.add(Sub(), gate, builder.add(Elementwise("tanh"), 0))).to(F64)
    box = Box(torch.tensor([[-2.0]], dtype=F64), torch.tensor([[2.0]], dtype=F64))
    row = torch.ones(1, 1, 1, dtype=F64)
    offsets = [torch.full((1, 1), offset, dtype=F64) for offset in (-0.65, -0.71)]
    (end,) = run(Problem(graph, box, Specification(row, offsets[0])))
    assert end.status is Status.VERIFIED
    assert end.bound is not None
    assert end.bound < 0.0498
    assert end.subproblems > 2
    (end,) = run(Problem(graph, box, Specification(row, offsets[1])))
    assert end.status is Status.FALSIFIED


def test_a_tie_is_not_verified() -> None:
    builder = GraphBuilder((1,))
    h = builder.add(Elementwise("tanh"), builder.add(Linear(torch.tensor([[1.0], [1.0]])), 0))
    graph = builder.build(builder.add(Linear(torch.tensor([[1.0, -1.0]])), h)).to(F64)
    box = Box(torch.tensor([[-1.0]], dtype=F64), torch.tensor([[1.0]], dtype=F64))
    spec = Specification(torch.ones(1, 1, 1, dtype=F64), torch.zeros(1, 1, dtype=F64))
    (end,) = run(Problem(graph, box, spec))
    assert end.status is not Status.VERIFIED


def test_pieces_that_cannot_be_cut_prove_nothing() -> None:
    """The margin is above zero, but a cut tells nothing of the input: the pieces run out."""
    builder = GraphBuilder((1,))
    h = builder.add(Elementwise("tanh"), builder.add(Linear(torch.tensor([[1.0], [1.0]])), 0))
    graph = builder.build(builder.add(Linear(torch.tensor([[1.0, -1.0]])), h)).to(F64)
    box = Box(torch.tensor([[-1e-6]], dtype=F64), torch.tensor([[1e-6]], dtype=F64))
    spec = Specification(torch.ones(1, 1, 1, dtype=F64), torch.full((1, 1), 1e-18, dtype=F64))
    (end,) = run(Problem(graph, box, spec), replace(QUICK, max_domains=None))
    assert (end.status, end.reason) == (Status.UNKNOWN, Reason.EXHAUSTED)
    assert end.bound is not None
    assert end.bound <= 1e-18


def test_each_instance_has_its_own_deadline() -> None:
    problem = deep().with_least(1e-7, 100.0, 1e-7)
    hard, easy, longer = run(
        problem,
        replace(QUICK, max_domains=None),
        torch.tensor([2.0, 2.0, 4.0]),
        ticking(0.0625),
    )
    assert (hard.status, hard.reason) == (Status.UNKNOWN, Reason.TIMEOUT)
    assert hard.seconds is not None
    assert 2.0 <= hard.seconds <= 2.5
    assert easy.status is Status.VERIFIED
    assert longer.reason is Reason.TIMEOUT
    assert longer.seconds is not None
    assert 4.0 <= longer.seconds <= 5.0


@pytest.mark.parametrize(("give_up", "reason"), [(1e-9, Reason.GIVEN_UP), (None, Reason.TIMEOUT)])
def test_a_search_without_hope_is_given_up(give_up: float | None, reason: Reason) -> None:
    hard, easy = run(
        deep().with_least(1e-7, 100.0),
        replace(QUICK, max_domains=None, give_up=give_up),
        10.0,
        ticking(0.0625),
    )
    assert (hard.status, hard.reason) == (Status.UNKNOWN, reason)
    if reason is Reason.GIVEN_UP:
        assert hard.seconds is not None
        assert 1.5 <= hard.seconds <= 2.0  # 15 % of its time
    assert easy.status is Status.VERIFIED


def test_shares_of_pieces_are_of_the_box() -> None:
    """Each cut halves a share, so open and closed pieces are the whole box at any time."""
    problem = robust(network(3, Elementwise("tanh")), torch.zeros(1, 2, dtype=F64), 0.6)
    query = query_of(problem.with_least(0.01))
    closed, seen = [0.0], []

    class Watched(IntervalSplits):
        def _step(self, pieces: Pieces, corners: Tensor) -> Step[Pieces]:
            closed[0] += float(pieces.share[pieces.lower > 0].sum())
            return super()._step(pieces, corners)

    kind = Watched(query, QUICK)
    replay = by_graph(query.spec, query.graph)
    searched = Search(kind, SearchLimits(60), query.deadlines, replay, time.perf_counter)
    while not bool(searched.books.ended.all()):
        seen.append(closed[0] + float(searched.open_share))
        list(searched.run(searched.books.work + 1))
    assert len(seen) > 3
    assert seen == [1.0] * len(seen)


def test_a_step_ends_where_the_time_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a layer take a second: what is left of six layers is not waited for."""
    problem = deep(6).with_least(1e-7)
    now, honest = [0.0], intermediate_module._Crown.solve

    def slow(*args: Any) -> Tensor:
        now[0] += 1.0
        return honest(*args)

    monkeypatch.setattr(intermediate_module._Crown, "solve", slow)
    query = query_of(problem, 1.5)
    now[0] = 0.0  # bounds of the root come before
    replay = by_graph(query.spec, query.graph)
    (end,) = split_intervals(query, replace(QUICK, descent=0), replay, lambda: now[0])
    assert (end.status, end.reason) == (Status.UNKNOWN, Reason.TIMEOUT)
    assert end.subproblems > 1
    assert end.seconds is not None
    assert end.seconds <= 2.5


@pytest.mark.parametrize(
    "limits", [{"max_domains": 8}, {"max_domains": None, "max_bytes": 2000}], ids=str
)
def test_budgets_are_kept(limits: dict[str, Any]) -> None:
    settings = replace(QUICK, batch=4, descent=0, **limits)
    (end,) = run(deep().with_least(1e-7), settings)
    assert (end.status, end.reason) == (Status.UNKNOWN, Reason.BUDGET)


def test_rows_that_are_not_finite_prove_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of NaN and infinity, wherever they come from."""
    problem = robust(network(0, Elementwise("tanh")), random_image(0), 0.01).with_least(100.0)
    query, honest = query_of(problem), IntervalSplits._bounded

    for value in (torch.nan, torch.inf):

        def broken(self: Any, pieces: Pieces, value: float = value) -> Any:
            found, corners = honest(self, pieces)
            rows = torch.full_like(found.rows, value)
            return replace(found, rows=rows, lower=rows.amin(1)), corners

        monkeypatch.setattr(IntervalSplits, "_bounded", broken)
        replay = by_graph(query.spec, query.graph)
        (end,) = split_intervals(query, replace(QUICK, descent=0), replay, ticking(1e-3))
        assert end.status is Status.UNKNOWN
        assert end.bound is None


def test_bounds_of_parts_are_no_worse_than_those_of_the_whole() -> None:
    query = query_of(deep().with_least(1e-7))
    kind = IntervalSplits(query, QUICK)
    replay = by_graph(query.spec, query.graph)
    books = Search(kind, SearchLimits(), query.deadlines, replay, time.perf_counter).books
    meter = Meter(books, 4, time.perf_counter)
    whole = kind.bound(kind.roots().subproblems, meter).parts
    parts = kind.split(whole, meter).parts
    assert parts.instance.tolist() == [0, 0]
    assert parts.share.tolist() == [0.5, 0.5]
    assert bool((parts.rows >= whole.rows).all())
    for place, low in whole.bounds.lower.items():
        assert bool((parts.bounds.lower[place] >= low).all())
        assert bool((parts.bounds.upper[place] <= whole.bounds.upper[place]).all())


def build(*ops: Callable[[GraphBuilder, int], int]) -> Graph:
    builder, place = GraphBuilder((2,)), 0
    for op in ops:
        place = op(builder, place)
    return builder.build(place)


def test_who_is_cut() -> None:
    def linear(b: GraphBuilder, x: int) -> int:
        return b.add(Linear(torch.eye(2)), x)

    def smooth(b: GraphBuilder, x: int) -> int:
        return b.add(Elementwise("tanh"), x)

    def relu(b: GraphBuilder, x: int) -> int:
        return b.add(Relu(), x)

    def product(b: GraphBuilder, x: int) -> int:
        return b.add(Mul(), x, x)

    assert can_be_cut(build(linear, smooth, linear))
    assert not can_be_cut(build(linear, relu, linear))
    assert not can_be_cut(build(linear, lambda b, x: b.add(Elementwise("sin"), x), linear))
    assert not can_be_cut(build(linear, smooth, product))
    assert has_smooth_neurons(build(linear, smooth, product))
    assert not has_smooth_neurons(build(linear, relu, product))
