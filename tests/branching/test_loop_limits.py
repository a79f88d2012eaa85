"""Where the loop stops: pauses, memory, deadlines, numbers of subproblems; and who comes first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.branching.valleys import (
    F64,
    Parts,
    Slow,
    Valleys,
    Watch,
    decided,
    searching,
)
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.search.loop import SearchLimits, Step
from verify_pipeline.problem import Decision, Reason, Status

# --- pauses ----------------------------------------------------------------------------------


def by_place(found: dict[int, Decision]) -> list[Any]:
    return [(found[n].status, found[n].bound, found[n].reason) for n in sorted(found)]


def test_one_that_had_its_work_rests_until_it_is_allowed_more() -> None:
    kind = Valleys([1e-3, 1e-3, 0.4])
    search, whole = searching(kind), by_place(decided(searching(Valleys([1e-3, 1e-3, 0.4]))))
    found = decided(search, allowed=torch.tensor([10.0, 0.0, 1e9], dtype=F64))
    assert list(found) == [2]
    work = search.books.work.clone()
    assert work[0] >= 10.0
    assert work[1] == 1.0  # its root
    assert decided(search, allowed=work) == {}
    assert search.books.work.equal(work)
    found |= decided(search)
    assert by_place(found) == whole


def test_a_pause_does_not_make_batches_smaller() -> None:
    """Sizes follow from the seconds of subproblems, not from who may go on."""
    watch = Watch()
    kind = Slow([1e-3], watch)
    kind.batch = 64
    search = searching(kind, seconds=1e9, clock=watch)
    decided(search, allowed=torch.tensor([40.0], dtype=F64))
    size = search._meter.size
    assert size == 64
    assert decided(search, allowed=torch.tensor([40.0], dtype=F64)) == {}
    assert search._meter.size == size


def test_no_batch_begins_after_a_time() -> None:
    watch = Watch()
    kind = Slow([1e-3, 1e-3], watch)
    search, found = searching(kind, clock=watch), {}
    whole = by_place(decided(searching(Valleys([1e-3, 1e-3]))))
    assert decided(search, until=0.0) == {}
    assert kind.steps == []
    turns = 0
    while len(found) < 2:
        before = watch.now
        found |= decided(search, until=watch.now + 5)
        assert watch.now <= before + 5 + 2 * kind.batch
        turns += 1
    assert turns > 3
    assert by_place(found) == whole


def test_one_that_is_left_in_the_middle_can_be_taken_up_again() -> None:
    """Whoever takes one decision and asks anew for the next loses no part, and none is twice."""
    least = [0.4, 1e-3, 2.0, 0.0, -0.2]
    whole = by_place(decided(searching(Valleys(least))))
    kind = Valleys(least)
    search, found = searching(kind), {}
    while len(found) < len(least):
        one = next(search.run())
        assert one.place not in found
        found[one.place] = one
        waiting = search.books.count(search._waiting.instance)
        going = ~search.books.ended
        assert (search.frontier.counts + waiting)[going].equal(search.books.open[going])
    assert by_place(found) == whole
    assert next(search.run(), None) is None


# --- memory ----------------------------------------------------------------------------------


class Tight(Valleys):
    """No more than so many parts have room at once; some instances have none."""

    def __init__(self, least: list[float], room: int, never: int = -1) -> None:
        super().__init__(least)
        self.room, self.never, self.failed = room, never, 0

    def bound(self, roots: Parts, meter: Meter) -> Step[Parts]:
        split = bool((roots.share < 1).any())
        if len(roots) > self.room or (split and bool((roots.instance == self.never).any())):
            self.failed += 1
            raise MemoryError
        return super().bound(roots, meter)


def test_batches_are_halved_where_memory_ends() -> None:
    kind = Tight([1e-3] * 9 + [-0.2, 0.4], room=3)
    kind.batch = 64
    found = decided(searching(kind))
    assert by_place(found) == by_place(decided(searching(Valleys([1e-3] * 9 + [-0.2, 0.4]))))
    assert 1 <= kind.failed <= 6
    assert max(map(len, kind.steps)) <= 3


def test_one_without_room_alone_ends_and_the_others_go_on() -> None:
    kind = Tight([1e-3, 1e-3, 0.4], room=64, never=1)
    found = decided(searching(kind))
    assert (found[1].status, found[1].reason) == (Status.UNKNOWN, Reason.MEMORY)
    assert found[0].status is found[2].status is Status.VERIFIED


def test_no_room_for_a_single_root_ends_its_instance() -> None:
    found = decided(searching(Tight([0.4, 0.5], room=0)))
    assert [found[n].reason for n in (0, 1)] == [Reason.MEMORY, Reason.MEMORY]


def test_steps_without_room_are_charged() -> None:
    watch = Watch()

    class SlowAndTight(Slow):
        def bound(self, roots: Parts, meter: Meter) -> Step[Parts]:
            step = super().bound(roots, meter)
            if len(roots) > 2:
                raise MemoryError
            return step

    found = decided(searching(SlowAndTight([0.4] * 4, watch), clock=watch))
    assert all(one.status is Status.VERIFIED for one in found.values())
    assert sum(one.seconds or 0.0 for one in found.values()) == pytest.approx(watch.now)


def test_other_errors_are_not_hidden() -> None:
    kind = Valleys([0.4])

    def faulty(roots: Parts, meter: Meter) -> Step[Parts]:
        raise ValueError("shapes")

    kind.bound = faulty  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="shapes"):
        decided(searching(kind))


# --- limits ----------------------------------------------------------------------------------


def test_deadlines_end_instances_and_leave_the_others() -> None:
    watch = Watch()
    found = decided(searching(Slow([0.0, 0.4, 0.0], watch), seconds=[20, 1e9, 60], clock=watch))
    assert [found[n].reason for n in range(3)] == [Reason.TIMEOUT, None, Reason.TIMEOUT]
    assert found[0].seconds is not None
    assert 20 <= found[0].seconds <= 22
    assert found[2].seconds is not None
    assert 60 <= found[2].seconds <= 66
    assert sum(one.seconds or 0.0 for one in found.values()) == pytest.approx(watch.now)


def test_what_one_leaves_of_its_time_is_its_groups() -> None:
    watch = Watch()
    search = searching(Slow([0.0, 2.0, 0.0], watch), seconds=20, clock=watch, group=[0, 0, 1])
    found = decided(search)
    seconds = [found[n].seconds or 0.0 for n in range(3)]
    assert 38 <= seconds[0] + seconds[1] <= 44
    assert 20 <= seconds[2] <= 22


def test_one_that_took_its_number_of_subproblems_ends() -> None:
    found = decided(searching(Valleys([0.0, 2.0, 0.0]), SearchLimits(subproblems=7)))
    assert [found[n].reason for n in range(3)] == [Reason.BUDGET, None, Reason.BUDGET]
    assert 7 < found[0].subproblems <= 7 + 2 * 4


def test_the_instance_that_holds_most_ends_where_there_is_no_room() -> None:
    """One whose every part stays open, beside one of which few do."""

    class Wide(Valleys):
        def bound(self, roots: Parts, meter: Meter) -> Step[Parts]:
            step = super().bound(roots, meter)
            wide = roots.instance == 1
            return replace(step, proved=torch.where(wide, -1.0, step.proved))

    kind = Wide([1e-3, 1.0], narrowest=0.0)
    search = searching(kind, SearchLimits(bytes=40 * kind.roots().subproblems.bytes_each))
    found = decided(search)
    assert (found[1].status, found[1].reason) == (Status.UNKNOWN, Reason.BUDGET)
    assert found[0].status is Status.VERIFIED


@pytest.mark.parametrize(
    ("limits", "reason", "earliest"),
    [
        (SearchLimits(give_up=1e-9), Reason.GIVEN_UP, 0.15),
        (SearchLimits(patience=1e-9), Reason.NOT_DECIDED, 0.5),
        (SearchLimits(), Reason.TIMEOUT, 1.0),
    ],
)
def test_one_without_hope_is_given_up_or_left_to_others(
    limits: SearchLimits, reason: Reason, earliest: float
) -> None:
    watch = Watch()
    found = decided(searching(Slow([0.0, 2.0], watch, 0.1), limits, [20, 20], watch))
    assert (found[0].status, found[0].reason) == (Status.UNKNOWN, reason)
    assert found[0].seconds is not None
    assert earliest * 20 <= found[0].seconds <= (earliest + 0.1) * 20
    assert found[1].status is Status.VERIFIED


def test_one_that_another_search_has_nearly_closed_is_not_given_up() -> None:
    watch = Watch()
    search = searching(Slow([0.0], watch, 0.1), SearchLimits(give_up=1.0), 20, watch)
    found: dict[int, Decision] = {}
    while not found:
        found = decided(search, allowed=search.books.work + 1)
        search.searched_elsewhere(0, 0.0, 0, 1 - min(1.0, 1.2 * float(search.books.used)))
    assert found[0].reason is Reason.TIMEOUT


# --- fairness --------------------------------------------------------------------------------


def test_every_instance_has_a_part_in_each_batch_before_any_has_two() -> None:
    kind = Valleys([0.0] * 3)
    kind.batch = 6
    decided(searching(kind, SearchLimits(subproblems=60)))
    for step in kind.steps[2:8]:
        counts = [step.count(n) for n in range(3)]
        assert max(counts) - min(counts) <= 2  # parts come in pairs


def test_the_one_that_was_served_least_comes_first() -> None:
    watch = Watch()
    kind = Slow([0.0] * 3, watch)
    kind.batch = 1
    search = searching(kind, SearchLimits(subproblems=30), [100.0, 200.0, 400.0], watch)
    decided(search)
    served = [step[0] for step in kind.steps[3:]]
    first = served[:14]
    # in proportion to their seconds: of 7, 1, 2 and 4
    assert [first.count(n) for n in range(3)] == [2, 4, 8]


def test_the_worst_part_comes_first() -> None:
    """Best first: the part with the minimum is split down to a leaf before any other."""
    kind = Valleys([0.01], narrowest=2**-5)
    kind.batch, kind.breaks = 1, False
    search = searching(kind)
    seen = []
    while not bool(search.books.ended.all()):
        frontier = search.frontier.all()
        if len(frontier):
            seen.append(float(frontier.lower.min()))
        decided(search, allowed=search.books.work + 1)
    assert seen == sorted(seen)
