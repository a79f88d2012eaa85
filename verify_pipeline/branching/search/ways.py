"""All kinds of splits, one after the other: where one has nothing left to split, the next begins.

ReLUs are split first (and boxes cut into cells), intervals of smooth neurons are cut next, and in
the end inputs are halved, which every network allows. A kind that does not suffice on its own has a
part of an instance's time if another one may. An instance goes on until it is decided or its time
is used.
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
"""Ends of a way that has a part of the time, which say nothing of the next one."""

ENDS_OF_ALL = (Reason.EXHAUSTED,)
"""Ends of a way that has all of it, which the next one takes up."""

Decide = Callable[[SearchQuery, ReplayAt], Iterator[Decision]]
"""Decides instances, each once; replays are asked for by the places among these."""


@dataclass(frozen=True)
class Way:
    """A kind of split and the time that it has.

    Attributes:
        decide: splits so.
        share: of an instance's time that it may use.
    """

    decide: Decide
    share: float = 1.0

    @property
    def left_open(self) -> tuple[Reason, ...]:
        """Why an instance may be UNKNOWN here that the next way goes on with."""
        return ENDS_OF_A_PART if self.share < 1 else ENDS_OF_ALL


@dataclass(frozen=True)
class InputSplitRoom:
    """What splits of inputs may use.

    Attributes:
        batch: parts of boxes that are bounded at once, at most.
        bytes: of all open parts.
        budget: of functionals bounded at once.
        patience: times its seconds that an instance may be expected to take once half of them are
            gone; then it is left to other searches.
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
    """Decide instances by splits of inputs alone; arguments and order as of :func:`search`."""
    kind = InputSplits(query, settings, room.batch, room.budget)
    give_up = math.inf if settings.give_up is None else settings.give_up
    limits = SearchLimits(None, room.bytes, give_up, room.patience)
    return Search(kind, limits, query.deadlines, replay, clock).run()


def split_intervals(
    query: SearchQuery, settings: SearchSettings, replay: ReplayAt, clock: Callable[[], float]
) -> Iterator[Decision]:
    """Decide instances by splits of intervals alone; arguments and order as of :func:`search`."""
    give_up = math.inf if settings.give_up is None else settings.give_up
    limits = SearchLimits(settings.max_domains, settings.max_bytes, give_up)
    kind = IntervalSplits(query, settings)
    return Search(kind, limits, query.deadlines, replay, clock).run()


def search(
    query: SearchQuery,
    settings: SearchSettings,
    room: InputSplitRoom,
    replay: ReplayAt,
    clock: Callable[[], float],
) -> Iterator[Decision]:
    """Decide instances, in the order in which they come to an end; each is decided once.

    Args:
        query: the instances.
        settings: of the searches.
        room: of splits of inputs.
        replay: asked of every point that breaks a specification.
        clock: in seconds; what the caller does between two decisions is not charged.
    """
    return in_order(ways(query, settings, room, clock), query, replay)


def ways(
    query: SearchQuery, settings: SearchSettings, room: InputSplitRoom, clock: Callable[[], float]
) -> list[Way]:
    """Those that fit a network, the ones that decide most first."""

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
    """Decide instances by one way after the other; each is decided once.

    Args:
        chosen: the ways, at least one.
        query: the instances.
        replay: asked of every point that breaks a specification.
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
    """Seconds that instances which go on have left, ``N``: equal parts of what is their group's.

    Args:
        deadlines: of the ``N`` instances.
        spent: seconds of each, ``N``.
        going: the places of those that go on.
    """
    _, group = deadlines.group.unique(return_inverse=True)
    total = torch.zeros_like(spent).index_add_(0, group, deadlines.seconds - spent)
    members = torch.bincount(group[going], minlength=len(total)).clamp_min(1)
    return (total / members)[group]


def _together(before: Decision | None, found: Decision) -> Decision:
    """What two searches of an instance found, the second one last."""
    if before is None:
        return found
    bounds = [one.bound for one in (before, found) if one.bound is not None]
    return replace(
        found,
        bound=found.bound if found.status is Status.VERIFIED else max(bounds, default=None),
        seconds=(before.seconds or 0.0) + (found.seconds or 0.0),
        subproblems=before.subproblems + found.subproblems,
    )
