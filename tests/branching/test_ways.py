"""Where one way of splitting has nothing left, the next one goes on, in the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.grids import Problem, grid, least_on_grid, random_image, robust
from tests.branching.searching import by_graph, query_of, ticking
from tests.branching.searching import in_order as sorted_by_place
from verify_pipeline.bounds import MemoryBudget, OptimiseSettings
from verify_pipeline.branching.config.search_settings import InputSplitSettings, SearchSettings
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.loop import ReplayAt
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.search.ways import (
    ENDS_OF_A_PART,
    InputSplitRoom,
    Way,
    in_order,
    search,
    split_inputs,
    ways,
)
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Div, Elementwise, Linear, Mul, Op, Relu
from verify_pipeline.problem import Box, Counterexample, Decision, Reason, Specification, Status

F64 = torch.float64
QUICK = SearchSettings(
    root=OptimiseSettings(iterations=5), domain=OptimiseSettings(iterations=2), descent=5
)
ROOM = InputSplitRoom(64, 1 << 30, MemoryBudget())


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
    problem: Problem,
    seconds: float = 2.0,
    clock: Callable[[], float] | None = None,
    settings: SearchSettings = QUICK,
    group: list[int] | None = None,
) -> list[Decision]:
    """Decisions by all ways."""
    query = query_of(problem, seconds)
    if group is not None:
        query = replace(query, deadlines=Deadlines(query.deadlines.seconds, torch.tensor(group)))
    replay, clock = by_graph(query.spec, query.graph), clock or ticking(1e-2)
    return sorted_by_place(search(query, settings, ROOM, replay, clock), len(problem.box))


@pytest.mark.parametrize(
    "between", [Elementwise("sigmoid"), Elementwise("square"), Elementwise("elu"), None]
)
def test_mixed_networks_are_decided_close_to_their_minimum(between: Op | None) -> None:
    """Splits of ReLUs alone leave all of these open."""
    for seed in range(3):
        problem = robust(network(seed, between), random_image(seed), 0.4)
        hard, broken, easy = decide(problem.with_least(1e-2, -1e-2, 50.0), 4.0)
        assert hard.status is Status.VERIFIED, f"{seed}: {hard.reason}"
        assert hard.bound is not None
        assert 0 < hard.bound <= 1e-2
        assert broken.status is Status.FALSIFIED
        assert broken.counterexample is not None
        assert broken.counterexample.margin <= 0
        assert easy.status is Status.VERIFIED


def shifted_ties(offsets: list[float], inputs: int = 2) -> Problem:
    """ReLUs and a sigmoid; the least margin of each instance is its offset."""
    builder = GraphBuilder((inputs,))
    twice = torch.cat([torch.eye(inputs)] * 2)
    smooth = builder.add(Elementwise("sigmoid"), builder.add(Relu(), builder.add(Linear(twice), 0)))
    builder.add(Linear(torch.cat([torch.ones(1, inputs), -torch.ones(1, inputs)], 1)), smooth)
    count = len(offsets)
    box = Box(-torch.ones(count, inputs, dtype=F64), torch.ones(count, inputs, dtype=F64))
    rows = torch.ones(count, 1, 1, dtype=F64)
    spec = Specification(rows, torch.tensor(offsets, dtype=F64).unsqueeze(1))
    return Problem(builder.build().to(F64), box, spec)


def test_a_tie_is_worked_on_until_its_time_is_used() -> None:
    """ReLUs and a sigmoid whose least margin is nearly 0, over 16 inputs."""
    (found,) = decide(shifted_ties([1e-9], inputs=16), 20.0, ticking(0.25))
    assert (found.status, found.reason) == (Status.UNKNOWN, Reason.TIMEOUT)
    assert found.seconds is not None
    assert 20.0 <= found.seconds <= 24.0
    assert found.bound is None or found.bound <= 1e-9


def test_times_subproblems_and_places_are_those_of_the_instance() -> None:
    """The second of three goes on; it comes back under its own number, with all that it took."""
    problem = robust(network(0, Elementwise("sigmoid")), random_image(0), 0.4)
    first, second, third = decide(problem.with_least(50.0, 1e-2, 50.0))
    assert second.status is Status.VERIFIED
    assert second.subproblems > max(first.subproblems, third.subproblems)
    assert second.seconds is not None
    assert second.seconds > max(first.seconds or 0.0, third.seconds or 0.0)


def test_refused_points_of_rows_that_may_fail_end_nothing() -> None:
    """Of two rows one may fail: points that break one of them are no counterexamples."""
    problem = robust(network(1, None), random_image(1), 0.4)
    margins = problem.spec.values(problem.graph(grid(problem.box)))
    offsets = problem.spec.offsets - margins.amax(1).min() + 1e-2  # everywhere one of both holds
    spare = Specification(problem.spec.rows, offsets, spare=1)
    enough = Specification(spare.rows[:, :1], spare.offsets[:, :1])
    # the sufficient one does not hold
    assert least_on_grid(replace(problem, spec=enough)) < 0
    query = replace(query_of(replace(problem, spec=spare), 2.0), sufficient=enough)
    honest, asked = by_graph(spare, problem.graph), []

    def replay(place: int, point: Tensor) -> Counterexample | None:
        asked.append(honest(place, point))
        return asked[-1]

    (found,) = search(query, QUICK, ROOM, replay, ticking(1e-2))
    assert found.status is Status.VERIFIED
    assert asked
    assert not any(asked)


def test_refused_points_of_all_rows_end_an_instance() -> None:
    """A file that answers otherwise than its graph is not believed, whatever else may prove it."""
    problem = robust(network(0, Elementwise("sigmoid")), random_image(0), 0.4)
    query = query_of(problem.with_least(-1e-2))
    (found,) = search(query, QUICK, ROOM, lambda *_: None, ticking(1e-2))
    assert (found.status, found.reason) == (Status.UNKNOWN, Reason.NOT_REPLAYED)
    assert found.counterexample is None


def test_no_time_left_is_no_other_way() -> None:
    problem = robust(
        network(0, Elementwise("sigmoid")), torch.full((1, 2), 0.5, dtype=F64), 0.4
    ).with_least(1e-9)
    (found,) = decide(problem, 1.0, ticking(0.5))
    assert found.reason is Reason.TIMEOUT
    assert found.seconds is not None
    assert found.seconds >= 1.0


@pytest.mark.parametrize(("group", "least"), [([0, 0], 36.0), ([0, 1], 19.0)])
def test_what_one_of_a_group_leaves_is_the_others(group: list[int], least: float) -> None:
    """Two instances of 20 s each; the first needs nothing, so in one group the second has 40."""
    _, tied = decide(shifted_ties([50.0, 1e-9], 16), 20.0, ticking(0.25), group=group)
    assert tied.reason is Reason.TIMEOUT
    assert tied.seconds is not None
    assert least <= tied.seconds <= least + 8.0


@pytest.mark.parametrize("change", [{"give_up": 1e-3}, {"max_domains": 20}, {"max_bytes": 2000}])
def test_a_way_that_gives_up_leaves_the_rest_to_the_next(change: dict[str, Any]) -> None:
    problem = robust(network(0, Elementwise("sigmoid")), random_image(0), 0.4)
    (found,) = decide(problem.with_least(1e-2), 4.0, settings=replace(QUICK, **change))
    assert found.status is Status.VERIFIED


def ending(status: Status, reason: Reason | None, seconds: float, bound: float | None) -> Any:
    """A way that ends every instance so."""

    def decided(query: SearchQuery, replay: ReplayAt) -> Iterator[Decision]:
        for n in range(len(query)):
            yield Decision(n, status, bound, reason=reason, seconds=seconds, subproblems=3)

    return decided


@pytest.mark.parametrize("reason", ENDS_OF_A_PART)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_what_ends_a_way_with_all_of_the_time_ends_the_instance(
    reason: Reason, share: float
) -> None:
    gives_up = Way(ending(Status.UNKNOWN, reason, 0.1, None), share)
    proves = Way(ending(Status.VERIFIED, None, 0.1, 1.0))
    query = query_of(shifted_ties([1e-9]), 2.0)
    (found,) = in_order([gives_up, proves], query, lambda *_: None)
    goes_on = share < 1 or reason is Reason.EXHAUSTED
    assert found.status is (Status.VERIFIED if goes_on else Status.UNKNOWN)
    assert found.subproblems == (6 if goes_on else 3)
    assert found.seconds == pytest.approx(0.2 if goes_on else 0.1)


@pytest.mark.parametrize("reason", sorted(set(Reason) - set(ENDS_OF_A_PART), key=str))
def test_what_rules_out_a_proof_ends_the_instance(reason: Reason) -> None:
    ends = Way(ending(Status.UNKNOWN, reason, 0.1, None), 0.5)
    proves = Way(ending(Status.VERIFIED, None, 0.1, 1.0))
    (found,) = in_order([ends, proves], query_of(shifted_ties([1e-9])), lambda *_: None)
    assert (found.status, found.reason) == (Status.UNKNOWN, reason)


def test_the_better_bound_of_two_ways_is_kept() -> None:
    first = Way(ending(Status.UNKNOWN, Reason.EXHAUSTED, 0.1, -1.0))
    query = query_of(shifted_ties([1e-9]))
    for bound, least in ((-2.0, -1.0), (-0.5, -0.5), (None, -1.0)):
        last = Way(ending(Status.UNKNOWN, Reason.EXHAUSTED, 0.1, bound))
        (found,) = in_order([first, last], query, lambda *_: None)
        assert found.bound == least
    # of a proof, the bound is its own
    proves = Way(ending(Status.VERIFIED, None, 0.1, 0.25))
    high = Way(ending(Status.UNKNOWN, Reason.EXHAUSTED, 0.1, 0.5))
    (found,) = in_order([high, proves], query, lambda *_: None)
    assert found.bound == 0.25


def test_replays_are_asked_for_by_the_places_of_the_query() -> None:
    """Of three instances the second and the third go on."""

    def first(query: SearchQuery, replay: ReplayAt) -> Iterator[Decision]:
        yield Decision(0, Status.VERIFIED, 1.0, seconds=0.1)
        for n in (1, 2):
            yield Decision(n, Status.UNKNOWN, reason=Reason.EXHAUSTED, seconds=0.1)

    def second(query: SearchQuery, replay: ReplayAt) -> Iterator[Decision]:
        for n in range(len(query)):
            replay(n, query.box.lower[n])
            yield Decision(n, Status.UNKNOWN, reason=Reason.EXHAUSTED, seconds=0.1)

    asked: list[int] = []

    def replay(place: int, point: Tensor) -> Counterexample | None:
        asked.append(place)
        return None

    query = query_of(shifted_ties([1e-9, 1e-9, 1e-9]))
    found = sorted_by_place(in_order([Way(first), Way(second)], query, replay), 3)
    assert asked == [1, 2]
    assert [one.status is Status.VERIFIED for one in found] == [True, False, False]


def test_one_without_time_for_another_way_is_late() -> None:
    late = Way(ending(Status.UNKNOWN, Reason.EXHAUSTED, 20.1, None))
    proves = Way(ending(Status.VERIFIED, None, 0.1, 1.0))
    (found,) = in_order([late, proves], query_of(shifted_ties([1e-9]), 20.0), lambda *_: None)
    assert (found.status, found.reason) == (Status.UNKNOWN, Reason.TIMEOUT)


def test_a_proved_instance_is_verified_though_another_has_too_many_parts() -> None:
    query = query_of(shifted_ties([50.0, 1e-9]), 20.0)
    replay, room = by_graph(query.spec, query.graph), replace(ROOM, bytes=1)
    found = split_inputs(query, QUICK, room, replay, ticking(0.01))
    first, second = sorted_by_place(found, 2)
    assert first.status is Status.VERIFIED
    assert second.reason is Reason.BUDGET


@pytest.mark.parametrize(
    ("between", "inputs", "spare", "shares"),
    [
        (Relu(), 2, 0, [1.0]),
        (Relu(), 2, 1, [0.5, 1.0]),  # a refuted row proves nothing of the others
        (Elementwise("sigmoid"), 2, 0, [0.5, 0.5, 1.0]),
        (Elementwise("sigmoid"), 3, 0, [0.5, 1.0, 1.0]),  # too many inputs to halve
        (Elementwise("sin"), 2, 0, [0.5, 1.0]),
        (Elementwise("sin"), 3, 0, [1.0, 1.0]),
        (None, 2, 0, [0.5, 1.0]),
    ],
)
def test_ways_fit_the_network(
    between: Op | None, inputs: int, spare: int, shares: list[float]
) -> None:
    graph = network(0, between, inputs)
    box = Box.around(random_image(0, inputs), 0.01, clip=None)
    one = Specification.margins(graph(box.center).argmax(1), 3, F64)
    spec = Specification(one.rows, one.offsets, spare)
    settings = replace(QUICK, inputs=InputSplitSettings(few=2))
    chosen = ways(query_of(Problem(graph, box, spec)), settings, ROOM, ticking(1.0))
    assert [way.share for way in chosen] == shares
    assert chosen[-1].share == 1.0


def test_a_query_without_instances_has_no_decisions() -> None:
    graph = network(0, None)
    box = Box.around(random_image(0, 2), 0.01, clip=None)
    query = query_of(Problem(graph, box, Specification.margins(torch.zeros(1).long(), 3, F64)))
    none = query[torch.tensor([], dtype=torch.long)]
    assert list(search(none, QUICK, ROOM, by_graph(none.spec, graph), ticking(1.0))) == []
