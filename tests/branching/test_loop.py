"""The loop decides what the minimum decides, whatever a kind of split does wrong."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.branching.valleys import (
    F64,
    FLAT,
    Parts,
    Valleys,
    decided,
    searching,
)
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.search.loop import Roots, SearchLimits, Step
from verify_pipeline.problem import Counterexample, Reason, Status

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
