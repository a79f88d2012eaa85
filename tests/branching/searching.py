"""What tests of searches share: settings, instances, and the oracle's judgement."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    crown_intermediate,
    interval_bounds,
)
from verify_pipeline.bounds.types import always
from verify_pipeline.branching.config.search_settings import BoxCutoffSettings, SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.improve.cutoff_on_box import Rebound, _Rounds
from verify_pipeline.branching.limits.bookkeeping import Bookkeeping
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.loop import ReplayAt
from verify_pipeline.branching.search.portfolio import relu_search
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.search.relu_split import ReluSplits
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import Domains
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, Linear, Relu
from verify_pipeline.problem import Box, Counterexample, Decision, Specification, Status


@dataclass(frozen=True, eq=False)
class Asked:
    """Instances of one network, whose margins nobody knows."""

    graph: Graph
    box: Box
    spec: Specification


QUICK = SearchSettings(
    batch=256,
    root=OptimiseSettings(iterations=10),
    domain=OptimiseSettings(iterations=5, lr_alpha=0.1, lr_beta=0.1),
)
ORACLE_TOLERANCE = 1e-6
NUDGES = (1.0, 1.0, 0.05, -0.05, 1e-3, -1e-3)


def root_bounds(graph: Graph, box: Box) -> NodeBounds:
    graph64, box64 = graph.to(torch.float64), box.to(torch.float64)
    return crown_intermediate(graph64, box64, interval_bounds(graph64, box64), MemoryBudget())


def by_graph(spec: Specification, graph: Graph) -> ReplayAt:
    """Replays by the graph itself: every point that breaks the specification there."""

    def replay(place: int, point: Tensor) -> Counterexample | None:
        output = graph(point.to(graph.dtype).unsqueeze(0))
        one = spec[place : place + 1].to(graph.dtype)
        margin = float(one.least(one.values(output)))
        return Counterexample(point, output[0], margin) if margin <= 0 else None

    return replay


def query_of(
    case: Any, seconds: float | Tensor = 1e6, start: Multipliers | None = None
) -> SearchQuery:
    """The instances of a case, in float64, with CROWN bounds of their neurons."""
    graph, box, spec = (part.to(torch.float64) for part in (case.graph, case.box, case.spec))
    each = torch.as_tensor(seconds, dtype=torch.float64, device=box.lower.device)
    each = each.expand(len(box)).clone()
    sufficient = Specification(spec.rows, spec.offsets)
    root, deadlines = root_bounds(graph, box), Deadlines.alone(each)
    return SearchQuery(graph, box, spec, sufficient, root, deadlines, start)


def search(
    case: Any,
    settings: SearchSettings = QUICK,
    seconds: float | Tensor = 1e6,
    clock: Callable[[], float] = time.perf_counter,
    **more: Any,
) -> Iterator[Decision]:
    """Decisions by splits of ReLUs alone, as they fall."""
    query = query_of(case, seconds, **more)
    yield from relu_search(query, settings, by_graph(query.spec, query.graph), clock).run()


def run(case: Any, settings: SearchSettings = QUICK, **more: Any) -> list[Decision]:
    """All instances' decisions in their own order; each comes exactly once."""
    return in_order(search(case, settings, **more), len(case.box))


def in_order(decisions: Iterable[Decision], count: int) -> list[Decision]:
    """Decisions by place; each instance has exactly one."""
    found = sorted(decisions, key=lambda one: one.place)
    assert [one.place for one in found] == list(range(count))
    return found


def check_against_oracle(case: Any, found: list[Decision]) -> None:
    graph64, spec64 = case.graph.to(torch.float64), case.spec.to(torch.float64)
    for n, end in enumerate(found):
        exact = float(case.exact[n])
        if end.status is Status.VERIFIED:
            assert end.bound is not None
            assert 0 < end.bound <= exact + ORACLE_TOLERANCE
        else:
            assert end.status is Status.FALSIFIED, f"{n}: {end.reason} at margin {exact}"
            assert exact <= ORACLE_TOLERANCE
            assert end.counterexample is not None
            assert end.counterexample.input.dtype is torch.float32
            point = end.counterexample.input.unsqueeze(0)
            assert point.device == case.box.lower.device
            assert bool(case.box[n : n + 1].contains(point).all())
            assert float(spec64[n : n + 1].values(graph64(point.double())).min()) <= 0


