"""CROWN layer by layer: who is verified early is verified by all layers, too, and rightly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tests.certify.harder import Harder
from tests.networks import conv_mlp
from tests.networks_by_hand import chain, linear
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    interval_margins,
    late_margins,
    needed_places,
)
from verify_pipeline.branching.limits.cost import SPEED, neurons_cost
from verify_pipeline.certify import root_bounds as roots
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.knowledge import Knowledge, Learned
from verify_pipeline.certify.root_bounds import margins_in_time, root_budget, rows_in_time
from verify_pipeline.certify.settings import CertifySettings, StageName, plan
from verify_pipeline.certify.stages import build_stages
from verify_pipeline.certify.stages import crown as crown_stage
from verify_pipeline.certify.stages.crown import CrownStage
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification, Status

F64 = torch.float64
CPU = torch.device("cpu")


def network() -> Graph:
    torch.manual_seed(4)
    shape, layers = (1, 8, 8), [(4, 3, 1, 0), (6, 4, 2, 0)]
    return conv_mlp(4, shape, layers, (24, 24), outputs=4, bias=0.25).to(F64)


def questions(graph: Graph, spare: int) -> tuple[Box, Specification]:
    """Boxes from small to large around random images, with the classes that they have."""
    images = torch.rand(40, 1, 8, 8, dtype=F64)
    epsilon = torch.linspace(0.0, 0.12, 40, dtype=F64).view(-1, 1, 1, 1)
    spec = Specification.margins(graph(images).argmax(1), 4, F64)
    return Box.around(images, epsilon), Specification(spec.rows, spec.offsets, spare)


def never(points: Tensor) -> Tensor:
    raise AssertionError("nothing is replayed")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Which instances were open, each time that it was asked."""
    answers: list[Tensor] = []

    def spy(*arguments: object, wanted: Callable[[NodeBounds], Tensor]) -> NodeBounds:
        def told(bounds: NodeBounds) -> Tensor:
            answers.append(wanted(bounds))
            return answers[-1]

        return crown_intermediate(*arguments, wanted=told)  # type: ignore[arg-type, misc]

    monkeypatch.setattr(roots, "crown_intermediate", spy)
    return answers


@pytest.mark.parametrize("spare", [0, 1])
def test_verdicts_are_those_of_all_layers(asked: list[Tensor], spare: int) -> None:
    graph = network()
    box, spec = questions(graph, spare)
    indices = tuple(range(40))
    knowledge = Knowledge(1 << 30, CPU)
    task = Task(
        indices, box, spec, box.center, torch.full((40,), 60.0), knowledge, lambda: True, None
    )
    stage = CrownStage(Subject.of(graph, never, CPU), 64, 3, 1 << 30)
    decisions = {d.place: d for d in stage.run(task)}

    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    lower = crown_margins(graph, box, spec, bounds.only(needed_places(graph))).lower
    lower = torch.maximum(lower, interval_margins(graph, box, spec))
    verified = spec.least(lower) > 0
    found = torch.tensor([decisions[n].status is Status.VERIFIED for n in range(40)])
    # bounds of neurons are monotone here, so fewer layers verify no more, and all as much
    assert torch.equal(found, verified)
    assert 5 < int(found.sum()) < 35
    # some were verified before the last layer, and none was open again
    assert len(asked) == 3
    assert asked[0].sum() > asked[-1].sum() > (~found).sum()
    for before, after in pairwise(asked):
        assert not (after & ~before).any()
    # what stays open has the bounds that it had without asking
    rest = (~found).nonzero().flatten()
    known = knowledge.recall([indices[n] for n in rest.tolist()])
    assert known is not None
    for place in needed_places(graph):
        torch.testing.assert_close(known.bounds.lower[place], bounds.lower[place][rest])
        torch.testing.assert_close(known.bounds.upper[place], bounds.upper[place][rest])
    # and what is claimed holds
    points = box.lower + (box.upper - box.lower) * torch.rand(500, *box.lower.shape, dtype=F64)
    values = graph(points.flatten(0, 1)).unflatten(0, (500, 40))
    margins = torch.einsum("nsk,cnk->cns", spec.rows, values) + spec.offsets
    for n, decision in decisions.items():
        assert decision.bound is not None
        least = spec[n : n + 1].least(margins[:, n].amin(0, keepdim=True))
        assert decision.bound <= float(least)


def stage(graph: Graph, most: int) -> CrownStage:
    return CrownStage(Subject(graph, graph, never, CPU), most, rows=3, memory=1 << 30)


def test_a_batch_is_smaller_where_one_image_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = network()
    assert stage(graph, 64).largest_task == 64
    tenth = 0.1 * neurons_cost(graph) / SPEED["cpu"]
    monkeypatch.setattr(crown_stage, "BATCH_SECONDS", 5.5 * tenth)
    assert stage(graph, 64).largest_task == 5
    assert stage(graph, 3).largest_task == 3
    monkeypatch.setattr(crown_stage, "BATCH_SECONDS", 0.5 * tenth)
    assert stage(graph, 64).largest_task == 1


