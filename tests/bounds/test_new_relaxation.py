"""A relaxation is added from outside: an operation, three registrations, and every bound uses it.

``docs/extending/relaxation.md`` shows this code.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import pytest
import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    StopRule,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    interval_margins,
    optimise,
    optimise_intermediate,
)
from verify_pipeline.bounds.floating_point import Interval, gamma
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.bounds.relaxations.base import Choice, Relaxation, inner, of_sums
from verify_pipeline.bounds.relaxations.relaxed_graph import reads, relax
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.search.ways import InputSplitRoom, search
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, Op, Relu
from verify_pipeline.problem import Box, Counterexample, Specification, Status

F64 = torch.float64
BUDGET = MemoryBudget(bytes=1 << 24)


@dataclass(frozen=True, eq=False)
class Absolute(Op):
    """``|x|``, element by element."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The absolute value, ``N x *V``."""
        return inputs[0].abs()


@enclose.register
def _(op: Absolute, *inputs: Interval) -> Interval:
    lower, upper = inputs[0]
    crosses = (lower < 0) & (upper > 0)
    least = torch.minimum(lower.abs(), upper.abs()).masked_fill(crosses, 0.0)
    return least, torch.maximum(lower.abs(), upper.abs())


@dataclass(frozen=True, eq=False)
class AbsoluteLines(Relaxation):
    """Of ``y = |z|``: ``below z <= y <= up z + offset``.

    Attributes:
        below: slope of the lower line, ``N x *V``; -1 or 1.
        up: slope of the chord, ``N x *V``.
        offset: the chord at 0, ``N x *V``.
    """

    below: Tensor
    up: Tensor
    offset: Tensor

    def pull_back(
        self, coefficients: Tensor, choice: Choice | None
    ) -> tuple[tuple[Tensor | None, ...], Tensor]:
        """``below`` where a coefficient is > 0, else the chord."""
        positive, negative = coefficients.clamp(min=0), coefficients.clamp(max=0)
        pulled = positive * self.below.unsqueeze(1) + negative * self.up.unsqueeze(1)
        return (pulled,), inner(negative, self.offset)

    def rounding(self, inputs: Sequence[Tensor]) -> Tensor:
        """Of the sum of constants, and of the chord, whose slope is at most 1 in size."""
        return of_sums(self.offset) + gamma(16, self.offset.dtype) * inputs[0]

    def follow(
        self, coefficients: Tensor, choice: Choice | None, inputs: Sequence[Tensor | None]
    ) -> Tensor:
        """The value of the line that was chosen."""
        (z,) = inputs
        assert z is not None
        chord = self.up.unsqueeze(1) * z + self.offset.unsqueeze(1)
        return torch.where(coefficients > 0, self.below.unsqueeze(1) * z, chord)


