"""The loop's own contract, with intervals of one number whose bounds are exact.

An instance is a function ``least + |x - at|`` over [0, 1], whose least value over an interval is
known. So the search can be compared with the minimum, and everything that a kind of split may do
wrong can be done.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.loop import Roots, Search, SearchLimits, Step
from verify_pipeline.branching.tree.frontier import Subproblems
from verify_pipeline.problem import Counterexample, Decision, Reason, Status

F64 = torch.float64
NO_LIMITS = SearchLimits()
FLAT = 1.0
"""How much worse a bound is than the minimum, for each unit of an interval's width."""


@dataclass(frozen=True, eq=False)
class Parts(Subproblems):
    """Intervals.

    Attributes:
        low: ``D``.
        high: ``D``.
    """

    low: Tensor
    high: Tensor


class Valleys:
    """Splits of intervals; a :class:`SplitKind` of N functions ``least + |x - at|``.

    Args:
        least: of each function, its minimum.
        at: where.
        narrowest: intervals that are no wider are leaves.
    """

    exhausted, refuted = Reason.EXHAUSTED, Reason.NOT_REPLAYED

    def __init__(
        self, least: list[float], at: list[float] | None = None, narrowest: float = 2**-12
    ) -> None:
        self.batch = 4
        self.least = torch.tensor(least, dtype=F64)
        self.at = torch.tensor(at or [0.3] * len(least), dtype=F64)
        self.narrowest = narrowest
        self.unbounded = torch.zeros(len(least), dtype=torch.bool)
        self.steps: list[list[int]] = []
        self.breaks = True

    def roots(self) -> Roots[Parts]:
        zeros = torch.zeros_like(self.least)
        unknown = torch.full_like(zeros, -torch.inf)
        everything = torch.arange(len(zeros))
        whole = Parts(everything, unknown, zeros + 1, zeros, zeros + 1)
        return Roots(unknown.unsqueeze(1), whole)

    def bound(self, roots: Parts, meter: Meter) -> Step[Parts]:
        self.steps.append(roots.instance.tolist())
        n = roots.instance
        nearest = torch.minimum(torch.maximum(self.at[n], roots.low), roots.high)
        value = self.least[n] + (nearest - self.at[n]).abs()
        width = roots.high - roots.low
        lower = torch.maximum(value - FLAT * width, roots.lower)
        middle = (roots.low + roots.high) / 2
        broken = {}
        for d in range(len(n)):
            if self.breaks and float(self.value(int(n[d]), middle[d])) <= 0:
                broken[int(n[d])] = middle[d : d + 1]
        return Step(replace(roots, lower=lower), lower, width <= self.narrowest, broken)

    def split(self, parents: Parts, meter: Meter) -> Step[Parts]:
        middle, twice = (parents.low + parents.high) / 2, parents.with_more(parents)
        low, high = torch.cat([parents.low, middle]), torch.cat([middle, parents.high])
        return self.bound(replace(twice, low=low, high=high, share=twice.share / 2), meter)

    def value(self, n: int, x: Tensor) -> Tensor:
        return self.least[n] + (x - self.at[n]).abs()

    def replay(self, n: int, point: Tensor) -> Counterexample | None:
        margin = float(self.value(n, point[0]))
        return Counterexample(point, torch.tensor([margin]), margin) if margin <= 0 else None


def searching(
    kind: Valleys,
    limits: SearchLimits = NO_LIMITS,
    seconds: float | list[float] = 1e9,
    clock: Callable[[], float] | None = None,
    replay: Any = None,
    group: list[int] | None = None,
) -> Search[Parts]:
    count = len(kind.least)
    each = torch.as_tensor(seconds, dtype=F64).expand(count).clone()
    groups = torch.arange(count) if group is None else torch.tensor(group)
    deadlines = Deadlines(each, groups)
    return Search(kind, limits, deadlines, replay or kind.replay, clock or (lambda: 0.0))


def decided(search: Search[Parts], **more: Any) -> dict[int, Decision]:
    found = list(search.run(**more))
    assert len({one.place for one in found}) == len(found)
    return {one.place: one for one in found}


