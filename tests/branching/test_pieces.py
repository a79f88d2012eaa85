"""Cut intervals of smooth activations: right where a fine grid knows the answer, and in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.searching import root_bounds, ticking
from verify_pipeline.bounds import OptimiseSettings, crown_margins, optimise
from verify_pipeline.bounds.intermediate import tighten as intermediate_module
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search import interval_split as pieces_module
from verify_pipeline.branching.search.interval_split import can_be_cut, split_intervals
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Elementwise, Linear, Mul, Op, Relu, Sub
from verify_pipeline.problem import Box, Reason, Specification, Status

F64 = torch.float64
QUICK = SearchSettings(max_domains=60)
FINE = 201


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


def grid(box: Box) -> Tensor:
    """A fine grid over the first box, ``FINE^2 x 2``."""
    ticks = torch.linspace(0, 1, FINE, dtype=F64)
    return box.lower[0] + torch.cartesian_prod(ticks, ticks) * (box.upper - box.lower)[0]


def least_on_grid(graph: Graph, box: Box, spec: Specification) -> float:
    return float((graph(grid(box)) @ spec.rows[0].T + spec.offsets[0]).min())


def run(graph: Graph, box: Box, spec: Specification, **more: Any) -> list[Found]:
    seconds = more.pop("seconds", torch.full((len(box),), 1e6))
    settings = more.pop("settings", QUICK)
    root = root_bounds(graph, box)
    deadlines = Deadlines.alone(seconds)
    found = list(split_intervals(graph, box, spec, root, settings, deadlines, **more))
    assert sorted(f.instance for f in found) == list(range(len(box)))
    return sorted(found, key=lambda f: f.instance)


@pytest.mark.parametrize("function", ["tanh", "sigmoid", "gelu", "silu", "hardswish"])
def test_verdicts_are_those_of_a_fine_grid(function: str) -> None:
    searched = 0
    for seed in range(3):
        graph = network(seed, Elementwise(function))
        image = torch.rand(1, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))
        box = Box.around(image, 0.4, clip=None)
        spec = Specification.margins(graph(image).argmax(1), 3, F64)
        least = least_on_grid(graph, box, spec)
        root = crown_margins(graph, box, spec, root_bounds(graph, box)).lower
        gap = least - float(root.min())
        for wanted in (0.9 * gap + 1e-3, 0.01, -0.05):  # the least margin becomes this
            moved = Specification(spec.rows, spec.offsets - least + wanted)
            (end,) = run(graph, box, moved)
            if end.status is Status.VERIFIED:
                assert end.bound is not None
                assert 0 < end.bound <= wanted + 1e-9
                searched += end.domains > 1
            elif end.status is Status.FALSIFIED:
                assert end.point is not None
                assert float(moved.values(graph(end.point.double().unsqueeze(0))).min()) <= 0
                assert wanted < 0
            assert wanted > 0 or end.status is Status.FALSIFIED
    assert searched >= 1


@pytest.mark.parametrize("function", ["tanh", "sigmoid"])
def test_tangents_of_the_root_serve_all_pieces(function: str) -> None:
    """Verdicts are those of the grid, with as many pieces as without them or fewer."""
    pieces = []
    for seed in range(3):
        graph = network(seed, Elementwise(function))
        image = torch.rand(1, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))
        box = Box.around(image, 0.4, clip=None)
        spec = Specification.margins(graph(image).argmax(1), 3, F64)
        least = least_on_grid(graph, box, spec)
        bounds = root_bounds(graph, box)
        gap = least - float(crown_margins(graph, box, spec, bounds).lower.min())
        for wanted in (0.9 * gap + 1e-3, -0.05):
            moved = Specification(spec.rows, spec.offsets - least + wanted)
            _, start = optimise(graph, box, moved, bounds, OptimiseSettings(iterations=20))
            (end,) = run(graph, box, moved, start=start)
            if end.status is Status.VERIFIED:
                assert end.bound is not None
                assert 0 < end.bound <= wanted + 1e-9
            assert wanted > 0 or end.status is Status.FALSIFIED
            (plain,) = run(graph, box, moved)
            if plain.status is end.status is Status.VERIFIED:
                pieces.append((end.domains, plain.domains))
    assert sum(end for end, _ in pieces) < sum(plain for _, plain in pieces)


def test_pieces_cover_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """A point of a piece, whatever it makes of the neurons, lies in one of its parts."""
    graph = network(3, Elementwise("tanh"))
    box = Box.around(torch.zeros(1, 2, dtype=F64), 0.6, clip=None)
    values = graph.values(grid(box))
    honest, cuts = pieces_module._Cutting._parts, []

    def inside(piece: Any, n: int) -> Tensor:
        within = torch.ones(FINE**2, dtype=torch.bool)
        for place, low in piece.bounds.lower.items():
            value, high = values[place], piece.bounds.upper[place]
            within &= ((value >= low[n] - 1e-9) & (value <= high[n] + 1e-9)).flatten(1).all(1)
        return within

    def watched(self: Any, parents: Any, *more: Any) -> Any:
        children, corners = honest(self, parents, *more)
        for n in range(len(parents)):
            either = inside(children, n) | inside(children, n + len(parents))
            assert bool((either | ~inside(parents, n)).all())
            cuts.append(int(inside(parents, n).sum()))
        return children, corners

    monkeypatch.setattr(pieces_module._Cutting, "_parts", watched)
    spec = Specification.margins(torch.tensor([0]), 3, F64)
    least = least_on_grid(graph, box, spec)
    run(graph, box, Specification(spec.rows, spec.offsets - least + 0.01))
    assert len(cuts) > 3
    assert sum(cuts) > FINE**2


def test_activations_of_the_input_itself_are_cut() -> None:
    """``2 sigmoid(x) - tanh(x)``: its least value over [-2, 2] is 0.6997."""
    builder = GraphBuilder((1,))
    gate = builder.add(Linear(torch.tensor([[2.0]])), builder.add(Elementwise("sigmoid"), 0))
    graph = builder.build(builder.add(Sub(), gate, builder.add(Elementwise("tanh"), 0))).to(F64)
    box = Box(torch.tensor([[-2.0]], dtype=F64), torch.tensor([[2.0]], dtype=F64))
    row = torch.ones(1, 1, 1, dtype=F64)
    (end,) = run(graph, box, Specification(row, torch.full((1, 1), -0.65, dtype=F64)))
    assert end.status is Status.VERIFIED
    assert end.bound is not None
    assert end.bound < 0.0498
    assert end.domains > 2
    (end,) = run(graph, box, Specification(row, torch.full((1, 1), -0.71, dtype=F64)))
    assert end.status is Status.FALSIFIED


def test_a_tie_is_not_verified() -> None:
    builder = GraphBuilder((1,))
    h = builder.add(Elementwise("tanh"), builder.add(Linear(torch.tensor([[1.0], [1.0]])), 0))
    graph = builder.build(builder.add(Linear(torch.tensor([[1.0, -1.0]])), h)).to(F64)
    box = Box(torch.tensor([[-1.0]], dtype=F64), torch.tensor([[1.0]], dtype=F64))
    spec = Specification(torch.ones(1, 1, 1, dtype=F64), torch.zeros(1, 1, dtype=F64))
    (end,) = run(graph, box, spec)
    assert end.status is not Status.VERIFIED


def test_each_instance_has_its_own_deadline() -> None:
    graph = network(1, Elementwise("tanh"), depth=3)
    image = torch.full((3, 2), 0.5, dtype=F64)
    box = Box.around(image, 1.0, clip=None)
    spec = Specification.margins(graph(image).argmax(1), 3, F64)
    least = least_on_grid(graph, box, spec)
    narrowly = torch.tensor([[1e-7], [100.0], [1e-7]], dtype=F64) - least
    seconds = torch.tensor([2.0, 2.0, 4.0])
    hard, easy, longer = run(
        graph,
        box,
        Specification(spec.rows, spec.offsets + narrowly),
        settings=replace(QUICK, max_domains=None),
        seconds=seconds,
        clock=ticking(0.25),
    )
    assert (hard.status, hard.reason) == (Status.UNKNOWN, Reason.TIMEOUT)
    assert 2.0 <= hard.seconds <= 2.5
    assert easy.status is Status.VERIFIED
    assert longer.reason is Reason.TIMEOUT
    assert 4.0 <= longer.seconds <= 5.0


@pytest.mark.parametrize(("give_up", "reason"), [(1e-9, Reason.GIVEN_UP), (None, Reason.TIMEOUT)])
def test_a_search_without_hope_is_given_up(give_up: float | None, reason: Reason) -> None:
    graph = network(1, Elementwise("tanh"), depth=3)
    box = Box.around(torch.full((2, 2), 0.5, dtype=F64), 1.0, clip=None)
    spec = Specification.margins(graph(box.center).argmax(1), 3, F64)
    nearly = torch.tensor([[1e-7], [100.0]], dtype=F64) - least_on_grid(graph, box, spec)
    hard, easy = run(
        graph,
        box,
        Specification(spec.rows, spec.offsets + nearly),
        settings=replace(QUICK, max_domains=None, give_up=give_up),
        seconds=torch.tensor([10.0, 10.0]),
        clock=ticking(0.25),
    )
    assert (hard.status, hard.reason) == (Status.UNKNOWN, reason)
    if reason is Reason.GIVEN_UP:
        assert 1.5 <= hard.seconds <= 2.0  # 15 % of its time
    assert easy.status is Status.VERIFIED


def test_shares_of_pieces_are_of_the_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cut halves a share, so open and closed pieces are the whole box at any time."""
    graph = network(3, Elementwise("tanh"))
    box = Box.around(torch.zeros(1, 2, dtype=F64), 0.6, clip=None)
    honest, closed, seen = pieces_module._Cutting._absorb, [0.0], []

    def watched(self: Any, pieces: Any, corners: Tensor) -> Any:
        closed[0] += float(pieces.share[pieces.rows.amin(1) > 0].sum())
        found = honest(self, pieces, corners)
        seen.append(closed[0] + float(self._open.share.sum()))
        return found

    monkeypatch.setattr(pieces_module._Cutting, "_absorb", watched)
    spec = Specification.margins(torch.tensor([0]), 3, F64)
    least = least_on_grid(graph, box, spec)
    run(graph, box, Specification(spec.rows, spec.offsets - least + 0.01))
    assert len(seen) > 3
    assert seen == [1.0] * len(seen)


