"""Boxes whose least margin is exactly known and not above zero: no kind of split verifies them.

The least margin is at a corner. The offset is the greatest number of float64 for which it is at
most 0 in exact arithmetic, so that a bound that is too high by one rounding would verify the box.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from tests.branching.searching import QUICK, by_graph, query_of
from tests.branching.test_cell_search import ALWAYS
from tests.branching.test_kinds import KINDS
from tests.exact_graph import exact_values
from verify_pipeline.branching.search.loop import Search, SearchLimits
from verify_pipeline.branching.search.portfolio import search_in_turns
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    Concat,
    Elementwise,
    LeakyRelu,
    Linear,
    MatMul,
    Mul,
    Relu,
    Reshape,
    Scale,
    Softmax,
)
from verify_pipeline.problem import Box, Decision, Specification, Status

F64 = torch.float64
NETWORKS = (
    *(("relus", scale) for scale in (1e-30, 1.0, 1e8, 1e15)),
    *((name, scale) for name in ("products", "attention", "smooth") for scale in (1e-4, 1.0)),
)


CASES = 6


class Tie:
    """One instance, in float64.

    Args:
        seed: of the network and its box.
        name: what is in it besides ReLUs.
        scale: of the weights of the first layer.
    """

    def __init__(self, seed: int, name: str, scale: float) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.graph = self._network(name, scale)
        centre, radius = self._normal(1, 2), 10 ** -self._uniform(0, 6)
        self.box = Box(centre - radius, centre + radius)
        row = torch.ones(1, 1, 1, dtype=F64)
        least = min(self._value(corner) for corner in self._corners())
        offset = float(-least)
        if Fraction(offset) + least > 0:
            offset = math.nextafter(offset, -math.inf)
        self.spec = Specification(row, torch.full((1, 1), offset, dtype=F64))
        self.least = least + Fraction(offset)

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, dtype=F64)

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.random))

    def _network(self, name: str, scale: float) -> Graph:
        builder = GraphBuilder((2,), dtype=F64)
        first = builder.add(Linear(self._normal(3, 2) * scale, self._normal(3) * scale), 0)
        active = builder.add(Relu(), first)
        before = builder.add(Scale(self._normal(3), self._normal(3) * scale), active)
        if name == "products":
            before = builder.add(Mul(), before, active)
        if name == "attention":
            shares = builder.add(Softmax(1), builder.add(Reshape((1, 3)), first))
            mean = builder.add(MatMul(), shares, builder.add(Reshape((3, 1)), before))
            before = builder.add(Concat(0), builder.add(Reshape((1,)), mean), before)
        if name == "smooth":
            before = builder.add(Elementwise("tanh"), before)
        inputs = builder.shape(before)[0]
        second = builder.add(LeakyRelu(0.25), builder.add(Linear(self._normal(3, inputs)), before))
        both = builder.add(Concat(0), builder.add(Add(), second, active), first)
        builder.add(Linear(self._normal(1, 6), self._normal(1) * scale), both)
        return builder.build()

    def _corners(self) -> Iterator[Tensor]:
        ends = torch.stack([self.box.lower[0], self.box.upper[0]])
        for sides in itertools.product((0, 1), repeat=2):
            yield ends[list(sides), [0, 1]]

    def _value(self, point: Tensor) -> Fraction:
        (value,) = exact_values(self.graph, point)[-1].flatten().tolist()
        return Fraction(value)

    @property
    def is_least_at_a_corner(self) -> bool:
        """As far as a fine grid can tell."""
        steps = torch.linspace(0, 1, 60, dtype=F64)
        shares = torch.cartesian_prod(steps, steps)
        points = self.box.lower + shares * (self.box.upper - self.box.lower)
        size = float(self.graph(points).abs().amax())
        return float(self.spec.values(self.graph(points)).amin()) > -1e-13 * size


def decisions(case: Tie) -> Iterator[Decision]:
    for make in KINDS:
        query = query_of(case)
        replay, limits = by_graph(query.spec, query.graph), SearchLimits(subproblems=40)
        yield from Search(make(query), limits, query.deadlines, replay, time.perf_counter).run()
    query = query_of(case)
    settings = replace(QUICK, early=ALWAYS, max_domains=40)
    yield from search_in_turns(
        query, settings, by_graph(query.spec, query.graph), time.perf_counter
    )


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_a_tie_is_verified_by_no_kind_of_split(name: str, scale: float) -> None:
    tied = 0
    for seed in range(CASES):
        case = Tie(seed, name, scale)
        if not case.is_least_at_a_corner:
            continue
        tied += 1
        assert case.least <= 0
        for found in decisions(case):
            assert found.status is not Status.VERIFIED, seed
    assert tied >= CASES // 3


def test_the_same_with_a_margin_of_many_roundings_is_verified() -> None:
    """So that the test above is about ties."""
    verified = 0
    for seed in range(12):
        case = Tie(seed, "relus", 1.0)
        if case.is_least_at_a_corner:
            case.spec = replace(case.spec, offsets=case.spec.offsets + 1e-9)
            verified += any(found.status is Status.VERIFIED for found in decisions(case))
    assert verified >= 4
