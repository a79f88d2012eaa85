"""Branch and bound on the input: exact answers on small networks, time, and its ends."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from tests.onnx_networks import dense_network
from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.config.search_settings import InputSplitSettings, SearchSettings
from verify_pipeline.branching.search import input_split as halving
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.knowledge import Knowledge
from verify_pipeline.certify.stage_settings import FewInputSettings
from verify_pipeline.certify.stages.input_split import InputSplitStage
from verify_pipeline.network.graph import Graph
from verify_pipeline.onnx import Network
from verify_pipeline.problem import Box, Decision, Reason, Specification, Status

CPU = torch.device("cpu")


ALWAYS = FewInputSettings(affordable=1e9)
"""Boxes are split however slow CROWN is; the clock goes on by a second whenever it is read."""


def network(seed: int, inputs: int = 2, *, smooth: bool = False) -> Network:
    return dense_network(seed, inputs, 10, 10, 2, activation=nn.Tanh() if smooth else None)


def decide(
    found: Network,
    box: Box,
    spec: Specification,
    seconds: float = 60.0,
    memory: int = 1 << 28,
    settings: FewInputSettings = ALWAYS,
    search: SearchSettings | None = None,
) -> list[Decision]:
    """Decisions in the order of the instances; whoever reads the clock waits for a tick."""
    ticks = itertools.count()
    count = len(box)
    task = Task(
        tuple(range(count)),
        box,
        spec,
        box.center.float(),
        torch.full((count,), seconds, dtype=torch.float64),
        Knowledge(1 << 20, CPU),
        lambda: True,
    )
    subject = Subject.of(found.graph, found.replay, CPU)
    rows = spec.rows.shape[1]
    asked = search or SearchSettings()
    stage = InputSplitStage(subject, rows, memory, asked, settings, lambda: float(next(ticks)))
    decisions = sorted(stage.run(task), key=lambda one: one.place)
    assert [one.place for one in decisions] == list(range(count))
    return decisions


def levels(found: Network, box: Box, shifts: list[float]) -> tuple[float, Specification]:
    """The least ``f_0 - f_1`` of a dense grid, and specifications that lie that much below it."""
    side = [
        torch.linspace(float(a), float(b), 301)
        for a, b in zip(box.lower[0], box.upper[0], strict=True)
    ]
    outputs = found.graph(torch.cartesian_prod(*side).double())
    least = float((outputs[:, 0] - outputs[:, 1]).min())
    rows = torch.tensor([[[1.0, -1.0]]]).double().expand(len(shifts), 1, 2)
    offsets = torch.tensor([[shift - least] for shift in shifts]).double()
    return least, Specification(rows, offsets)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_answers_close_to_the_minimum(seed: int, smooth: bool) -> None:
    found = network(seed, smooth=smooth)
    shifts = [-0.05, -0.01, 0.01, 0.05]
    count = len(shifts)
    box = Box(-torch.ones(count, 2).double(), torch.ones(count, 2).double())
    _, spec = levels(found, box, shifts)
    decisions = decide(found, box, spec, seconds=1e6)
    sat, unsat = Status.FALSIFIED, Status.VERIFIED
    assert [one.status for one in decisions] == [sat, sat, unsat, unsat]
    for one, shift in zip(decisions, shifts, strict=True):
        if one.status is unsat:
            assert one.bound is not None
            assert 0 < one.bound <= shift
        else:
            assert one.counterexample is not None
            assert one.counterexample.margin <= 0


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_rows_that_may_fail_are_counted_part_by_part(seed: int) -> None:
    """One of three rows has to hold, nowhere the same one everywhere."""
    found = network(seed)
    side = torch.linspace(-1, 1, 301)
    grid = torch.cartesian_prod(side, side).double()
    rows = torch.tensor([[1.0, 0.2], [-0.7, 1.0], [-0.4, -1.0]]).double()
    values = found.graph(grid) @ rows.T
    values -= values.mean(0)
    offsets = -(found.graph(grid) @ rows.T).mean(0) - values.amax(1).min()
    shifts = torch.tensor([[-0.02], [0.02]]).double()
    box = Box(-torch.ones(2, 2).double(), torch.ones(2, 2).double())
    spec = Specification(rows.expand(2, 3, 2), offsets + shifts, spare=2)
    holding = (values[:, :3] + 0.02 - values.amax(1).min() > 0).all(0)
    assert not bool(holding.any())  # no row is enough for the whole box
    broken, holds = decide(found, box, spec, seconds=1e6)
    assert broken.status is Status.FALSIFIED
    assert broken.counterexample is not None
    outputs = found.replay(broken.counterexample.input.unsqueeze(0)).double()
    assert bool((outputs @ rows.T + offsets - 0.02 <= 0).all())
    assert holds.status is Status.VERIFIED
    assert holds.bound is not None
    assert 0 < holds.bound <= 0.02


@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("spare", [0, 1])
def test_a_row_that_is_not_finite_proves_nothing(
    value: float, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other row holds, which is enough only where one may fail."""
    honest = halving.margins_and_gaps  # type: ignore[attr-defined]

    def overflowing(*arguments: Any) -> Any:
        found, gaps = honest(*arguments)
        lower = torch.tensor([[0.5, value]], dtype=torch.float64).expand_as(found.lower)
        return replace(found, lower=lower), gaps

    monkeypatch.setattr(halving, "margins_and_gaps", overflowing)
    found = network(3)
    box = Box(-torch.ones(1, 2).double(), torch.ones(1, 2).double())
    rows = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]]).double()
    spec = Specification(rows, torch.full((1, 2), 100.0).double(), spare)
    (one,) = decide(found, box, spec, seconds=100.0)
    assert one.status is (Status.VERIFIED if spare else Status.UNKNOWN)
    assert one.bound == (0.5 if spare else None)


