"""One battery over all stages: what they decide is true, and stronger ones decide more."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.networks_by_hand import chain, linear
from tests.onnx_networks import dense_network
from verify_pipeline.attacks.falsify import FalsifySettings
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    crown_margins,
    interval_bounds,
    interval_margins,
)
from verify_pipeline.branching import SearchSettings
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.search.relu_split import ReluSplits
from verify_pipeline.certify import root_bounds as roots
from verify_pipeline.certify.contract import Stage, Subject, Task
from verify_pipeline.certify.evidence import decisions as decisions_of
from verify_pipeline.certify.instances import RobustImages
from verify_pipeline.certify.knowledge import Knowledge
from verify_pipeline.certify.perturbations import LinfBall
from verify_pipeline.certify.root_bounds import root_bounds, root_budget
from verify_pipeline.certify.settings import ALL_STAGES, CertifySettings, StageName, plan
from verify_pipeline.certify.stages import branch_and_bound, build_stages
from verify_pipeline.data import ImageSet
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Relu
from verify_pipeline.onnx import Network, network_from_module
from verify_pipeline.problem import Box, Decision, Reason, Specification, Status

CPU = torch.device("cpu")
SEARCH = SearchSettings(
    root=OptimiseSettings(iterations=10), domain=OptimiseSettings(iterations=8), timeout=20.0
)
BOUNDING: tuple[StageName, ...] = ("ibp", "crown", "alpha-crown", "branch-and-bound")


def mlp(seed: int, inputs: int = 2, classes: int = 3) -> Network:
    return dense_network(seed, inputs, 12, 12, classes)


def conv(seed: int) -> Network:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )
    return network_from_module(module.eval(), (1, 4, 4))


@dataclass(frozen=True, eq=False)
class Setup:
    """A network with images that it classifies, some of them wrongly."""

    network: Network
    instances: RobustImages
    task: Task

    @property
    def subject(self) -> Subject:
        return Subject.of(self.network.graph, self.network.replay, CPU)

    def stage(self, name: StageName) -> Stage:
        settings = CertifySettings(
            epsilon=0.1, stages=("clean",), search=SEARCH, attack=FalsifySettings(steps=10)
        )
        chosen = replace(plan(settings), stages=(name,))
        (stage,) = build_stages(chosen, self.subject, self.instances.rows, lambda: 0.0)
        return stage

    def run(self, name: StageName) -> dict[int, Decision]:
        return {decision.place: decision for decision in self.stage(name).run(self.task)}


def setup(network: Network, count: int, epsilon: float, seed: int = 0) -> Setup:
    graph = network.graph
    pixels = torch.rand(count, *graph.input_shape, generator=torch.Generator().manual_seed(seed))
    labels = network.replay(pixels).argmax(1)
    labels[::7] = (labels[::7] + 1) % graph.outputs
    images = ImageSet("toy", "test", pixels, labels, graph.outputs)
    instances = RobustImages(images, range(count), LinfBall(epsilon))
    return Setup(network, instances, task_of(instances, range(count), Knowledge(1 << 20, CPU)))


def task_of(instances: RobustImages, indices: Sequence[int], knowledge: Knowledge) -> Task:
    batch = instances.batch(indices)
    seconds = torch.full((len(indices),), 20.0, dtype=torch.float64)
    return Task(
        tuple(indices), batch.box, batch.spec, batch.points, seconds, knowledge, lambda: True
    )


def sampled_margins(graph: Graph, task: Task, spec: Specification) -> Tensor:
    """Least value of ``spec.least`` met at corners and random points of each box, ``N``."""
    generator = torch.Generator().manual_seed(5)
    shape = task.box.lower.shape[1:]
    least = torch.full((len(task),), torch.inf, dtype=torch.float64)
    for number in range(300):
        share = torch.rand(len(task), *shape, generator=generator, dtype=torch.float64)
        share = share.round() if number % 2 else share
        points = task.box.lower + share * (task.box.upper - task.box.lower)
        least = torch.minimum(least, spec.least(spec.values(graph(points))))
    return least


SETUPS = {
    "mlp": lambda: setup(mlp(0), 60, 0.08),
    "mlp, 4 inputs": lambda: setup(mlp(1, inputs=4), 60, 0.05),
    "convolutions": lambda: setup(conv(5), 40, 0.2),
}


@pytest.fixture(scope="module", params=list(SETUPS))
def made(request: pytest.FixtureRequest) -> Setup:
    return SETUPS[request.param]()


def test_the_ascent_gives_back_what_it_has_when_time_is_up(made: Setup) -> None:
    def bounds(answers: Iterator[bool]) -> Tensor:
        task = task_of(made.instances, made.task.indices, Knowledge(1 << 20, CPU))
        hurried = replace(task, has_time=lambda: next(answers))
        found = made.stage("alpha-crown").run(hurried)
        return torch.tensor([decision.bound for decision in found], dtype=torch.float64)

    asked = []

    def has_time() -> bool:
        asked.append(True)
        return True

    task = task_of(made.instances, made.task.indices, Knowledge(1 << 20, CPU))
    root_bounds(made.subject, replace(task, has_time=has_time), root_budget(1 << 30))
    # no more for the ascent; asked again after that, it would fail
    answers = iter([*asked, False])
    stopped, whole = bounds(answers), bounds(repeat(True))
    assert list(answers) == []
    assert (whole >= stopped - 1e-6).all()
    least = sampled_margins(made.subject.exact, made.task, made.task.spec)
    assert (stopped <= least).all()


@pytest.mark.parametrize("name", ALL_STAGES)
def test_what_a_stage_decides_is_true(made: Setup, name: StageName) -> None:
    decisions = made.run(name)
    least = sampled_margins(made.subject.exact, made.task, made.task.spec)
    for place, decision in decisions.items():
        if decision.bound is not None:
            assert decision.bound <= least[place]
        if decision.status is Status.VERIFIED:
            assert decision.bound is not None
            assert decision.bound > 0
        if decision.status is Status.FALSIFIED:
            counterexample = decision.counterexample
            assert counterexample is not None
            point = counterexample.input.unsqueeze(0)
            one = slice(place, place + 1)
            assert bool(made.task.box[one].contains(point.double()))
            replayed = made.network.replay(point)
            assert torch.equal(replayed[0], counterexample.output)
            assert made.task.spec[one].values(replayed.double()).min() <= 0


def test_the_clean_check_falsifies_exactly_the_wrong_images(made: Setup) -> None:
    decisions = made.run("clean")
    outputs = made.network.replay(made.task.points).double()
    wrong = made.task.spec.values(outputs).amin(1) <= 0
    assert sorted(decisions) == wrong.nonzero().flatten().tolist()
    for place, decision in decisions.items():
        assert decision.counterexample is not None
        assert torch.equal(decision.counterexample.input, made.task.points[place])


def test_stronger_bounds_verify_more(made: Setup) -> None:
    verified = [
        {p for p, d in made.run(name).items() if d.status is Status.VERIFIED} for name in BOUNDING
    ]
    for weaker, stronger in pairwise(verified):
        assert weaker <= stronger
    assert len(verified[0]) < len(verified[-1])


def test_branch_and_bound_leaves_nothing_open_on_small_networks(made: Setup) -> None:
    decisions = made.run("branch-and-bound")
    assert sorted(decisions) == list(range(len(made.task)))
    assert {decision.status for decision in decisions.values()} == {
        Status.VERIFIED,
        Status.FALSIFIED,
    }


def test_without_time_neurons_keep_their_intervals(made: Setup) -> None:
    task, graph = made.task, made.subject.exact
    hurried = replace(made, task=replace(task, has_time=lambda: False)).run("crown")
    bounds = interval_bounds(graph, task.box)
    crown = crown_margins(graph, task.box, task.spec, bounds).lower
    expected = torch.maximum(crown, interval_margins(graph, task.box, task.spec)).amin(1)
    for place, decision in hurried.items():
        assert (decision.status is Status.VERIFIED) == (expected[place] > 0)
        assert decision.bound is not None
        assert decision.bound <= expected[place] + 1e-9
        if decision.status is Status.UNKNOWN:  # others may have been verified by less
            assert decision.bound == pytest.approx(expected[place].item(), abs=1e-9)


@pytest.mark.parametrize("name", ["crown", "alpha-crown"])
def test_rows_without_time_keep_their_intervals_and_are_not_called_infinite(
    made: Setup, name: StageName
) -> None:
    stage = made.stage(name)
    stage._budget = root_budget(1)  # type: ignore[attr-defined]  # a row at a time
    task = replace(made.task, has_time=lambda: False)
    intervals = interval_margins(made.subject.exact, task.box, task.spec).amin(1)
    for decision in stage.run(task):
        assert decision.reason is not Reason.NOT_FINITE
        assert decision.bound is not None
        assert decision.bound >= intervals[decision.place] - 1e-9


def test_what_earlier_stages_learned_changes_no_verdict(made: Setup) -> None:
    fresh = made.run("branch-and-bound")
    made.run("crown")
    open_ = [p for p, d in made.run("alpha-crown").items() if d.status is Status.UNKNOWN]
    learned = made.task.knowledge.recall(open_)
    assert learned is not None
    assert learned.multipliers is not None
    informed = replace(made, task=task_of(made.instances, open_, made.task.knowledge))
    for place, decision in informed.run("branch-and-bound").items():
        assert decision.status is fresh[open_[place]].status


@pytest.mark.parametrize("spare", [0, 1])
def test_no_stage_bounds_rows_again(
    made: Setup, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    """Each would take as long as CROWN on a large network, and the search without a deadline."""
    spec = made.task.spec
    chosen = Specification(spec.rows, spec.offsets - 0.5 * spare, spare)
    made = replace(made, task=replace(made.task, spec=chosen, knowledge=Knowledge(1 << 20, CPU)))
    last = made.stage("branch-and-bound")
    made.run("crown")
    open_ = [p for p, d in made.run("alpha-crown").items() if d.status is Status.UNKNOWN]
    assert open_
    task = task_of(made.instances, open_, made.task.knowledge)
    task = replace(task, spec=chosen[torch.tensor(open_)])
    monkeypatch.setattr(roots, "margins_in_time", None)  # a call of any of these fails
    monkeypatch.setattr(ReluSplits, "_rows", None)
    assert len(list(last.run(task))) == len(open_)


def test_bounds_of_the_instances_that_have_none_are_computed(
    made: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that are known are not."""
    made = replace(made, task=replace(made.task, knowledge=Knowledge(1 << 20, CPU)))
    made.run("crown")
    known = [n for n in made.task.indices if n in made.task.knowledge]
    assert 1 < len(known) < len(made.task) - 1
    asked: list[tuple[int, ...]] = []

    def spy(subject: Subject, task: Task, budget: MemoryBudget) -> NodeBounds:
        asked.append(task.indices)
        return root_bounds(subject, task, budget)

    monkeypatch.setattr(roots, "root_bounds", spy)
    found = roots.learned(made.subject, made.task, root_budget(1 << 30)).bounds
    assert asked == [tuple(n for n in made.task.indices if n not in known)]
    fresh = root_bounds(made.subject, made.task, root_budget(1 << 30))
    for place, lower in fresh.lower.items():
        torch.testing.assert_close(found.lower[place], lower)
        torch.testing.assert_close(found.upper[place], fresh.upper[place])