class Watch:
    """Seconds that go on as a step says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow(Valleys):
    """Each part takes a second."""

    def __init__(self, least: list[float], watch: Watch, each: float = 1.0) -> None:
        super().__init__(least, narrowest=0.0)
        self.watch, self.each = watch, each

    def bound(self, roots: Parts, meter: Meter) -> Step[Parts]:
        self.watch.now += self.each * len(roots)
        return super().bound(roots, meter)


# --- decisions -------------------------------------------------------------------------------


def test_decisions_are_those_of_the_minimum() -> None:
    kind = Valleys([0.25, -0.25, 1e-3, 2.0, 0.0])
    found = decided(searching(kind))
    statuses = [found[n].status for n in range(5)]
    verified, falsified, unknown = Status.VERIFIED, Status.FALSIFIED, Status.UNKNOWN
    assert statuses == [verified, falsified, verified, verified, unknown]
    for n in (0, 2, 3):
        bound = found[n].bound
        assert bound is not None
        assert 0 < bound <= float(kind.least[n])
    assert found[1].counterexample is not None
    assert found[1].counterexample.margin <= 0
    # a tie at a number that no interval has as its middle: leaves are left without a proof
    assert found[4].reason is Reason.EXHAUSTED
    assert found[4].bound is not None
    assert found[4].bound <= 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-0.5, 0.5), st.floats(0, 1)),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 9),
    st.integers(0, 3),
    st.integers(0, 1000),
)
def test_whatever_the_batches_and_pauses_decisions_are_those_of_the_minimum(
    functions: list[tuple[float, float]], batch: int, pauses: int, seed: int
) -> None:
    least, at = [list(values) for values in zip(*functions, strict=True)]
    kind, chance = Valleys(least, at, narrowest=2**-8), random.Random(seed)
    kind.batch = batch
    search, found = searching(kind), {}
    for _ in range(20 * pauses):
        allowed = torch.tensor([chance.uniform(0, 40) for _ in least], dtype=F64)
        found |= decided(search, allowed=search.books.work.minimum(allowed) + allowed / 4)
    found |= decided(search)
    assert sorted(found) == list(range(len(least)))
    for n, one in found.items():
        if one.status is Status.VERIFIED:
            assert one.bound is not None
            assert 0 < one.bound <= least[n]
        elif one.status is Status.FALSIFIED:
            assert one.counterexample is not None
            assert least[n] <= one.counterexample.margin <= 0
        else:  # a minimum within the resolution of leaves
            assert one.reason is Reason.EXHAUSTED
            assert abs(least[n]) <= (1 + FLAT) * kind.narrowest
    assert search.open_share.tolist() == [0.0] * len(least)


def test_every_part_is_closed_open_or_a_leaf() -> None:
    """At any time the shares of all of them are the box, and open ones are counted as such."""
    kind = Valleys([1e-3, 0.0], narrowest=2**-6)
    closed, left = torch.zeros(2, dtype=F64), torch.zeros(2, dtype=F64)
    honest = kind.bound

    def watched(roots: Parts, meter: Meter) -> Step[Parts]:
        step = honest(roots, meter)
        proved = step.proved > 0
        closed.index_add_(0, step.parts.instance[proved], step.parts.share[proved])
        leaves = step.leaves & ~proved
        left.index_add_(0, step.parts.instance[leaves], step.parts.share[leaves])
        return step

    kind.bound = watched  # type: ignore[method-assign]
    search, found = searching(kind), {}
    seen = 0
    while len(found) < 2:
        going = ~search.books.ended
        assert (closed + left + search.open_share)[going].tolist() == [1.0] * int(going.sum())
        waiting = search.books.count(search._waiting.instance)
        assert (search.frontier.counts + waiting)[going].equal(search.books.open[going])
        found |= decided(search, allowed=search.books.work + 1)
        seen += 1
    assert seen > 5
    assert (found[0].status, found[1].status) == (Status.UNKNOWN, Status.UNKNOWN)
    assert left.min() > 0


@pytest.mark.parametrize("bound", [math.nan, math.inf, -math.inf, 0.0, -0.0, -1e-300])
def test_what_proves_nothing_never_closes_a_part(bound: float) -> None:
    """The root, a part of it, or a leaf."""
    for where in ("root", "left", "leaf"):
        kind = Valleys([5.0], narrowest=0.25)
        honest = kind.bound

        def broken(roots: Parts, meter: Meter, where: str = where, honest: Any = honest) -> Any:
            step = honest(roots, meter)
            whole = step.parts.share == 1
            leftmost = (step.parts.low == 0) & ~whole
            spoilt = {"root": whole | leftmost, "left": leftmost, "leaf": leftmost}[where]
            proved = torch.where(spoilt, bound, torch.where(whole, -1.0, step.proved))
            return replace(step, proved=proved)

        kind.bound = broken  # type: ignore[method-assign]
        found = decided(searching(kind))
        assert (found[0].status, found[0].reason) == (Status.UNKNOWN, Reason.EXHAUSTED)
        assert found[0].bound is None or found[0].bound <= 0


def test_an_unproved_leaf_is_never_forgotten() -> None:
    """It is closed first, and all others are proved."""
    kind = Valleys([5.0])
    honest, steps = kind.bound, []

    def one_leaf(roots: Parts, meter: Meter) -> Step[Parts]:
        step = honest(roots, meter)
        steps.append(len(roots))
        none = torch.full_like(step.proved, -torch.inf)
        if len(steps) == 1:
            return replace(step, proved=none, leaves=step.leaves & False)
        if len(steps) == 2:
            leaves = torch.tensor([True, False])
            return replace(step, proved=none, leaves=leaves)
        return step

    kind.bound = one_leaf  # type: ignore[method-assign]
    found = decided(searching(kind))
    assert steps == [1, 2, 2]
    assert (found[0].status, found[0].reason) == (Status.UNKNOWN, Reason.EXHAUSTED)


# --- kinds that do wrong ---------------------------------------------------------------------


@pytest.mark.parametrize("when", ["bound", "split"])
@pytest.mark.parametrize("wrong", ["lost", "made up", "exchanged"])
def test_parts_that_are_lost_or_made_up_are_an_error(when: str, wrong: str) -> None:
    """Counted by instance: one too many of another does not make up for it."""
    kind = Valleys([1e-3, 1e-3])
    honest = getattr(kind, when)

    def faulty(batch: Parts, meter: Meter) -> Step[Parts]:
        step = honest(batch, meter)
        every = torch.arange(len(step.parts))
        if wrong == "lost":
            chosen = every[1:]
        elif wrong == "made up":
            chosen = torch.cat([every, every[:1]])
        else:
            chosen = torch.where(step.parts.instance == 1, every, every.flip(0))
        return Step(step.parts[chosen], step.proved[chosen], step.leaves[chosen])

    setattr(kind, when, faulty)
    with pytest.raises(RuntimeError, match="lost or made up a part"):
        decided(searching(kind))


@pytest.mark.parametrize("row", [-1.0, math.nan, math.inf, 0.0])
def test_a_box_without_a_root_is_an_error(row: float) -> None:
    """One row is proved, the other one is not, and nothing is open."""
    kind = Valleys([1e-3, 1e-3])
    honest = kind.roots

    def faulty() -> Roots[Parts]:
        roots = honest()
        lower = torch.tensor([[1.0, row], [2.0, 3.0]], dtype=F64)
        return Roots(lower, roots.subproblems[:0])

    kind.roots = faulty  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="lost or made up a part"):
        searching(kind)


def test_rows_that_are_proved_at_the_root_need_no_parts() -> None:
    kind = Valleys([1e-3, 1e-3])
    honest = kind.roots

    def roots() -> Roots[Parts]:
        found = honest()
        lower = torch.tensor([[2.0, 0.5], [-torch.inf, 7.0]], dtype=F64)
        return Roots(lower, found.subproblems[1:])

    kind.roots = roots  # type: ignore[method-assign]
    found = decided(searching(kind))
    assert (found[0].status, found[0].bound, found[0].subproblems) == (Status.VERIFIED, 0.5, 0)
    assert found[1].status is Status.VERIFIED
    assert found[1].bound is not None
    assert found[1].bound <= 1e-3


def test_bounds_of_some_rows_are_no_bounds_of_the_box() -> None:
    """Nine rows have a tree each; the first batch has eight, all of which are proved."""

    class Rows(Valleys):
        """Trees of one instance, the last of which cannot be closed."""

        def roots(self) -> Roots[Parts]:
            whole = super().roots().subproblems[torch.zeros(9, dtype=torch.long)]
            lower = torch.full((1, 9), -2.0, dtype=F64)
            marked = replace(whole, share=whole.share / 9, low=torch.arange(9.0).double() / 1e9)
            return Roots(lower, marked)

        def bound(self, roots: Parts, meter: Meter) -> Step[Parts]:
            step = super().bound(roots, meter)
            last = roots.low > 7.5 / 1e9
            proved = torch.where(last, -torch.inf, torch.full_like(step.proved, 0.5))
            return replace(step, proved=proved)

    kind = Rows([0.4], narrowest=2.0)
    kind.batch = 8
    found = decided(searching(kind))
    assert (found[0].status, found[0].reason) == (Status.UNKNOWN, Reason.EXHAUSTED)
    assert found[0].bound == -2.0


def test_the_roots_own_bound_is_told_of_what_is_not_verified() -> None:
    found = decided(searching(Valleys([0.25, -0.3]), SearchLimits(subproblems=2)))
    assert found[0].reason is Reason.BUDGET
    assert found[0].bound == 0.25 - FLAT
    assert found[1].bound == -0.3 - FLAT


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


# --- counterexamples -------------------------------------------------------------------------


def test_a_refused_point_ends_an_instance_without_a_proof() -> None:
    kind = Valleys([-0.2, 0.4])
    kind.refuted = Reason.EXHAUSTED
    found = decided(searching(kind, replay=lambda *_: None))
    assert (found[0].status, found[0].reason) == (Status.UNKNOWN, Reason.EXHAUSTED)
    assert found[0].counterexample is None
    assert found[1].status is Status.VERIFIED


def test_a_refused_point_outweighs_a_proof() -> None:
    """All parts are proved, but the file breaks the specification as the graph has it."""
    kind = Valleys([0.4])
    honest = kind.bound

    def both(roots: Parts, meter: Meter) -> Step[Parts]:
        step = honest(roots, meter)
        proved = torch.ones_like(step.proved)
        return replace(step, proved=proved, broken={0: torch.tensor([0.5])})

    kind.bound = both  # type: ignore[method-assign]
    found = decided(searching(kind, replay=lambda *_: None))
    assert (found[0].status, found[0].reason) == (Status.UNKNOWN, Reason.NOT_REPLAYED)


def test_points_are_replayed_once_under_their_place() -> None:
    asked: list[int] = []
    kind = Valleys([0.4, -0.3, -0.2])

    def replay(n: int, point: Tensor) -> Counterexample | None:
        asked.append(n)
        return kind.replay(n, point)

    found = decided(searching(kind, replay=replay))
    assert sorted(asked) == [1, 2]
    assert found[1].status is found[2].status is Status.FALSIFIED


# --- what cannot be bounded ------------------------------------------------------------------


def test_one_that_cannot_be_bounded_is_left() -> None:
    kind = Valleys([0.4, 0.4])
    kind.unbounded[1] = True
    found = decided(searching(kind))
    assert (found[1].status, found[1].reason) == (Status.UNKNOWN, Reason.NOT_FINITE)
    assert found[0].status is Status.VERIFIED
    assert all(1 not in step for step in kind.steps)


def test_one_that_turns_out_to_be_undefined_is_never_verified() -> None:
    kind = Valleys([0.4, 0.4])
    honest = kind.bound

    def undefined(roots: Parts, meter: Meter) -> Step[Parts]:
        step = honest(roots, meter)
        kind.unbounded[0] |= bool((roots.share == 0.25).any())
        return replace(step, proved=1 - 2 * (roots.share >= 0.25).double())

    kind.bound = undefined  # type: ignore[method-assign]
    found = decided(searching(kind))
    assert (found[0].status, found[0].reason) == (Status.UNKNOWN, Reason.NOT_FINITE)
    assert found[1].status is Status.VERIFIED


def test_a_counterexample_counts_wherever_else_the_function_is_undefined() -> None:
    kind = Valleys([-0.4])
    honest = kind.bound

    def undefined(roots: Parts, meter: Meter) -> Step[Parts]:
        kind.unbounded[0] = True
        return honest(roots, meter)

    kind.bound = undefined  # type: ignore[method-assign]
    found = decided(searching(kind))
    assert found[0].status is Status.FALSIFIED


def test_nothing_to_search_is_nothing_found() -> None:
    assert decided(searching(Valleys([]))) == {}


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