def test_descents_find_what_the_parts_do_not_yet_show() -> None:
    found = network(10)
    box = Box(-torch.ones(2, 2).double(), torch.ones(2, 2).double())
    _, spec = levels(found, box, [-1e-6, 0.01])

    def run(first: int) -> tuple[list[Status], int]:
        settings = SearchSettings(inputs=InputSplitSettings(first_descents=first))
        decisions = decide(found, box, spec, seconds=1e6, search=settings)
        assert int(decisions[0].detail.split()[0]) == decisions[0].subproblems
        return [one.status for one in decisions], decisions[0].subproblems

    statuses, without = run(1024)
    again, with_descents = run(4)
    assert statuses == again == [Status.FALSIFIED, Status.VERIFIED]
    assert with_descents < without / 10


def test_an_instance_does_not_depend_on_the_others_in_its_batch() -> None:
    found = network(1)
    box = Box(-torch.ones(3, 2).double(), torch.ones(3, 2).double())
    _, spec = levels(found, box, [0.3, 0.05, -0.01])
    together = [one.status for one in decide(found, box, spec, seconds=1e6)]
    alone = [
        decide(found, box[n : n + 1], spec[n : n + 1], seconds=1e6)[0].status for n in range(3)
    ]
    assert together == alone


def test_the_seconds_charged_are_those_that_passed() -> None:
    found = network(2)
    box = Box(-torch.ones(4, 2).double(), torch.ones(4, 2).double())
    _, spec = levels(found, box, [0.5, 0.1, 0.05, 0.02])
    decisions = decide(found, box, spec, seconds=1e6)
    total = sum(one.seconds or 0.0 for one in decisions)
    assert total == pytest.approx(round(total))
    assert total >= 1


def test_a_deadline_ends_an_instance() -> None:
    found = network(3)
    box = Box(-torch.ones(1, 2).double(), torch.ones(1, 2).double())
    _, spec = levels(found, box, [0.001])
    (one,) = decide(found, box, spec, seconds=0.5)
    assert (one.status, one.reason, one.final) == (Status.UNKNOWN, Reason.TIMEOUT, True)


def test_what_is_too_dear_to_be_halved_is_left_to_others() -> None:
    found = network(3)
    box = Box(-torch.ones(2, 2).double(), torch.ones(2, 2).double())
    _, spec = levels(found, box, [0.1, 0.1])
    left, halved = [Status.UNKNOWN] * 2, [Status.VERIFIED] * 2
    for share, few, statuses in ((0.0, 1, left), (1.0, 1, halved), (0.0, 2, halved)):
        settings = FewInputSettings(affordable=share, very_few_inputs=few)
        decisions = decide(found, box, spec, seconds=900.0, settings=settings)
        assert [one.status for one in decisions] == statuses
        assert not any(one.final for one in decisions)