def test_a_step_ends_where_the_time_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds of a layer take a second: what is left of six layers is not waited for."""
    graph = network(1, Elementwise("tanh"), depth=6)
    box = Box.around(torch.full((1, 2), 0.5, dtype=F64), 1.0, clip=None)
    spec = Specification.margins(graph(box.center).argmax(1), 3, F64)
    spec = Specification(spec.rows, spec.offsets - least_on_grid(graph, box, spec) + 1e-7)
    now, honest = [0.0], intermediate_module._Crown.solve

    def slow(*args: Any) -> Tensor:
        now[0] += 1.0
        return honest(*args)

    monkeypatch.setattr(intermediate_module._Crown, "solve", slow)
    settings = replace(QUICK, descent=0)
    (end,) = run(
        graph,
        box,
        spec,
        settings=settings,
        seconds=torch.tensor([1.5]),
        clock=lambda: now[0],
    )
    assert (end.status, end.reason) == (Status.UNKNOWN, Reason.TIMEOUT)
    assert end.domains > 1
    assert end.seconds <= 2.5


@pytest.mark.parametrize(
    "limits", [{"max_domains": 8}, {"max_domains": None, "max_bytes": 2000}], ids=str
)
def test_budgets_are_kept(limits: dict[str, Any]) -> None:
    graph = network(1, Elementwise("tanh"), depth=3)
    image = torch.full((1, 2), 0.5, dtype=F64)
    box = Box.around(image, 1.0, clip=None)
    spec = Specification.margins(graph(image).argmax(1), 3, F64)
    spec = Specification(spec.rows, spec.offsets - least_on_grid(graph, box, spec) + 1e-7)
    settings = replace(QUICK, batch=4, descent=0, **limits)
    (end,) = run(graph, box, spec, settings=settings)
    assert (end.status, end.reason) == (Status.UNKNOWN, Reason.BUDGET)


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

    assert can_be_cut(build(linear, smooth, linear))
    assert not can_be_cut(build(linear, lambda b, x: b.add(Relu(), x), linear))
    assert not can_be_cut(build(linear, lambda b, x: b.add(Elementwise("sin"), x), linear))
    assert not can_be_cut(build(linear, smooth, lambda b, x: b.add(Mul(), x, x)))
