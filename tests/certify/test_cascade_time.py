"""The cascade around any stages: time, deadlines, and seconds that are shared."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from verify_pipeline.bounds import needed_places
from verify_pipeline.bounds.intermediate import tighten as intermediate
from verify_pipeline.certify.cascade import CascadeLimits
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.shared_time import SharedTimeBudget
from verify_pipeline.certify.stage_settings import StageShares
from verify_pipeline.certify.stages.crown import CrownStage
from verify_pipeline.onnx import network_from_module
from verify_pipeline.problem import Decision, Reason, Status, Verdict

CPU = torch.device("cpu")
Verdicts = dict[int, Verdict]
Stages = Callable[..., Any]


def test_time_is_charged_by_share_and_adds_up(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:

    def work(task: Task) -> Iterator[Decision]:
        clock.now += 8.0
        yield Decision(0, Status.VERIFIED, bound=1.0)
        clock.now += 3.0
        yield Decision(1, Status.VERIFIED, bound=1.0)
        clock.now += 4.0

    verdicts = certify(4, fake(work), clock=clock)
    assert [verdicts[n].seconds for n in range(4)] == [2.0, 3.0, 5.0, 5.0]
    assert sum(verdict.seconds for verdict in verdicts.values()) == clock.now


def test_time_that_a_stage_charges_itself_counts_instead(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    def work(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.VERIFIED, bound=1.0, seconds=7.0)
        yield Decision(1, Status.UNKNOWN, reason=Reason.BUDGET, seconds=9.0)

    verdicts = certify(2, fake(work))
    assert [verdicts[n].seconds for n in (0, 1)] == [7.0, 9.0]
    assert verdicts[1].reason is Reason.BUDGET


def test_a_deadline_that_passed_ends_the_image_and_the_rest_of_it_is_passed_on(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:
    left: list[float] = []

    def slow(task: Task) -> Iterator[Decision]:
        clock.now += 6.0
        yield Decision(0, Status.UNKNOWN, bound=-2.0, seconds=10.0)

    def watch(task: Task) -> Iterator[Decision]:
        left.extend(task.seconds.tolist())
        yield from ()

    room = CascadeLimits(10.0, 1 << 20, CPU)
    verdicts = certify(2, fake(slow, name="slow"), fake(watch), room=room, clock=clock)
    assert (verdicts[0].reason, verdicts[0].stage) == (Reason.TIMEOUT, "slow")
    assert verdicts[0].bound == -2.0
    assert left == [7.0]


def test_a_task_has_time_until_its_shortest_share_is_used_up(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:
    answers: list[bool] = []

    def watch(task: Task) -> Iterator[Decision]:
        for _ in range(3):
            answers.append(task.has_time())
            clock.now += 15.0
        yield from ()

    def uneven(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.UNKNOWN, bound=-1.0, seconds=9.0)

    # Image 0 has 11 of its 20 seconds left, so the two together have 22.
    room = CascadeLimits(20.0, 1 << 20, CPU)
    certify(2, fake(uneven), fake(watch), room=room, clock=clock)
    assert answers == [True, True, False]


def test_who_is_late_after_the_last_stage_ran_out_of_time(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:

    def slow(task: Task) -> Iterator[Decision]:
        clock.now += 22.0
        yield Decision(0, Status.UNKNOWN, bound=-2.0)
        yield Decision(1, Status.UNKNOWN, reason=Reason.BUDGET)

    verdicts = certify(2, fake(slow), room=CascadeLimits(10.0, 1 << 20, CPU), clock=clock)
    assert verdicts[0].seconds == 11.0
    assert [verdicts[n].reason for n in (0, 1)] == [Reason.TIMEOUT, Reason.BUDGET]


def test_who_was_in_a_task_that_had_to_hurry_is_given_more_time_if_there_is_more(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:

    def uneven(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.UNKNOWN, bound=-1.0, seconds=9.0)

    def hurries(task: Task) -> Iterator[Decision]:
        while task.has_time():
            clock.now += 1.0
        yield from (Decision(n, Status.UNKNOWN, bound=-1.0) for n in range(len(task)))

    room = CascadeLimits(20.0, 1 << 20, CPU)
    verdicts = certify(2, fake(uneven), fake(hurries), room=room, clock=clock)
    assert [verdicts[n].seconds for n in (0, 1)] == [20.0, 11.0]
    assert [verdicts[n].reason for n in (0, 1)] == [Reason.TIMEOUT, Reason.TIMEOUT]


def test_what_one_instance_of_a_purse_leaves_is_the_others(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:
    purse = SharedTimeBudget(12.0, 3)
    given: list[tuple[list[float], list[int]]] = []

    def watch(task: Task) -> Iterator[Decision]:
        assert task.group is not None
        given.append((task.seconds.tolist(), task.group.tolist()))
        yield from ()

    def early(task: Task) -> Iterator[Decision]:
        yield from watch(task)
        yield Decision(0, Status.VERIFIED, bound=1.0, seconds=1.0)
        yield Decision(1, Status.UNKNOWN, bound=-1.0, seconds=2.0)

    # Image 3 has ten seconds of its own; of the purse 9 are left to two images, not 4 + 2.
    room = CascadeLimits(10.0, 1 << 20, CPU, dict.fromkeys(range(3), purse))
    verdicts = certify(4, fake(early), fake(watch), room=room, clock=clock)
    assert given == [([4.0, 4.0, 4.0, 10.0], [2, 2, 2, 3]), ([4.5, 4.5, 10.0], [1, 1, 2])]
    assert verdicts[0].status is Status.VERIFIED
    assert verdicts[1].reason is Reason.NOT_DECIDED


def test_the_instances_of_a_purse_that_is_closed_are_given_up(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    purse = SharedTimeBudget(12.0, 2)

    def close(task: Task) -> Iterator[Decision]:
        purse.close()
        yield from ()

    def verify(task: Task) -> Iterator[Decision]:
        yield from (Decision(n, Status.VERIFIED, bound=1.0) for n in range(len(task)))

    later = fake(verify)
    room = CascadeLimits(10.0, 1 << 20, CPU, {0: purse, 2: purse})
    verdicts = certify(3, fake(close), later, room=room)
    assert later.seen == [(1,)]
    assert [verdicts[n].reason for n in (0, 2)] == [Reason.TIMEOUT, Reason.TIMEOUT]


def test_a_purse_that_is_emptied_within_a_stage_pays_for_no_other_task(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:
    """Three cases share a second, one in a task: the first takes it all."""
    purse = SharedTimeBudget(1.0, 3)

    def slow(task: Task) -> Iterator[Decision]:
        clock.now += 1.0
        yield Decision(0, Status.UNKNOWN, bound=-1.0)

    alone = fake(slow, largest_task=1)
    room = CascadeLimits(1.0, 1 << 20, CPU, dict.fromkeys(range(3), purse))
    verdicts = certify(3, alone, room=room, clock=clock)
    assert alone.seen == [(0,)]
    assert clock.now == 1.0
    assert [verdicts[n].reason for n in range(3)] == [Reason.TIMEOUT] * 3


def works_until_told(clock: Any, left: list[float], each: float = 1.0) -> Callable[[Task], Any]:
    """A stage that takes what it is given, and notes how much that is by the clock."""

    def work(task: Task) -> Iterator[Decision]:
        began = clock.now
        while task.has_time():
            clock.now += each
        left.extend((float(task.seconds[0]), clock.now - began))
        yield Decision(0, Status.UNKNOWN, bound=-1.0)

    return work


def test_a_stage_that_others_follow_takes_its_share_and_no_more(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:
    given: list[float] = []
    names = ["attack", "crown", "alpha-crown", "branch-and-bound"]
    stages = [fake(works_until_told(clock, given), name=name) for name in names]
    verdicts = certify(1, *stages, room=CascadeLimits(64.0, 1 << 20, CPU), clock=clock)
    assert given == [16.0, 16.0, 36.0, 36.0, 6.0, 6.0, 6.0, 6.0]
    assert (verdicts[0].reason, verdicts[0].seconds) == (Reason.TIMEOUT, 64.0)
    assert verdicts[0].stage == "branch-and-bound"


def test_shares_are_those_of_the_settings(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:
    given: list[float] = []
    names = ["attack", "crown", "alpha-crown", "branch-and-bound"]
    stages = [fake(works_until_told(clock, given), name=name) for name in names]
    shares = StageShares(attack=1 / 8, crown=1 / 2, alpha_crown=1)
    certify(1, *stages, room=CascadeLimits(64.0, 1 << 20, CPU, shares=shares), clock=clock)
    assert given == [8.0, 8.0, 28.0, 28.0, 28.0, 28.0]


@pytest.mark.parametrize("name", ["crown", "alpha-crown", "attack"])
def test_the_last_stage_may_take_all(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any, name: str
) -> None:
    given: list[float] = []
    only = fake(works_until_told(clock, given), name=name)
    verdicts = certify(1, only, room=CascadeLimits(64.0, 1 << 20, CPU), clock=clock)
    assert given == [64.0, 64.0]
    assert verdicts[0].reason is Reason.TIMEOUT


def test_who_used_up_a_share_only_is_not_late(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:
    def leaves_open(task: Task) -> Iterator[Decision]:
        yield Decision(0, Status.UNKNOWN, reason=Reason.BUDGET, bound=-1.0)

    def says_nothing(task: Task) -> Iterator[Decision]:
        yield from ()

    for last, reason in ((leaves_open, Reason.BUDGET), (says_nothing, Reason.NOT_DECIDED)):
        crown = fake(works_until_told(clock, []), name="crown")
        verdicts = certify(1, crown, fake(last), room=CascadeLimits(8.0, 1 << 20, CPU), clock=clock)
        assert (verdicts[0].reason, verdicts[0].seconds) == (reason, 6.0)


def test_who_overran_a_share_and_all_of_its_time_is_late(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:
    crown = fake(works_until_told(clock, [], each=9.0), name="crown")
    verdicts = certify(
        1, crown, fake(lambda task: iter(())), room=CascadeLimits(8.0, 1, CPU), clock=clock
    )
    assert verdicts[0].reason is Reason.TIMEOUT


def test_bounds_that_crown_has_by_then_go_on_to_the_next_stage(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of neurons takes a second: three of more are done by three quarters of the time."""
    torch.manual_seed(0)
    layers = [nn.Linear(3, 6), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Linear(6, 6), nn.ReLU()]
    last = nn.Linear(6, 2)
    module = nn.Sequential(*layers, last)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.mul_(4.0 if "weight" in name else 0.1)  # many neurons are unstable
        last.bias.copy_(torch.tensor([-1e6, 0.0]))
    graph = network_from_module(module, (3,)).graph
    subject = Subject.of(graph, graph, CPU)
    honest, known = intermediate._Crown.solve, []

    def slow(*args: Any) -> torch.Tensor:
        clock.now += 1.0
        return honest(*args)

    def watch(task: Task) -> Iterator[Decision]:
        known.append(task.knowledge.recall(task.indices))
        yield from ()

    monkeypatch.setattr(intermediate._Crown, "solve", slow)
    crown = CrownStage(subject, 1, 1, 1 << 24)
    room = CascadeLimits(4.0, 1 << 24, CPU)
    verdicts = certify(1, crown, fake(watch), room=room, clock=clock)
    assert verdicts[0].reason is Reason.NOT_DECIDED
    assert 3.0 <= verdicts[0].seconds < 4.0
    (learned,) = known
    assert learned is not None
    assert set(learned.bounds.lower) == set(needed_places(subject.exact))