def test_bounds_of_parts_are_improved_until_the_deadline_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[bool]] = []

    def watched(
        graph: Graph, box: Box, start: NodeBounds, budget: object, has_time: Callable[[], bool]
    ) -> NodeBounds:
        seen.append([has_time() for _ in range(8)])
        return start

    monkeypatch.setattr(halving, "crown_intermediate", watched)
    found = network(3)
    box = Box(-torch.ones(1, 2).double(), torch.ones(1, 2).double())
    _, spec = levels(found, box, [0.001])
    (one,) = decide(found, box, spec, seconds=6.0)
    (asked,) = seen
    assert asked == sorted(asked, reverse=True)
    assert asked[0]
    assert not asked[-1]
    assert one.reason is Reason.TIMEOUT


def test_an_instance_without_hope_is_given_up() -> None:
    found = network(3)
    box = Box(-torch.ones(1, 2).double(), torch.ones(1, 2).double())
    _, spec = levels(found, box, [0.001])
    (one,) = decide(found, box, spec, seconds=20.0, search=SearchSettings(give_up=1e-9))
    assert (one.status, one.reason) == (Status.UNKNOWN, Reason.GIVEN_UP)
    assert one.seconds is not None
    assert 3.0 <= one.seconds <= 7.0
    (one,) = decide(found, box, spec, seconds=100.0, search=SearchSettings(give_up=100.0))
    assert one.status is Status.VERIFIED


def test_a_box_without_float32_points_can_only_be_verified() -> None:
    found = network(4)
    point = torch.tensor([[0.1, 0.2]], dtype=torch.float64)
    output = found.graph(point)
    rows = torch.tensor([[[1.0, -1.0]]]).double()
    gap = output[:, :1] - output[:, 1:]
    below, above = (
        decide(found, Box(point, point), Specification(rows, shift - gap))[0]
        for shift in (-1e-9, 1e-9)
    )
    assert (below.status, below.reason) == (Status.UNKNOWN, Reason.EXHAUSTED)
    assert above.status is Status.VERIFIED


def test_a_task_with_too_many_open_parts_is_given_up() -> None:
    found = network(5)
    box = Box(-torch.ones(2, 2).double(), torch.ones(2, 2).double())
    _, spec = levels(found, box, [1e-7, 1e-7])
    decisions = decide(found, box, spec, seconds=1e6, memory=1)
    assert [one.reason for one in decisions] == [Reason.BUDGET, Reason.BUDGET]


def test_a_small_batch_gives_the_same_answers() -> None:
    found = network(5)
    box = Box(-torch.ones(2, 2).double(), torch.ones(2, 2).double())
    _, spec = levels(found, box, [-0.01, 0.05])
    decisions = decide(found, box, spec, seconds=1e6, memory=1 << 17)
    assert [one.status for one in decisions] == [Status.FALSIFIED, Status.VERIFIED]


def test_a_box_that_is_halved_without_progress_is_left_to_other_searches() -> None:
    """A tie: no halving ends it. Half of its time is left for splits of ReLUs."""
    found = network(0)
    box = Box(-torch.ones(1, 2).double(), torch.ones(1, 2).double())
    rows = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]]).double()
    spec = Specification(rows, torch.zeros(1, 2).double(), spare=1)
    (one,) = decide(found, box, spec, seconds=400.0, settings=replace(ALWAYS, patience=1e-9))
    assert (one.status, one.reason) == (Status.UNKNOWN, Reason.NOT_DECIDED)
    assert not one.final
    assert one.seconds is not None
    assert 200.0 <= one.seconds < 300.0


def test_whether_boxes_are_halved_does_not_depend_on_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = network(0, inputs=6)
    counts = []
    for _ in range(2):
        box = Box(torch.zeros(1, 6).double(), torch.full((1, 6), 0.1).double())
        spec = Specification(torch.tensor([[[1.0, -1.0]]]).double(), torch.ones(1, 1).double())
        (one,) = decide(found, box, spec, seconds=60.0, settings=FewInputSettings())
        counts.append((one.status, one.detail))
    assert counts[0] == counts[1]
    assert "parts" in counts[0][1]
