"""Five hundred small random networks of many shapes: the search says what the exact MILP says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.searching import QUICK, check_against_oracle, narrowly_below, run
from verify_pipeline.bounds import OptimiseSettings
from verify_pipeline.branching.evaluate.bounder import Bounded, Bounder
from verify_pipeline.branching.evaluate.candidate_points import Evaluated, evaluate
from verify_pipeline.branching.search import relu_split as relu_module
from verify_pipeline.branching.tree.subproblems import Domains
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.maxima import without_max_pooling
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    LeakyRelu,
    Linear,
    MaxPool2d,
    Op,
    Relu,
    Reshape,
    Sub,
)
from verify_pipeline.problem import Reason, Status

NETWORKS = 72
"""Of each of seven shapes: 504 in all."""

CLASSES = 3
Draw = Callable[..., Tensor]


def plain(draw: Draw, act: Op, b: GraphBuilder) -> int:
    x = 0
    for wide in (6, 5):
        x = b.add(act, b.add(Linear(draw(wide, *b.shape(x)), draw(wide)), x))
    return x


def residual(draw: Draw, act: Op, b: GraphBuilder) -> int:
    first = b.add(act, b.add(Linear(draw(5, 4), draw(5)), 0))
    inner = b.add(act, b.add(Linear(draw(4, 5), draw(4)), first))
    return b.add(act, b.add(Add(), b.add(Linear(draw(5, 4)), inner), first))


def joined(draw: Draw, act: Op, b: GraphBuilder) -> int:
    left = b.add(act, b.add(Linear(draw(4, 4), draw(4)), 0))
    right = b.add(act, b.add(Linear(draw(3, 4), draw(3)), left))
    return b.add(act, b.add(Linear(draw(4, 11), draw(4)), b.add(Concat(0), left, right, 0)))


def lattice(draw: Draw, act: Op, b: GraphBuilder) -> int:
    """``max(u, v) = u + act(v - u)`` of linear functions, twice."""
    u, v = (b.add(Linear(draw(4, 4), draw(4)), 0) for _ in range(2))
    top = b.add(Add(), u, b.add(act, b.add(Sub(), v, u)))
    least = b.add(Linear(draw(4, 4), draw(4)), 0)
    return b.add(Sub(), least, b.add(act, b.add(Sub(), least, top)))


def pooled(pool: Op) -> Callable[[Draw, Op, GraphBuilder], int]:
    def build(draw: Draw, act: Op, b: GraphBuilder) -> int:
        image = b.add(Reshape((1, 2, 2)), 0)
        x = b.add(act, b.add(Conv2d(draw(2, 1, 2, 2), draw(2), (1, 1), (0, 1)), image))
        x = b.add(pool, x)
        grouped = Conv2d(draw(4, 1, 1, 2), draw(4), (1, 1), (0, 0), (1, 1), 2)
        return b.add(Reshape((4,)), b.add(act, b.add(grouped, x)))

    return build


SHAPES: dict[str, tuple[Callable[[Draw, Op, GraphBuilder], int], Op]] = {
    "plain": (plain, Relu()),
    "leaky": (plain, LeakyRelu(0.2)),
    "residual": (residual, Relu()),
    "concat": (joined, Relu()),
    "lattice": (lattice, Relu()),
    "max-pool": (pooled(MaxPool2d((1, 2), (1, 1))), Relu()),
    "average-pool": (pooled(AvgPool2d((1, 2), (1, 1))), LeakyRelu(0.1)),
}


def network(shape: str, seed: int) -> Graph:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        fan = max(1, torch.Size(shape[1:]).numel())
        drawn: Tensor = torch.randn(*shape, generator=generator) * (2 / fan) ** 0.5
        return drawn

    build, act = SHAPES[shape]
    b = GraphBuilder((4,))
    x = build(draw, act, b)
    return b.build(b.add(Linear(draw(CLASSES, *b.shape(x)), draw(CLASSES)), x))


NUDGES = (1.0, 0.02, -0.02, 1.0, -0.05, 1e-3)
"""By network: what becomes of an instance's least margin, so that some are just above or below."""

HASTY = replace(QUICK, root=OptimiseSettings(iterations=3), domain=OptimiseSettings(iterations=3))


@pytest.mark.parametrize("shape", SHAPES)
def test_random_networks_get_the_oracles_verdicts(shape: str, make_case: Any) -> None:
    kinds = []
    for seed in range(NETWORKS):
        graph = without_max_pooling(network(shape, seed))
        case = make_case(graph, 1, seed, (NUDGES[seed % len(NUDGES)],))
        found = run(case, HASTY)
        check_against_oracle(case, found)
        kinds += [found[0].status]
    assert kinds.count(Status.VERIFIED) > NETWORKS // 6
    assert kinds.count(Status.FALSIFIED) > NETWORKS // 6


def test_what_only_float32_closes_is_not_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, disputed = Bounder.bound, []

    def watched(self: Bounder, domains: Domains, settings: OptimiseSettings) -> Bounded:
        bounded = honest(self, domains, settings)
        disputed.append((bounded.domains.lower > 0) & ~(bounded.confirmed > 0))
        return bounded

    def blind(*arguments: Any) -> Evaluated:
        found = evaluate(*arguments)
        return replace(found, breaks=torch.zeros_like(found.breaks))

    monkeypatch.setattr(Bounder, "bound", watched)
    # points that are looked at would break it
    monkeypatch.setattr(relu_module, "evaluate", blind)
    (found,) = run(narrowly_below())
    assert any(bool(each.any()) for each in disputed)  # float32 alone would have closed these
    assert (found.status, found.reason) == (Status.UNKNOWN, Reason.NOT_CONFIRMED)