@pytest.mark.parametrize("spare", [0, 1])
def test_slopes_are_handed_on_for_the_rows_that_they_belong_to(
    made: Setup, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    queries: list[SearchQuery] = []

    def nothing_found(query: SearchQuery, *_: object) -> Iterator[Decision]:
        queries.append(query)
        return iter(())

    monkeypatch.setattr(branch_and_bound, "search", nothing_found)
    spec = made.task.spec
    chosen = Specification(spec.rows, spec.offsets - 0.5 * spare, spare)
    made = replace(made, task=replace(made.task, spec=chosen, knowledge=Knowledge(1 << 20, CPU)))
    open_ = [p for p, d in made.run("alpha-crown").items() if d.status is Status.UNKNOWN]
    task = task_of(made.instances, open_, made.task.knowledge)
    task = replace(task, spec=chosen[torch.tensor(open_)])
    assert list(made.stage("branch-and-bound").run(task)) == []
    (query,) = queries
    assert (query.start is None) == (spare > 0)


def test_what_precedes_a_search_is_charged_to_it(
    made: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine seconds for all instances together, of the seconds of each."""
    queries: list[SearchQuery] = []

    def all_open(query: SearchQuery, *_: object) -> Iterator[Decision]:
        queries.append(query)
        for place in range(len(query.box)):
            yield Decision(place, Status.UNKNOWN, reason=Reason.TIMEOUT, seconds=2.0)

    monkeypatch.setattr(branch_and_bound, "search", all_open)
    clock = iter([10.0, 19.0])
    rows, count = made.instances.rows, len(made.task)
    stage = branch_and_bound.BranchAndBoundStage(
        made.subject, rows, 1 << 28, SEARCH, lambda: next(clock)
    )
    decisions = list(stage.run(made.task))
    (query,) = queries
    assert query.deadlines.seconds.tolist() == pytest.approx([20 - 9 / count] * count)
    assert [d.seconds for d in decisions] == pytest.approx([2 + 9 / count] * count)


@pytest.mark.parametrize("spare", [0, 1])
def test_rows_that_were_not_bounded_in_time_are_searched(made: Setup, spare: int) -> None:
    fresh = made.run("branch-and-bound")
    task = replace(made.task, has_time=lambda: False, knowledge=Knowledge(1 << 20, CPU))
    task = replace(task, spec=replace(task.spec, spare=spare))
    stage = made.stage("branch-and-bound")
    stage._budget = root_budget(1)  # type: ignore[attr-defined]  # a row at a time
    least = sampled_margins(made.subject.exact, task, task.spec)
    verified = 0
    for decision in stage.run(task):
        if spare == 0 and fresh[decision.place].status is Status.FALSIFIED:
            assert decision.status is not Status.VERIFIED
        if decision.status is Status.VERIFIED:
            verified += 1
            assert decision.bound is not None
            assert decision.bound <= float(least[decision.place])
    assert verified > 0


@pytest.mark.parametrize("name", ["ibp", "crown"])
def test_bounds_of_an_affine_network_are_exact(name: StageName) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(3, 4)
    made = setup(network_from_module(layer, (3,)), 8, 0.1)
    box, spec = made.task.box, made.task.spec
    slopes = torch.einsum("nsk,ki->nsi", spec.rows, layer.weight.detach().double())
    centre = spec.values(made.subject.exact(box.center))
    exact = (centre - torch.einsum("nsi,ni->ns", slopes.abs(), box.radius)).amin(1)
    for place, decision in made.run(name).items():
        assert decision.bound == pytest.approx(exact[place].item(), abs=1e-12)


def answering(made: Setup, replay: Any) -> Setup:
    """The same with another replay."""
    return replace(made, network=replace(made.network, replay=replay))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_file_that_answers_nan_is_unknown_for_good(made: Setup, value: float) -> None:
    broken = answering(made, lambda x: torch.full((len(x), made.network.outputs), value))
    decisions = broken.run("clean")
    assert sorted(decisions) == list(range(len(made.task)))
    for decision in decisions.values():
        assert (decision.status, decision.reason) == (Status.UNKNOWN, Reason.NOT_FINITE)
        assert decision.final


@pytest.mark.parametrize("name", ["attack", "branch-and-bound"])
def test_a_candidate_that_does_not_replay_is_no_counterexample(
    made: Setup, name: StageName
) -> None:
    falsified = [p for p, d in made.run(name).items() if d.status is Status.FALSIFIED]
    assert falsified
    # Answers class 0 whatever the input; images of class 0 cannot be broken then.
    one_hot = torch.eye(made.network.outputs)[0]
    stubborn = answering(made, lambda x: one_hot.expand(len(x), -1))
    decisions = stubborn.run(name)
    for place in falsified:
        if made.instances.label(place) == 0:
            assert decisions[place].status is Status.UNKNOWN
            assert decisions[place].reason is Reason.NOT_REPLAYED
        else:
            assert decisions[place].status is Status.FALSIFIED


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (1, 2, 0), (2, 1, 0)])
def test_the_rows_that_have_to_hold_are_those_that_are_searched(order: tuple[int, ...]) -> None:
    """``|x| - 0.1``, ``|x| + 5`` and ``|x| - 9`` over [-1, 1], of which one may fail: two do."""
    rows = torch.tensor(order)
    offsets = torch.tensor([-0.1, 5.0, -9.0])[rows].tolist()
    graph = chain((1,), linear([[1], [-1]]), Relu(), linear([[1, 1]] * 3, offsets))
    ends = torch.ones(1, 1, dtype=torch.float64)
    spec = Specification(
        torch.eye(3, dtype=torch.float64).unsqueeze(0), torch.zeros(1, 3).double(), 1
    )
    subject = Subject.of(graph, lambda x: graph(x.double()).float(), CPU)
    box = Box(-ends, ends)
    knowledge = Knowledge(1 << 20, CPU)
    task = Task((0,), box, spec, box.center.float(), 20 * ends[0], knowledge, lambda: True)
    stage = branch_and_bound.BranchAndBoundStage(subject, 3, 1 << 28, SEARCH, lambda: 0.0)
    (decision,) = stage.run(task)
    assert decision.status is not Status.VERIFIED


ROWS = Specification(torch.zeros(4, 2, 1).double(), torch.zeros(4, 2).double())


def test_bounds_that_are_not_finite_decide_nothing() -> None:
    lower = torch.tensor([[1.0, 2.0], [1.0, torch.nan], [-torch.inf, 1.0], [torch.inf, 1.0]])
    found = list(decisions_of(ROWS, lower.double()))
    assert [decision.status for decision in found] == [Status.VERIFIED, *[Status.UNKNOWN] * 3]
    assert {decision.reason for decision in found[1:]} == {Reason.NOT_FINITE}
    (tie,) = decisions_of(ROWS[:1], torch.zeros(1, 2, dtype=torch.float64))
    assert tie.status is Status.UNKNOWN
    with pytest.raises(ValueError, match="float64"):
        list(decisions_of(ROWS, lower))