def test_a_network_without_unstable_neurons_takes_any_batch() -> None:
    graph = chain((2,), linear([[1, 2], [3, 4]]))
    assert stage(graph, 64).largest_task == 64


def three_rows(count: int) -> tuple[Graph, Box, Specification, NodeBounds]:
    """Boxes with three rows each, and what CROWN needs to bound them."""
    graph = network()
    box, spec = questions(graph, 0)
    box, spec = box[torch.arange(count)], spec[torch.arange(count)]
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    return graph, box, spec, bounds.only(needed_places(graph))


@pytest.mark.parametrize("functionals", [3, 7, 100])
def test_margins_in_batches_are_those_at_once(functionals: int) -> None:
    graph, box, spec, bounds = three_rows(5)
    whole = crown_margins(graph, box, spec, bounds).lower
    found = margins_in_time(graph, box, spec, bounds, functionals, lambda: True)
    torch.testing.assert_close(found, whole)


@pytest.mark.parametrize("functionals", [1, 2, 100])
def test_rows_that_short_walks_leave_open_are_walked_to_the_input(
    monkeypatch: pytest.MonkeyPatch, functionals: int
) -> None:
    """Whatever fits into memory."""
    monkeypatch.setattr(roots, "MANY_ROWS", 3)
    graph, box, spec, bounds = three_rows(40)
    whole = crown_margins(graph, box, spec, bounds).lower
    short = late_margins(graph, box, spec, bounds, 3, lambda: True)
    found = margins_in_time(graph, box, spec, bounds, functionals, lambda: True)
    done = short > 0
    assert 0 < int(done.sum()) < done.numel()
    assert torch.equal(found > 0, (whole > 0) | done)
    open_ = ~done
    torch.testing.assert_close(found[open_], torch.maximum(whole, short)[open_])
    # rows of a batch are walked to the input for all of its images, or for none
    assert bool((found[done] == short[done]).any())
    assert bool((found[done] >= short[done] - 1e-12).all())


@pytest.mark.parametrize(("functionals", "bounded"), [(1, 1), (2, 2), (3, 3), (100, 3)])
def test_without_time_only_the_first_open_rows_of_each_instance_are_bounded(
    monkeypatch: pytest.MonkeyPatch, functionals: int, bounded: int
) -> None:
    graph, box, spec, bounds = three_rows(4)
    nothing = torch.full_like(spec.offsets[:1], -torch.inf)
    monkeypatch.setattr(roots, "MANY_ROWS", 3)
    monkeypatch.setattr(roots, "late_margins", lambda *_: nothing)
    found = margins_in_time(graph, box, spec, bounds, functionals, lambda: False)
    assert bool(found[:, :bounded].isfinite().all())
    assert bool((found[:, bounded:] == -torch.inf).all())


def test_rows_that_short_walks_bound_above_zero_take_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, box, spec, bounds = three_rows(2)
    monkeypatch.setattr(roots, "MANY_ROWS", 3)
    known = torch.tensor([[0.5, -0.25, 1.5]], dtype=F64)
    monkeypatch.setattr(roots, "late_margins", lambda *_: known)
    found = margins_in_time(graph, box, spec, bounds, 2, lambda: True)
    whole = crown_margins(graph, box, spec, bounds).lower
    assert found[:, [0, 2]].tolist() == [[0.5, 1.5]] * 2
    torch.testing.assert_close(found[:, 1], whole[:, 1].clamp(min=-0.25))
    for least in (0.0, 1e3, torch.nan):  # a tie is walked, and no bound is lost
        at = torch.full_like(known, least)
        monkeypatch.setattr(roots, "late_margins", lambda *_, at=at: -at)
        found = margins_in_time(graph, box, spec, bounds, 2, lambda: True)
        torch.testing.assert_close(found, torch.maximum(whole, -at), equal_nan=True)
    monkeypatch.setattr(roots, "late_margins", lambda *_: known.abs())
    monkeypatch.setattr(roots, "crown_margins", None)  # a call fails
    found = margins_in_time(graph, box, spec, bounds, 2, lambda: True)
    assert found.tolist() == [[0.5, 0.25, 1.5]] * 2


def test_rows_without_a_bound_verify_nothing() -> None:
    graph = network()
    box, spec = questions(graph, 0)
    indices = tuple(range(40))
    task = Task(
        indices, box, spec, box.center, torch.ones(40), Knowledge(1 << 30, CPU), never_again(), None
    )
    least = interval_margins(graph, box, spec).amin(1)
    small = CrownStage(Subject.of(graph, never, CPU), 64, 3, memory=1)  # a row at a time
    for decision in small.run(task):
        verified = decision.status is Status.VERIFIED
        assert verified == bool(least[decision.place] > 0)


