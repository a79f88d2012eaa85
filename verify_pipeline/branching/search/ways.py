"""All kinds of splits, one after the other: if one cannot decide an instance, the next continues.

ReLUs are split first (and boxes are cut into cells), then intervals of smooth neurons are cut, and
finally inputs are halved, which every network allows. A *way* is a kind of split with a share of an
instance's time. A kind that may not suffice leaves a part of the time to the next one. An instance
ends when it is decided or its time is used up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds import MemoryBudget
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.input_split import InputSplits
from verify_pipeline.branching.search.interval_split import (
    IntervalSplits,
    can_be_cut,
    has_smooth_neurons,
)
from verify_pipeline.branching.search.loop import ReplayAt, Search, SearchLimits
from verify_pipeline.branching.search.portfolio import search_in_turns
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.tree.splittable import is_splittable
from verify_pipeline.problem import Counterexample, Decision, Reason, Status

ENDS_OF_A_PART = (
    Reason.EXHAUSTED,
    Reason.TIMEOUT,
    Reason.GIVEN_UP,
    Reason.BUDGET,
    Reason.MEMORY,
)
"""Reasons for UNKNOWN of a way with a part of the time, after which the next way continues."""

ENDS_OF_ALL = (Reason.EXHAUSTED,)
"""Reasons for UNKNOWN of a way with all of the time, after which the next way continues."""

Decide = Callable[[SearchQuery, ReplayAt], Iterator[Decision]]
"""Decides each instance of a query once; replays get the index of an instance in this query."""


@dataclass(frozen=True)
class Way:
    """A kind of split and its share of the time.

    Attributes:
        decide: runs the search with this kind of split.
        share: the share of an instance's time that it may use.
    """

    decide: Decide
    share: float = 1.0

    @property
    def left_open(self) -> tuple[Reason, ...]:
        """Reasons for UNKNOWN after which the next way continues with an instance."""
        return ENDS_OF_A_PART if self.share < 1 else ENDS_OF_ALL


@dataclass(frozen=True)
class InputSplitRoom:
    """Resources of splits of inputs.

    Attributes:
        batch: largest number of parts of boxes that are bounded at once.
        bytes: limit for all open parts.
        budget: memory for the functionals that are bounded at once.
        patience: once half of its seconds are used, an instance is left to other searches if it is
            expected to take more than this multiple of its seconds.
    """

    batch: int
    bytes: int
    budget: MemoryBudget
    patience: float = math.inf


def split_inputs(
    query: SearchQuery,
    settings: SearchSettings,
    room: InputSplitRoom,
    replay: ReplayAt,
    clock: Callable[[], float],
) -> Iterator[Decision]:
    """Decide instances by splits of inputs only; arguments and order as in :func:`search`."""
    kind = InputSplits(query, settings, room.batch, room.budget)
    limits = SearchLimits(None, room.bytes, settings.allowed_multiple, room.patience)
    return Search(kind, limits, query.deadlines, replay, clock).run()


def split_intervals(
    query: SearchQuery, settings: SearchSettings, replay: ReplayAt, clock: Callable[[], float]
) -> Iterator[Decision]:
    """Decide instances by splits of intervals only; arguments and order as in :func:`search`."""
    limits = SearchLimits(settings.max_domains, settings.max_bytes, settings.allowed_multiple)
    kind = IntervalSplits(query, settings)
    return Search(kind, limits, query.deadlines, replay, clock).run()


def search(
    query: SearchQuery,
    settings: SearchSettings,
    room: InputSplitRoom,
    replay: ReplayAt,
    clock: Callable[[], float],
) -> Iterator[Decision]:
    """Decide each instance once, in the order in which the instances end.

    Args:
        query: the instances; there may be none.
        settings: settings of the searches.
        room: resources of splits of inputs.
        replay: called for the points that break a specification.
        clock: returns seconds; the caller's work between two decisions is not charged.
    """
    if len(query) == 0:
        return iter(())
    return in_order(ways(query, settings, room, clock), query, replay)


def ways(
    query: SearchQuery, settings: SearchSettings, room: InputSplitRoom, clock: Callable[[], float]
) -> list[Way]:
    """The ways that suit at least one instance of a network; those that decide most come first."""

    def relus(some: SearchQuery, replay: ReplayAt) -> Iterator[Decision]:
        return search_in_turns(some, settings, replay, clock)

    def intervals(some: SearchQuery, replay: ReplayAt) -> Iterator[Decision]:
        return split_intervals(some, settings, replay, clock)

    def inputs(some: SearchQuery, replay: ReplayAt) -> Iterator[Decision]:
        return split_inputs(some, settings, room, replay, clock)

    free = int((query.box.lower < query.box.upper).flatten(1).sum(1).max())
    share = settings.inputs.share
    few = share if free <= settings.inputs.few else 1.0
    if is_splittable(query.graph) and not query.spec.spare:
        return [Way(relus)]
    if can_be_cut(query.graph):
        return [Way(intervals, few), Way(inputs)]
    if has_smooth_neurons(query.graph):
        return [Way(relus, share), Way(intervals, few), Way(inputs)]
    return [Way(relus, few), Way(inputs)]


def in_order(chosen: list[Way], query: SearchQuery, replay: ReplayAt) -> Iterator[Decision]:
    """Decide each instance once, by one way after the other.

    Args:
        chosen: the ways, at least one.
        query: the instances.
        replay: called for the points that break a specification.
    """
    places = list(range(len(query)))
    before: dict[int, Decision] = {}
    for way in chosen:
        names, is_last = list(places), way is chosen[-1]

        def replay_here(n: int, point: Tensor, names: list[int] = names) -> Counterexample | None:
            return replay(names[n], point)

        going, spent = [], torch.zeros_like(query.deadlines.seconds)
        for found in way.decide(query.with_share(way.share), replay_here):
            spent[found.place] = found.seconds or 0.0
            name = names[found.place]
            ended = _together(before.get(name), replace(found, place=name))
            if is_last or found.reason not in way.left_open:
                yield ended
            else:
                before[name] = ended
                going.append(found.place)
        left = _left_of_groups(query.deadlines, spent, going)
        for n in going:
            if left[n] <= 0:
                yield replace(before[names[n]], reason=Reason.TIMEOUT)
        some = [n for n in going if left[n] > 0]
        if not some:
            return
        query = query[torch.tensor(some, device=query.box.lower.device)]
        query = replace(query, deadlines=Deadlines(left[some], query.deadlines.group))
        places = [names[n] for n in some]


def _left_of_groups(deadlines: Deadlines, spent: Tensor, going: list[int]) -> Tensor:
    """Seconds left for instances that go on, ``N``: equal parts of what their group has left.

    Args:
        deadlines: time limits of the ``N`` instances.
        spent: seconds that each instance has used, ``N``.
        going: indices of the instances that go on.
    """
    _, group = deadlines.group.unique(return_inverse=True)
    total = torch.zeros_like(spent).index_add_(0, group, deadlines.seconds - spent)
    members = torch.bincount(group[going], minlength=len(total)).clamp_min(1)
    return (total / members)[group]


def _together(before: Decision | None, found: Decision) -> Decision:
    """Combine the decisions of two successive searches of an instance."""
    if before is None:
        return found
    bounds = [one.bound for one in (before, found) if one.bound is not None]
    return replace(
        found,
        bound=found.bound if found.status is Status.VERIFIED else max(bounds, default=None),
        seconds=(before.seconds or 0.0) + (found.seconds or 0.0),
        subproblems=before.subproblems + found.subproblems,
    )
