"""Branch and bound on the input, for boxes with few inputs that vary.

A domain is a part of an instance's box. It is bounded by CROWN in float64; one that is not proved
is halved along one input. (Bunel et al. 2018, arXiv:1711.00455, compare rules for choosing it.) All
open domains of all instances share the batches. An instance is verified when each of its domains
is, and their union is its box. Shape letters: ``N`` instances, ``D`` domains, ``*X`` the input's
shape, ``S`` rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.attacks.falsify import FalsifySettings, falsify
from verify_pipeline.batched import Batched
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    crown_intermediate,
    needed_places,
)
from verify_pipeline.bounds.linear.relaxation_gap import margins_and_gaps
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.evaluate.candidate_points import representable
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.limits.progress_estimate import ProgressEstimate
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.select.input_scores import input_scores
from verify_pipeline.branching.tree.splitting import halved, middle
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Reason, Specification, Status

DESCENT = FalsifySettings(steps=50, targets=1)
"""Of the gradient, in search of a counterexample."""

FIRST_DESCENTS = 1024
"""Domains of an instance after which there are descents, and again whenever they have doubled."""


@dataclass(frozen=True, eq=False)
class _Domains(Batched):
    """Parts of boxes, not proved yet.

    Attributes:
        lower: ``D x *X``.
        upper: ``D x *X``.
        instance: ``D``, whose box each is a part of.
        known: ``D x S``, lower bounds of the rows from the domains that these were cut from.
        bounds: of the nodes that CROWN needs, from the same.
    """

    lower: Tensor
    upper: Tensor
    instance: Tensor
    known: Tensor
    bounds: NodeBounds


@dataclass(frozen=True)
class InputSplitLimits:
    """What a search by halves may use.

    Attributes:
        batch: domains that are bounded at once, at most.
        most: domains that may be open, at most; beyond, the search is given up.
        budget: of functionals bounded at once.
        give_up: times its seconds that an instance may be expected to take (see ``prospects``).
        patience: times its seconds that an instance may be expected to take once half of them are
            gone, or it is left to another search; infinite: there is none.
        dtype: of the points that are looked at.
    """

    batch: int
    most: int
    budget: MemoryBudget
    give_up: float = math.inf
    patience: float = math.inf
    dtype: torch.dtype = torch.float32


GIVES_WAY = 0.5
"""Share of its seconds that an instance is halved for before it is left to another search."""


Accepts = Callable[[int, Tensor], bool]
"""Whether a point ``*X`` of an instance's box, by its place, is a counterexample indeed."""


def split_inputs(
    graph: Graph,
    box: Box,
    spec: Specification,
    root: NodeBounds,
    room: InputSplitLimits,
    deadlines: Deadlines,
    accepts: Accepts,
    clock: Callable[[], float],
) -> Iterator[Found]:
    """Decide instances, in the order in which they come to an end; each is found once.

    Args:
        graph: in float64.
        box: ``N`` boxes, float64.
        spec: ``N`` specifications of S rows, float64.
        root: float64 bounds over the boxes, of ``bounds.needed_places`` at least.
        room: memory.
        deadlines: of the instances.
        accepts: asked of every point that breaks a specification in float64; one that it refuses
            ends nothing.
        clock: in seconds; what the caller does between two found instances is not charged.
    """
    yield from _Search(graph, box, spec, root, room, deadlines, accepts, clock).run()


