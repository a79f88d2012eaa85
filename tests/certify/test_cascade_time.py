"""The cascade around any stages: time, deadlines, and seconds that are shared."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from verify_pipeline.certify.cascade import Room
from verify_pipeline.certify.contract import Decision, Task
from verify_pipeline.certify.purses import Purse
from verify_pipeline.problem import Reason, Status, Verdict

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

    room = Room(10.0, 1 << 20, CPU)
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
    room = Room(20.0, 1 << 20, CPU)
    certify(2, fake(uneven), fake(watch), room=room, clock=clock)
    assert answers == [True, True, False]


def test_who_is_late_after_the_last_stage_ran_out_of_time(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:

    def slow(task: Task) -> Iterator[Decision]:
        clock.now += 22.0
        yield Decision(0, Status.UNKNOWN, bound=-2.0)
        yield Decision(1, Status.UNKNOWN, reason=Reason.BUDGET)

    verdicts = certify(2, fake(slow), room=Room(10.0, 1 << 20, CPU), clock=clock)
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

    room = Room(20.0, 1 << 20, CPU)
    verdicts = certify(2, fake(uneven), fake(hurries), room=room, clock=clock)
    assert [verdicts[n].seconds for n in (0, 1)] == [20.0, 11.0]
    assert [verdicts[n].reason for n in (0, 1)] == [Reason.TIMEOUT, Reason.TIMEOUT]


def test_what_one_instance_of_a_purse_leaves_is_the_others(
    certify: Callable[..., Verdicts], fake: Stages, clock: Any
) -> None:
    purse = Purse(12.0, 3)
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
    room = Room(10.0, 1 << 20, CPU, dict.fromkeys(range(3), purse))
    verdicts = certify(4, fake(early), fake(watch), room=room, clock=clock)
    assert given == [([4.0, 4.0, 4.0, 10.0], [2, 2, 2, 3]), ([4.5, 4.5, 10.0], [1, 1, 2])]
    assert verdicts[0].status is Status.VERIFIED
    assert verdicts[1].reason is Reason.NOT_DECIDED


def test_the_instances_of_a_purse_that_is_closed_are_given_up(
    certify: Callable[..., Verdicts], fake: Stages
) -> None:
    purse = Purse(12.0, 2)

    def close(task: Task) -> Iterator[Decision]:
        purse.close()
        yield from ()

    def verify(task: Task) -> Iterator[Decision]:
        yield from (Decision(n, Status.VERIFIED, bound=1.0) for n in range(len(task)))

    later = fake(verify)
    room = Room(10.0, 1 << 20, CPU, {0: purse, 2: purse})
    verdicts = certify(3, fake(close), later, room=room)
    assert later.seen == [(1,)]
    assert [verdicts[n].reason for n in (0, 2)] == [Reason.TIMEOUT, Reason.TIMEOUT]