def remembered(has_time: Callable[[], bool]) -> tuple[Learned, Task]:
    """What CROWN remembers of the instances that it leaves open, and their task."""
    graph = network()
    box, spec = questions(graph, 0)
    knowledge = Knowledge(1 << 30, CPU)
    task = Task(tuple(range(40)), box, spec, box.center, torch.ones(40), knowledge, has_time, None)
    found = CrownStage(Subject.of(graph, never, CPU), 64, 3, 1 << 30).run(task)
    open_ = [d.place for d in found if d.status is Status.UNKNOWN]
    known = knowledge.recall(open_)
    assert known is not None
    some = torch.tensor(open_)
    return known, replace(task, indices=tuple(open_), box=box[some], spec=spec[some])


def test_rows_are_remembered_as_they_were_bounded() -> None:
    graph = network()
    known, task = remembered(lambda: True)
    assert known.rows is not None
    lower = crown_margins(graph, task.box, task.spec, known.bounds).lower
    expected = torch.maximum(lower, interval_margins(graph, task.box, task.spec))
    torch.testing.assert_close(known.rows.of(task.required), expected)
    assert torch.equal(known.rows.offsets, task.spec.offsets)


def test_rows_that_time_did_not_suffice_for_are_not_remembered() -> None:
    known, _ = remembered(lambda: False)
    assert known.rows is None


@pytest.mark.parametrize("spare", [0, 1])
def test_rows_are_bounded_once(monkeypatch: pytest.MonkeyPatch, spare: int) -> None:
    graph = network()
    subject = Subject.of(graph, never, CPU)
    known, task = remembered(lambda: True)
    task = replace(task, spec=replace(task.spec, spare=spare))
    budget = root_budget(1 << 30)
    without = rows_in_time(subject, task, replace(known, rows=None), budget)
    monkeypatch.setattr(roots, "margins_in_time", None)  # a call fails
    torch.testing.assert_close(rows_in_time(subject, task, known, budget), without)


@pytest.mark.parametrize("name", ["crown", "alpha-crown"])
def test_rows_are_remembered_with_the_offsets_that_they_were_bounded_for(name: StageName) -> None:
    graph = network()
    box, spec = questions(graph, 0)
    knowledge, errors = Knowledge(1 << 30, CPU), torch.full((40, 1), 0.125, dtype=F64)
    task = Task(
        *(
            tuple(range(40)),
            box,
            spec,
            box.center,
            torch.full((40,), 60.0),
            knowledge,
            lambda: True,
        ),
        harden=Harder(errors),
    )
    settings = CertifySettings(epsilon=0.1, stages=("clean", name))
    subject = Subject.of(graph, never, CPU)
    open_ = [
        decision.place
        for decision in build_stages(plan(settings), subject, 3, lambda: 0.0)[1].run(task)
        if decision.status is Status.UNKNOWN
    ]
    assert open_
    known = knowledge.recall(open_)
    assert known is not None
    assert known.rows is not None
    assert torch.equal(known.rows.offsets, spec.offsets[open_] - 0.125)
    assert torch.equal(known.rows.of(task.required[torch.tensor(open_)]), known.rows.lower)


def test_rows_have_the_better_of_both_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    known, task = remembered(lambda: True)
    assert known.rows is not None
    better = known.rows.lower + torch.tensor([1.0, -1.0, 1.0], dtype=F64)
    monkeypatch.setattr(roots, "interval_margins", lambda *_: better)
    subject, without = Subject.of(network(), never, CPU), replace(known, rows=None)
    found = rows_in_time(subject, task, without, root_budget(1 << 30))
    torch.testing.assert_close(found[:, [0, 2]], better[:, [0, 2]])
    assert bool((found[:, 1] > better[:, 1] + 1e-3).all())


def test_rows_of_a_harder_specification_are_bounded_for_that_one() -> None:
    """Errors of the file's evaluation may be known better, or worse, than when CROWN ran."""
    known, task = remembered(lambda: True)
    assert known.rows is not None
    errors = torch.linspace(0, 0.5, len(task), dtype=F64).unsqueeze(1)
    harder = replace(task, harden=Harder(errors))
    budget = root_budget(1 << 30)
    found = rows_in_time(Subject.of(network(), never, CPU), harder, known, budget)
    torch.testing.assert_close(found, known.rows.lower - errors)
    assert bool((found[1:] < known.rows.lower[1:] - errors[1:]).all())  # rounded down
    assert torch.equal(found[0], known.rows.lower[0])


def never_again() -> Callable[[], bool]:
    """Time until the first question only."""
    answers = iter([True])
    return lambda: next(answers, False)