class _Search:
    """One run over N instances."""

    def __init__(
        self,
        graph: Graph,
        box: Box,
        spec: Specification,
        root: NodeBounds,
        room: InputSplitLimits,
        deadlines: Deadlines,
        accepts: Accepts,
        clock: Callable[[], float],
    ) -> None:
        self._graph, self._box, self._spec = graph, box, spec
        self._room, self._accepts, self._clock = room, accepts, clock
        count, device = len(box), box.lower.device
        self._deadlines = deadlines.to(torch.device("cpu"))
        self._domains = _Domains(
            box.lower,
            box.upper,
            torch.arange(count, device=device),
            torch.full_like(spec.offsets, -torch.inf),
            root.only(needed_places(graph)),
        )
        self._open = torch.ones(count, dtype=torch.bool)
        self._spent = torch.zeros(count, dtype=torch.float64)
        self._least = torch.full((count,), torch.inf, dtype=torch.float64)
        self._looked_at = torch.zeros(count, dtype=torch.int64)
        self._undefined: set[int] = set()
        allowed = self._deadlines.shared().to(torch.float64)
        self._prospects = ProgressEstimate(allowed, room.give_up)
        self._slow = ProgressEstimate(allowed, room.patience)

    def run(self) -> Iterator[Found]:
        while bool(self._open.any()):
            began = self._clock()
            batch = self._take()
            visits = torch.bincount(batch.instance.cpu(), minlength=len(self._open))
            doublings = (self._looked_at / FIRST_DESCENTS).log2().floor()
            self._looked_at += visits
            again = (self._looked_at / FIRST_DESCENTS).log2().floor() > doublings
            doubled = again & (self._looked_at >= FIRST_DESCENTS)
            left = (self._deadlines.seconds - self._spent).clamp(min=0) * len(batch) / visits
            until = began + float(left[visits > 0].min())
            broken, stuck = self._step(batch, doubled.to(batch.instance.device), until)
            self._spent += (self._clock() - began) * visits / len(batch)
            yield from self._ended(broken, stuck)

    def _take(self) -> _Domains:
        """The least bounded domains of each open instance, each instance's in equal number."""
        domains = self._domains
        order = self._spec[domains.instance].least(domains.known).argsort()
        order = order[domains.instance[order].argsort(stable=True)]
        counts = torch.bincount(domains.instance, minlength=len(self._open))
        first = counts.cumsum(0) - counts
        rank = torch.arange(len(domains), device=order.device) - first[domains.instance[order]]
        quota = max(self._room.batch // int(self._open.sum()), 1)
        chosen = rank < quota
        batch = domains[order[chosen]]
        self._domains = domains[order[~chosen]]
        return batch

    def _step(
        self, batch: _Domains, doubled: Tensor, until: float
    ) -> tuple[dict[int, Tensor], set[int]]:
        """Bound a batch, look for counterexamples, and cut what is not proved.

        Args:
            batch: ``D`` domains.
            doubled: ``N`` booleans, instances whose domains have doubled in number.
            until: the clock's seconds from which on bounds are no longer improved.

        Returns:
            Counterexamples of instances that have one, and the instances with a domain that is
            as small as float64 allows.
        """
        graph, spec = self._graph, self._spec[batch.instance]
        box = Box(batch.lower, batch.upper)

        def has_time() -> bool:
            return self._clock() < until

        bounds = crown_intermediate(graph, box, batch.bounds, self._room.budget, has_time)
        bounds = bounds.only(needed_places(graph))
        found, slack = margins_and_gaps(graph, box, spec, bounds)
        lower = torch.maximum(sound_lower(found.lower), batch.known)
        least = spec.least(lower)
        proved = least > 0
        self._least.scatter_reduce_(0, batch.instance[proved].cpu(), least[proved].cpu(), "amin")
        left = (~proved).nonzero().flatten()
        if not len(left):
            return {}, set()
        worst = lower[left].argsort(1)[:, spec.spare]
        slopes = found.coefficients[left, worst]
        open_ones = replace(batch, known=lower, bounds=bounds)[left]
        broken = self._break(open_ones, slopes, worst, doubled[open_ones.instance])
        whole = self._box[open_ones.instance]
        scores = input_scores(
            graph,
            Box(open_ones.lower, open_ones.upper),
            open_ones.bounds,
            {place: lost[left] for place, lost in slack.items()},
            slopes,
            whole.upper - whole.lower,
        )
        halves, stuck = _halved(open_ones, scores)
        self._domains = self._domains.with_more(halves)
        return broken, stuck

    def _break(
        self, domains: _Domains, slopes: Tensor, row: Tensor, chosen: Tensor
    ) -> dict[int, Tensor]:
        """Counterexamples at the corners where the linear bounds are least, and at the middles.

        Where ``chosen`` (``D`` booleans) says so, descents of a row begin at the middles, too.
        """
        corner = torch.where(slopes > 0, domains.lower, domains.upper)
        centre = middle(domains.lower, domains.upper)
        descended = self._descend(centre[chosen], domains.instance[chosen], row[chosen])
        points = torch.cat([corner, centre, descended])
        instance = torch.cat([domains.instance.repeat(2), domains.instance[chosen]])
        points = representable(points, self._box[instance], self._room.dtype)
        with torch.no_grad():
            outputs = self._graph(points.double())
            spec = self._spec[instance]
            margins = spec.least(spec.values(outputs))
        self._undefined |= set(instance[~torch.isfinite(outputs).all(1)].tolist())
        found: dict[int, Tensor] = {}
        for d in (margins <= 0).nonzero().flatten().tolist():
            n = int(instance[d])
            if n not in found and self._accepts(n, points[d]):
                found[n] = points[d]
        return found

    def _descend(self, start: Tensor, instance: Tensor, row: Tensor) -> Tensor:
        """Points ``D x *X`` of the whole boxes, low in a row ``D`` or, some being spare, in all."""
        if len(start) == 0:
            return start
        spec = self._spec[instance]
        if spec.spare == 0:
            places = torch.arange(len(row), device=row.device)
            spec = Specification(
                spec.rows[places, row].unsqueeze(1), spec.offsets[places, row].unsqueeze(1)
            )
        seeds = range(len(start))
        return falsify(self._graph, self._box[instance], spec, start, DESCENT, seeds).points

    def _ended(self, broken: dict[int, Tensor], stuck: set[int]) -> Iterator[Found]:
        """What has come to an end; its domains are dropped, and its time is left to its group."""
        waiting = torch.bincount(self._domains.instance.cpu(), minlength=len(self._open))
        too_many = len(self._domains) > self._room.most
        hopeless = self._prospects.hopeless(self._spent, self._open, self._open_share)
        slow = self._slow.hopeless(self._spent, self._open, self._open_share)
        ended = []
        for n in self._open.nonzero().flatten().tolist():
            reason, bound, status = None, None, Status.UNKNOWN
            if n in broken:
                status = Status.FALSIFIED
            elif n in self._undefined:
                reason = Reason.NOT_FINITE  # at a point that was looked at: no part helps
            elif n in stuck:
                reason = Reason.EXHAUSTED
            elif waiting[n] == 0:
                status, bound = Status.VERIFIED, float(self._least[n])
            elif too_many:
                reason = Reason.BUDGET
            elif self._spent[n] >= self._deadlines.seconds[n]:
                reason = Reason.TIMEOUT
            elif n in hopeless:
                reason = Reason.GIVEN_UP
            elif n in slow and self._spent[n] >= GIVES_WAY * self._deadlines.seconds[n]:
                reason = Reason.NOT_DECIDED
            else:
                continue
            ended.append(n)
            self._open[n] = False
            self._deadlines = self._deadlines.after(n, self._spent, self._open)
            seconds, domains = float(self._spent[n]), int(self._looked_at[n])
            yield Found(n, status, bound, broken.get(n), seconds, domains, reason)
        if ended:
            instance = self._domains.instance
            self._domains = self._domains[self._open.to(instance.device)[instance]]

    def _open_share(self) -> Tensor:
        """Of each instance's box, ``N``."""
        domains, whole = self._domains, self._box[self._domains.instance]
        width = (domains.upper - domains.lower).flatten(1)
        entire = (whole.upper - whole.lower).flatten(1)
        share = torch.where(entire > 0, width / entire, torch.ones_like(width)).prod(1)
        return torch.zeros_like(self._spent).index_add_(0, domains.instance.cpu(), share.cpu())


def _halved(domains: _Domains, scores: Tensor) -> tuple[_Domains, set[int]]:
    """Both halves of each domain, ``2 D``, and the instances of those that cannot be halved.

    Args:
        domains: ``D``.
        scores: ``D x I``; the input of the greatest is cut, if float64 has a number in between.
    """
    lower, upper = domains.lower.flatten(1), domains.upper.flatten(1)
    between = middle(lower, upper)
    divisible = (lower < between) & (between < upper)
    # no score, however low, is below that of an input that cannot be cut
    scores = scores.clamp(min=torch.finfo(scores.dtype).min)
    axis = torch.where(divisible, scores, -torch.inf).argmax(1)
    stuck = ~divisible.any(1)
    below, above = halved(lower, upper, axis)
    shape = domains.lower.shape[1:]
    halves = replace(
        _Domains.cat([domains, domains]),
        lower=below.unflatten(1, shape),
        upper=above.unflatten(1, shape),
    )
    return halves, set(domains.instance[stuck].tolist())
