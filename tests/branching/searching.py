"""What tests of searches share: settings, instances, and the oracle's judgement."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    crown_intermediate,
    interval_bounds,
)
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.relu_split import search
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, Relu
from verify_pipeline.problem import Box, Specification, Status

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


def run(
    case: Any, settings: SearchSettings = QUICK, seconds: float = 1e6, **more: Any
) -> list[Found]:
    """All instances' ends in their own order; each comes exactly once."""
    deadlines = Deadlines.alone(torch.full((len(case.box),), seconds))
    root = root_bounds(case.graph, case.box)
    found = list(search(case.graph, case.box, case.spec, root, settings, deadlines, **more))
    assert sorted(f.instance for f in found) == list(range(len(case.box)))
    return sorted(found, key=lambda f: f.instance)


def check_against_oracle(case: Any, found: list[Found]) -> None:
    graph64, spec64 = case.graph.to(torch.float64), case.spec.to(torch.float64)
    for n, end in enumerate(found):
        exact = float(case.exact[n])
        if end.status is Status.VERIFIED:
            assert end.bound is not None
            assert 0 < end.bound <= exact + ORACLE_TOLERANCE
        else:
            assert end.status is Status.FALSIFIED, f"{n}: {end.reason} at margin {exact}"
            assert exact <= ORACLE_TOLERANCE
            assert end.point is not None
            assert end.point.dtype is torch.float32
            point = end.point.unsqueeze(0)
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
