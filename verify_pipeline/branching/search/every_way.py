"""All ways of splitting, one after the other: where one has nothing left to split, the next begins.

ReLUs are split first (and boxes cut into cells), intervals of smooth neurons are cut next, and in
the end the inputs themselves are halved, which every network allows. A way that does not suffice on
its own has half of an instance's time if another one may. An instance goes on until it is decided
or its time is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds import Multipliers, NodeBounds
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.input_split import Accepts, InputSplitLimits, split_inputs
from verify_pipeline.branching.search.interval_split import (
    can_be_cut,
    has_smooth_neurons,
    split_intervals,
)
from verify_pipeline.branching.search.portfolio import search_in_turns
from verify_pipeline.branching.tree.splittable import is_splittable
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Reason, Specification, Status


@dataclass(frozen=True, eq=False)
class SearchQuery:
    """N instances of one network, as searches take them.

    Attributes:
        graph: in float64.
        box: ``N`` boxes.
        spec: ``N`` specifications, some of whose rows may fail.
        sufficient: ``N`` specifications without such rows that are enough for ``spec`` to hold.
        root: float64 bounds over the boxes, of ``bounds.needed_places`` at least.
        deadlines: of the instances.
        start: multipliers of the root's bounds for the rows of ``sufficient``, where known.
    """

    graph: Graph
    box: Box
    spec: Specification
    sufficient: Specification
    root: NodeBounds
    deadlines: Deadlines
    start: Multipliers | None = None

    def __getitem__(self, index: Tensor) -> SearchQuery:
        """Some of the instances."""
        seconds, group = self.deadlines.seconds[index], self.deadlines.group[index]
        return SearchQuery(
            self.graph,
            self.box[index],
            self.spec[index],
            self.sufficient[index],
            self.root[index],
            Deadlines(seconds, group),
            None if self.start is None else self.start[index],
        )


FEW_TO_HALVE = 64
"""Inputs with an interval up to which halving them gets a part of the time; else what is left."""

OF_ONE_WAY = (
    Reason.EXHAUSTED,
    Reason.TIMEOUT,
    Reason.GIVEN_UP,
    Reason.BUDGET,
    Reason.MEMORY,
)
"""Ends of a way that has a part of the time, which say nothing of the next one."""

OF_ALL_TIME = (Reason.EXHAUSTED,)
"""Ends of a way that has all of it, which the next one takes up."""

SHARE = 0.5
"""Of an instance's time, what a way has before the next one begins."""

Decide = Callable[[SearchQuery, Accepts], Iterator[Found]]
"""Decides instances, each found once; asked with places among these whether a point counts."""


@dataclass(frozen=True)
class Way:
    """A way of splitting.

    Attributes:
        decide: splits so.
        share: of an instance's time that it may use.
    """

    decide: Decide
    share: float = 1.0

    @property
    def left_open(self) -> tuple[Reason, ...]:
        """Why an instance may be UNKNOWN here that the next way goes on with."""
        return OF_ONE_WAY if self.share < 1 else OF_ALL_TIME


def search_every_way(
    asked: SearchQuery,
    settings: SearchSettings,
    room: InputSplitLimits,
    accepts: Accepts,
    clock: Callable[[], float],
) -> Iterator[Found]:
    """Decide instances, in the order in which they come to an end; each is found once.

    Args:
        asked: the instances.
        settings: of the searches that split neurons.
        room: of the search that halves boxes.
        accepts: whether a point is a counterexample indeed. Where rows may fail, one that it
            refuses ends nothing; elsewhere the caller says what became of it.
        clock: in seconds.
    """
    ways = _ways(asked, settings, room, clock)
    places = torch.arange(len(asked.box), device=asked.box.lower.device)
    before: dict[int, Found] = {}
    for number, way in enumerate(ways):
        names, is_last = places.tolist(), number == len(ways) - 1
        going: list[Found] = []
        spent = torch.zeros_like(asked.deadlines.seconds)

        def accepts_here(n: int, point: Tensor, names: list[int] = names) -> bool:
            return accepts(names[n], point)

        for found in way.decide(_for_a_share(asked, way.share), accepts_here):
            spent[found.instance] = found.seconds
            place = names[found.instance]
            ended = _together(before.get(place), replace(found, instance=place))
            if not is_last and _goes_on(ended, way, asked.spec, accepts):
                before[place] = ended
                going.append(found)
            else:
                yield ended
        left = _left_of_groups(asked.deadlines, spent, [one.instance for one in going])
        for one in going:
            if left[one.instance] <= 0:
                yield _late(before[names[one.instance]])
        some = [one.instance for one in going if left[one.instance] > 0]
        if not some:
            return
        asked = asked[torch.tensor(some, device=places.device)]
        asked = replace(asked, deadlines=Deadlines(left[some], asked.deadlines.group))
        places = places[some]


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


def _late(found: Found) -> Found:
    """An instance that would have gone on, if it had time."""
    reason = Reason.TIMEOUT if found.status is Status.UNKNOWN else found.reason
    return replace(found, reason=reason)


def _for_a_share(asked: SearchQuery, share: float) -> SearchQuery:
    deadlines = Deadlines(asked.deadlines.seconds * share, asked.deadlines.group)
    return replace(asked, deadlines=deadlines)


def _goes_on(found: Found, way: Way, spec: Specification, accepts: Accepts) -> bool:
    """Whether an instance's end is only that of one way of splitting."""
    if found.status is Status.FALSIFIED and spec.spare and found.point is not None:
        return not accepts(found.instance, found.point)
    return found.reason in way.left_open


def _together(before: Found | None, found: Found) -> Found:
    """What two searches of an instance found, the second one last."""
    if before is None:
        return found
    bounds = [one.bound for one in (before, found) if one.bound is not None]
    return replace(
        found,
        bound=found.bound if found.status is Status.VERIFIED else max(bounds, default=None),
        seconds=before.seconds + found.seconds,
        domains=before.domains + found.domains,
    )


def _ways(
    asked: SearchQuery, settings: SearchSettings, room: InputSplitLimits, clock: Callable[[], float]
) -> list[Way]:
    """Those that fit a network, the ones that decide most first."""

    def splits(asked: SearchQuery, accepts: Accepts) -> Iterator[Found]:
        return search_in_turns(*_of_neurons(asked), settings, asked.deadlines, asked.start, clock)

    def intervals(asked: SearchQuery, accepts: Accepts) -> Iterator[Found]:
        return split_intervals(*_of_neurons(asked), settings, asked.deadlines, asked.start, clock)

    def halves(asked: SearchQuery, accepts: Accepts) -> Iterator[Found]:
        instances = asked.graph, asked.box, asked.spec, asked.root
        return split_inputs(*instances, room, asked.deadlines, accepts, clock)

    free = (asked.box.lower < asked.box.upper).flatten(1).sum(1)
    few = SHARE if int(free.max()) <= FEW_TO_HALVE else 1.0
    if is_splittable(asked.graph) and not asked.spec.spare:
        return [Way(splits)]
    if can_be_cut(asked.graph):
        return [Way(intervals, few), Way(halves)]
    if has_smooth_neurons(asked.graph):
        return [Way(splits, SHARE), Way(intervals, few), Way(halves)]
    return [Way(splits, few), Way(halves)]


def _of_neurons(asked: SearchQuery) -> tuple[Graph, Box, Specification, NodeBounds]:
    return asked.graph, asked.box, asked.sufficient, asked.root