@reads.register
def _(op: Absolute, place: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
    return inputs


@relax.register
def _(op: Absolute, read: list[Interval], inputs: int) -> Relaxation:
    lower, upper = read[0]
    below = torch.where(upper + lower >= 0, 1.0, -1.0).to(lower)
    width = (upper - lower).clamp(min=torch.finfo(lower.dtype).tiny)
    up = (upper.abs() - lower.abs()) / width
    offset = torch.maximum(lower.abs() - up * lower, upper.abs() - up * upper)
    return AbsoluteLines(below, up, offset)


_REGISTERED = tuple(function.dispatch(Absolute) for function in (enclose, reads, relax))


def network() -> Graph:
    """Absolute values behind ReLUs and before them, of two inputs."""
    generator = torch.Generator().manual_seed(2)

    def linear(out: int, into: int) -> Linear:
        weight = torch.randn(out, into, generator=generator) / into**0.5
        return Linear(weight, 0.3 * torch.randn(out, generator=generator))

    b = GraphBuilder((2,))
    x = b.add(Absolute(), b.add(linear(6, 2), 0))
    x = b.add(Relu(), b.add(linear(6, 6), x))
    x = b.add(Absolute(), b.add(linear(6, 6), x))
    return b.build(b.add(linear(2, 6), x)).to(F64)


BOX = Box(torch.full((1, 2), -0.5, dtype=F64), torch.tensor([[0.7, 0.4]], dtype=F64))
SPEC = Specification(torch.eye(2, dtype=F64).unsqueeze(0), torch.zeros(1, 2, dtype=F64))


def grid() -> Tensor:
    sides = [torch.linspace(float(BOX.lower[0, i]), float(BOX.upper[0, i]), 301) for i in (0, 1)]
    return torch.cartesian_prod(*sides).to(F64).clamp(BOX.lower, BOX.upper)


def bounds_by(method: str, graph: Graph) -> NodeBounds:
    bounds = interval_bounds(graph, BOX)
    if method != "interval":
        bounds = crown_intermediate(graph, BOX, bounds, BUDGET)
    if method == "alpha":
        settings = OptimiseSettings(iterations=5)
        bounds = optimise_intermediate(graph, BOX, bounds, settings, BUDGET)
    return bounds


@pytest.mark.parametrize("method", ["interval", "crown", "alpha"])
def test_bounds_of_all_nodes_hold(method: str) -> None:
    graph = network()
    bounds, values = bounds_by(method, graph), graph.values(grid())
    for place, lower in bounds.lower.items():
        assert bool((values[place] >= lower).all())
        assert bool((values[place] <= bounds.upper[place]).all())


def test_bounds_of_margins_hold_and_lines_are_tighter_than_intervals() -> None:
    graph = network()
    least = graph(grid()).amin(0)
    bounds = bounds_by("crown", graph)
    never = StopRule(torch.full((1,), torch.inf, dtype=F64))
    interval = interval_margins(graph, BOX, SPEC)[0]
    crown = crown_margins(graph, BOX, SPEC, bounds).lower[0]
    alpha = optimise(graph, BOX, SPEC, bounds, OptimiseSettings(iterations=10), until=never)[0]
    assert bool((alpha.lower[0] <= least).all())
    assert bool((crown <= alpha.lower[0] + 1e-9).all())
    assert bool((interval < crown).all())


@pytest.mark.parametrize(("low", "high"), [(0.25, 2.0), (-2.0, -0.25), (1.0, 1.0)])
def test_of_inputs_of_one_sign_the_lines_are_the_function(low: float, high: float) -> None:
    interval = (torch.tensor([[low]]), torch.tensor([[high]]))
    lines = relax(Absolute(), [interval], 1)
    for sign in (1.0, -1.0):
        (pulled,), constant = lines.pull_back(torch.tensor([[[sign]]]), None)
        assert pulled is not None
        ends = [float(pulled * z + constant) for z in (low, high)]
        assert ends == pytest.approx([sign * abs(low), sign * abs(high)])


def test_an_infinite_interval_bounds_nothing() -> None:
    lines = relax(Absolute(), [(torch.tensor([[-torch.inf]]), torch.tensor([[1.0]]))], 1)
    (pulled,), constant = lines.pull_back(torch.tensor([[[-1.0]]]), None)
    assert pulled is not None
    assert not bool(torch.isfinite(pulled + constant).any())


@pytest.mark.parametrize("nudge", [0.02, -0.02])
def test_a_search_decides_by_it(nudge: float) -> None:
    graph = network()
    offsets = nudge - graph(grid()).amin(0, keepdim=True)
    spec = Specification(SPEC.rows, offsets)
    deadlines = Deadlines.alone(torch.full((1,), 1e6, dtype=F64))

    def replay(place: int, point: Tensor) -> Counterexample | None:
        output = graph(point.double().unsqueeze(0))
        margin = float(spec.values(output).min())
        return Counterexample(point, output[0], margin) if margin <= 0 else None

    query = SearchQuery(graph, BOX, spec, spec, bounds_by("crown", graph), deadlines)
    settings = SearchSettings(max_domains=20)
    room = InputSplitRoom(64, 1 << 26, BUDGET)
    (found,) = search(query, settings, room, replay, perf_counter)
    assert found.status is (Status.VERIFIED if nudge > 0 else Status.FALSIFIED)
    if nudge > 0:
        assert found.bound is not None
        assert 0 < found.bound <= nudge


@dataclass(frozen=True, eq=False)
class Floor(Op):
    """An operation of which only intervals are known."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        return inputs[0].floor()


@enclose.register
def _(op: Floor, *inputs: Interval) -> Interval:
    return op(inputs[0][0]), op(inputs[0][1])


def test_an_operation_without_lines_is_bounded_by_its_intervals_constants() -> None:
    builder = GraphBuilder((2,))
    steps = builder.add(Floor(), builder.add(Linear(torch.tensor([[3.0, -2.0], [1.0, 4.0]])), 0))
    builder.add(Linear(torch.tensor([[1.0, 2.0], [-1.0, 1.0]])), steps)
    graph = builder.build().to(F64)
    bounds = bounds_by("crown", graph)
    lower = crown_margins(graph, BOX, SPEC, bounds).lower[0]
    assert bool((lower <= graph(grid()).amin(0)).all())
    assert lower.tolist() == pytest.approx(interval_margins(graph, BOX, SPEC)[0].tolist())


def test_the_page_about_it_shows_this_code() -> None:
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "extending" / "relaxation.md").read_text(encoding="utf-8")
    for shown in (Absolute, AbsoluteLines, *_REGISTERED):
        assert textwrap.indent(inspect.getsource(shown), "    ") in page