def ticking(step: float) -> Callable[[], float]:
    """A clock that goes on by ``step`` seconds whenever it is read."""
    ticks = itertools.count()
    return lambda: next(ticks) * step


def nothing_in_disguise(inputs: int) -> Graph:
    """f(x) = Σ 2 relu(x_i) - relu(2 x_i) = 0, but each i loses 1 until both its ReLUs are split."""
    eye = torch.eye(inputs)
    builder = GraphBuilder((inputs,))
    active = builder.add(Relu(), builder.add(Linear(torch.cat([eye, 2 * eye])), 0))
    builder.add(Linear(torch.tensor([[2.0] * inputs + [-1.0] * inputs])), active)
    return builder.build()


class Instances:
    """The function that is 0, over [-1, 1] in each input, plus an offset."""

    def __init__(self, inputs: int, offsets: list[float]) -> None:
        count = len(offsets)
        self.graph = nothing_in_disguise(inputs)
        self.box = Box(-torch.ones(count, inputs), torch.ones(count, inputs))
        self.spec = Specification(torch.ones(count, 1, 1), torch.tensor(offsets).unsqueeze(1))


def exactly(case: Any) -> SearchInstances:
    """The instances of a case, in float64, as a search has them."""
    query = query_of(case)
    return query.instances(query.spec)


def roots_of(
    exact: SearchInstances, settings: SearchSettings = QUICK, start: Multipliers | None = None
) -> tuple[Bounder, Domains]:
    """A domain without a split for each open row, and what bounds it."""
    kind = ReluSplits(exact, settings, start)
    domains = kind.roots().subproblems
    return kind._bounder, domains


def meter_of(
    count: int, seconds: float | list[float] = 1e6, clock: Callable[[], float] = time.perf_counter
) -> Meter:
    """Of instances that have so many seconds."""
    each = torch.as_tensor(seconds, dtype=torch.float64).expand(count).clone()
    unknown = torch.full((count, 1), -torch.inf, dtype=torch.float64)
    return Meter(Bookkeeping(unknown, Deadlines.alone(each)), QUICK.batch, clock)


def contracted(
    bounder: Bounder,
    domains: Domains,
    rebound: Rebound,
    rounds: int,
    has_time: Callable[[], bool] = always,
) -> tuple[Domains, Tensor]:
    """Domains after rounds of smaller boxes, and their float64 bounds."""
    how = _Rounds(bounder, SearchSettings(), BoxCutoffSettings(), has_time)
    return how.contract(domains, rebound, rounds)


class Watch:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def slowly(watch: Watch, seconds: float, honest: Callable[..., Any]) -> Callable[..., Any]:
    """The same, which takes so many seconds."""

    def slow(*arguments: Any) -> Any:
        watch.now += seconds
        return honest(*arguments)

    return slow


def narrowly_below() -> Asked:
    """``2^-25 + (1 + 2^-11) x0 - w relu(w x0)``, plus 0 that bounds see once x1 is split.

    w = 1 + 2^-12, so w^2 is ``1 + 2^-11 + 2^-24`` and the function ``-2^-25`` at x0 = 1. Float32
    rounds w^2 to ``1 + 2^-11``, so its bound is ``2^-25``.
    """
    w = 1 + 2**-12
    b = GraphBuilder((2,))
    first = torch.tensor([[w, 0], [0, 1], [0, -1], [0, 2], [0, -2]])
    h = b.add(Relu(), b.add(Linear(first), 0))
    falling = b.add(Linear(torch.tensor([[-w, 2, 2, -1, -1]])), h)
    rising = b.add(Linear(torch.tensor([[1 + 2**-11, 0]]), torch.tensor([2**-25])), 0)
    box = Box(torch.tensor([[0.25, -1.0]]), torch.tensor([[1.0, 1.0]]))
    one_row = Specification(torch.ones(1, 1, 1), torch.zeros(1, 1))
    return Asked(b.build(b.add(Add(), falling, rising)), box, one_row)


def charged(decision: Decision) -> float:
    """Seconds that a search has charged an instance."""
    assert decision.seconds is not None
    return decision.seconds
