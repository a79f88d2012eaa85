"""Where one way of splitting has nothing left, the next one goes on, in the time that is left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.searching import root_bounds, ticking
from tests.branching.test_pieces import least_on_grid
from verify_pipeline.bounds import MemoryBudget, OptimiseSettings
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search import every_way
from verify_pipeline.branching.search.every_way import SearchQuery, Way, search_every_way
from verify_pipeline.branching.search.input_split import InputSplitLimits, split_inputs
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Div, Elementwise, Linear, Mul, Op, Relu
from verify_pipeline.problem import Box, Reason, Specification, Status

F64 = torch.float64
QUICK = SearchSettings(
    root=OptimiseSettings(iterations=5), domain=OptimiseSettings(iterations=2), descent=5
)
ROOM = InputSplitLimits(64, 1 << 20, MemoryBudget())


def network(seed: int, between: Op | None, inputs: int = 2) -> Graph:
    """ReLUs, the operation (None: a product with itself plus 1, and a quotient), ReLUs."""
    generator = torch.Generator().manual_seed(seed)
    builder, place, width = GraphBuilder((inputs,)), 0, inputs
    for layer, size in enumerate((6, 6, 6, 3)):
        weight = torch.randn(size, width, generator=generator) * (2 / width) ** 0.5
        place = builder.add(Linear(weight, 0.5 * torch.randn(size, generator=generator)), place)
        if layer in (0, 2):
            place = builder.add(Relu(), place)
        elif layer == 1 and between is not None:
            place = builder.add(between, place)
        elif layer == 1:
            square = builder.add(Mul(), place, place)
            more = builder.add(Linear(torch.eye(size), torch.ones(size)), square)
            place = builder.add(Div(), place, more)
        width = size
    return builder.build().to(F64)


def decide(
    graph: Graph, box: Box, spec: Specification, seconds: float = 2.0, **more: Any
) -> list[Found]:
    root = root_bounds(graph, box)
    deadlines = Deadlines.alone(torch.full((len(box),), seconds, dtype=F64))
    asked = SearchQuery(graph, box, spec, spec, root, deadlines)
    accepts = more.pop("accepts", lambda place, point: True)
    clock = more.pop("clock", ticking(1e-2))
    found = list(search_every_way(asked, QUICK, ROOM, accepts, clock))
    assert sorted(one.instance for one in found) == list(range(len(box)))
    return sorted(found, key=lambda one: one.instance)


@pytest.mark.parametrize(
    "between", [Elementwise("sigmoid"), Elementwise("square"), Elementwise("elu"), None]
)
def test_mixed_networks_are_decided_close_to_their_minimum(between: Op | None) -> None:
    """Splits of ReLUs alone leave all of these open."""
    for seed in range(3):
        graph = network(seed, between)
        image = torch.rand(1, 2, dtype=F64, generator=torch.Generator().manual_seed(seed))
        box = Box.around(image, 0.4, clip=None)
        spec = Specification.margins(graph(image).argmax(1), 3, F64)
        least = least_on_grid(graph, box, spec)
        shifts = torch.tensor([[1e-2], [-1e-2], [50.0]], dtype=F64) - least
        three = torch.zeros(3, dtype=torch.long)
        moved = Specification(spec.rows[three], spec.offsets[three] + shifts)
        hard, broken, easy = decide(graph, box[three], moved)
        assert hard.status is Status.VERIFIED, f"{seed}: {hard.reason}"
        assert hard.bound is not None
        assert 0 < hard.bound <= 1e-2 + 1e-9
        assert broken.status is Status.FALSIFIED
        assert easy.status is Status.VERIFIED


def test_a_tie_is_worked_on_until_its_time_is_used() -> None:
    """ReLUs and a sigmoid whose least margin is exactly 0, over 16 inputs."""
    builder = GraphBuilder((16,))
    first = builder.add(Relu(), builder.add(Linear(torch.cat([torch.eye(16)] * 2)), 0))
    smooth = builder.add(Elementwise("sigmoid"), first)
    row = torch.cat([torch.ones(1, 16), -torch.ones(1, 16)], 1)
    builder.add(Linear(row), smooth)
    graph = builder.build().to(F64)
    box = Box(-torch.ones(1, 16, dtype=F64), torch.ones(1, 16, dtype=F64))
    spec = Specification(torch.ones(1, 1, 1, dtype=F64), torch.full((1, 1), 1e-9, dtype=F64))
    (found,) = decide(graph, box, spec, seconds=20.0, clock=ticking(0.25))
    assert (found.status, found.reason) == (Status.UNKNOWN, Reason.TIMEOUT)
    assert 20.0 <= found.seconds <= 24.0


def test_times_domains_and_places_are_those_of_the_instance() -> None:
    """The second of three goes on; it comes back under its own number, with all that it took."""
    graph = network(0, Elementwise("sigmoid"))
    image = torch.rand(1, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    box = Box.around(image, 0.4, clip=None)
    spec = Specification.margins(graph(image).argmax(1), 3, F64)
    least = least_on_grid(graph, box, spec)
    three = torch.zeros(3, dtype=torch.long)
    shifts = torch.tensor([[50.0], [1e-2], [50.0]], dtype=F64) - least
    moved = Specification(spec.rows[three], spec.offsets[three] + shifts)
    first, second, third = decide(graph, box[three], moved)
    assert second.status is Status.VERIFIED
    assert second.domains > max(first.domains, third.domains)
    assert second.seconds > max(first.seconds, third.seconds)


def test_refused_points_of_rows_that_may_fail_end_nothing() -> None:
    """Of two rows one may fail: points that break one of them are no counterexamples."""
    graph = network(1, None)
    image = torch.rand(1, 2, dtype=F64, generator=torch.Generator().manual_seed(1))
    box = Box.around(image, 0.4, clip=None)
    one = Specification.margins(graph(image).argmax(1), 3, F64)
    margins = one.values(graph(_grid(box)))
    offsets = one.offsets - margins.amax(1).min() + 1e-2  # everywhere one of both holds
    spare = Specification(one.rows, offsets, spare=1)
    asked: list[int] = []

    def accepts(place: int, point: Tensor) -> bool:
        asked.append(place)
        values = spare.values(graph(point.double().unsqueeze(0)))
        return float(spare.least(values)) <= 0

    deadlines = Deadlines.alone(torch.tensor([2.0], dtype=F64))
    root = root_bounds(graph, box)
    enough = Specification(spare.rows[:, :1], spare.offsets[:, :1])
    assert float(enough.values(graph(_grid(box))).min()) < 0  # the sufficient one does not hold
    instance = SearchQuery(graph, box, spare, enough, root, deadlines)
    (found,) = search_every_way(instance, QUICK, ROOM, accepts, ticking(1e-2))
    assert found.status is Status.VERIFIED
    assert 0 in asked


def _grid(box: Box) -> Tensor:
    side = [
        torch.linspace(float(a), float(b), 101, dtype=F64)
        for a, b in zip(box.lower[0], box.upper[0], strict=True)
    ]
    return torch.cartesian_prod(*side)


def test_no_time_left_is_no_other_way() -> None:
    graph = network(0, Elementwise("sigmoid"))
    box = Box.around(torch.full((1, 2), 0.5, dtype=F64), 0.4, clip=None)
    spec = Specification.margins(graph(box.center).argmax(1), 3, F64)
    tied = Specification(spec.rows, spec.offsets - least_on_grid(graph, box, spec) + 1e-9)
    (found,) = decide(graph, box, tied, seconds=1.0, clock=ticking(0.5))
    assert found.reason is Reason.TIMEOUT
    assert math.isfinite(found.seconds)


def shifted_ties(offsets: list[float], inputs: int = 2) -> tuple[Graph, Box, Specification]:
    """ReLUs and a sigmoid; the least margin of each instance is its offset."""
    builder = GraphBuilder((inputs,))
    twice = torch.cat([torch.eye(inputs)] * 2)
    smooth = builder.add(Elementwise("sigmoid"), builder.add(Relu(), builder.add(Linear(twice), 0)))
    builder.add(Linear(torch.cat([torch.ones(1, inputs), -torch.ones(1, inputs)], 1)), smooth)
    count = len(offsets)
    box = Box(-torch.ones(count, inputs, dtype=F64), torch.ones(count, inputs, dtype=F64))
    rows = torch.ones(count, 1, 1, dtype=F64)
    spec = Specification(rows, torch.tensor(offsets, dtype=F64).unsqueeze(1))
    return builder.build().to(F64), box, spec


@pytest.mark.parametrize(("group", "least"), [([0, 0], 36.0), ([0, 1], 19.0)])
def test_what_one_of_a_group_leaves_is_the_others(group: list[int], least: float) -> None:
    """Two cases of 20 s each; the first needs nothing, so in one group the second has 40."""
    graph, box, spec = shifted_ties([50.0, 1e-9], inputs=16)
    deadlines = Deadlines(torch.full((2,), 20.0, dtype=F64), torch.tensor(group))
    asked = SearchQuery(graph, box, spec, spec, root_bounds(graph, box), deadlines)
    _, tied = sorted(
        search_every_way(asked, QUICK, ROOM, lambda *_: True, ticking(0.25)),
        key=lambda one: one.instance,
    )
    assert tied.reason is Reason.TIMEOUT
    assert tied.seconds >= least


@pytest.mark.parametrize("change", [{"give_up": 1e-3}, {"max_domains": 20}, {"max_bytes": 2000}])
def test_a_way_that_gives_up_leaves_the_rest_to_the_next(change: dict[str, Any]) -> None:
    graph = network(0, Elementwise("sigmoid"))
    image = torch.rand(1, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    box = Box.around(image, 0.4, clip=None)
    spec = Specification.margins(graph(image).argmax(1), 3, F64)
    nearly = spec.offsets - least_on_grid(graph, box, spec) + 1e-2
    moved = Specification(spec.rows, nearly)
    deadlines = Deadlines.alone(torch.tensor([4.0], dtype=F64))
    asked = SearchQuery(graph, box, moved, moved, root_bounds(graph, box), deadlines)
    settings = replace(QUICK, **change)
    (found,) = search_every_way(asked, settings, ROOM, lambda *_: True, ticking(1e-2))
    assert found.status is Status.VERIFIED


@pytest.mark.parametrize("reason", every_way.OF_ONE_WAY)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_what_ends_a_way_with_all_of_the_time_ends_the_instance(
    monkeypatch: pytest.MonkeyPatch, reason: Reason, share: float
) -> None:
    def gives_up(asked: SearchQuery, accepts: object) -> Iterator[Found]:
        yield Found(0, Status.UNKNOWN, None, None, 0.1, 1, reason)

    def proves(asked: SearchQuery, accepts: object) -> Iterator[Found]:
        yield Found(0, Status.VERIFIED, 1.0, None, 0.1, 1, None)

    ways = [Way(gives_up, share), Way(proves)]
    monkeypatch.setattr(every_way, "_ways", lambda *arguments: ways)
    graph, box, spec = shifted_ties([1e-9])
    (found,) = decide(graph, box, spec)
    goes_on = share < 1 or reason is Reason.EXHAUSTED
    assert found.status is (Status.VERIFIED if goes_on else Status.UNKNOWN)


def test_one_without_time_for_another_way_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, box, spec = shifted_ties([1e-9])

    def first(asked: SearchQuery, accepts: Any) -> Any:
        yield Found(0, Status.UNKNOWN, None, None, 20.1, 1, Reason.EXHAUSTED)

    monkeypatch.setattr(every_way, "_ways", lambda *_: [Way(first), Way(first)])
    deadlines = Deadlines.alone(torch.full((1,), 20.0, dtype=F64))
    asked = SearchQuery(graph, box, spec, spec, root_bounds(graph, box), deadlines)
    (found,) = search_every_way(asked, QUICK, ROOM, lambda *_: True, ticking(0.25))
    assert found.reason is Reason.TIMEOUT


def test_a_proved_instance_is_verified_though_another_has_too_many_parts() -> None:
    graph, box, spec = shifted_ties([50.0, 1e-9])
    deadlines = Deadlines.alone(torch.full((2,), 20.0, dtype=F64))
    asked = graph, box, spec, root_bounds(graph, box), replace(ROOM, most=1), deadlines
    found = {one.instance: one for one in split_inputs(*asked, lambda *_: True, ticking(0.01))}
    assert found[0].status is Status.VERIFIED
    assert found[1].reason is Reason.BUDGET
