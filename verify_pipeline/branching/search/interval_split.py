"""Networks whose activations bend: intervals of neurons are cut, and all behind is bounded anew.

Sigmoid, tanh and their like have no finite set of linear pieces to split into. But over half of an
interval their lines lie much closer, and so do the bounds of every neuron behind. A *piece* of an
instance's box is the part of it where some neurons lie in given intervals; cutting one of them
makes two pieces whose union is the first (branching on general nonlinearities: Shi et al. 2024,
GenBaB, arXiv:2405.21063; here without multipliers for the cuts, but with bounds of neurons that
know of them). The neuron is the one whose line loses most (``relaxation_gap``), the cut is at its
interval's middle, or where a ReLU bends in networks that have some as well. Everything is float64.
The search is not complete: a cut tells the neurons behind it, but not the input.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.attacks.falsify import FalsifySettings, falsify
from verify_pipeline.batched import Batched
from verify_pipeline.bounds import Multipliers, NodeBounds, crown_intermediate, needed_places
from verify_pipeline.bounds.linear.relaxation_gap import is_curved, margins_and_gaps
from verify_pipeline.bounds.memory import functionals_that_fit, unless_memory_ends
from verify_pipeline.bounds.relaxations.relaxed_graph import is_affine
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.candidate_points import evaluate
from verify_pipeline.branching.limits.bookkeeping import Bookkeeping, Found, Pace
from verify_pipeline.branching.limits.progress_estimate import ProgressEstimate
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.tree.frontier import in_turn
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.splitting import Where, bend, halved, middle
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Elementwise, LeakyRelu, Relu
from verify_pipeline.problem import Box, Reason, Specification, Status

NARROW = 1e-6
"""Intervals whose width, relative to their ends, is less are not cut."""


def can_be_cut(graph: Graph) -> bool:
    """Whether all that bends is smooth and has lines: then there is nothing else to split."""
    bent = [node.op for node in graph.nodes if not is_affine(node.op)]
    return bool(bent) and all(isinstance(op, Elementwise) and is_curved(op) for op in bent)


def has_smooth_neurons(graph: Graph) -> bool:
    """Whether something that bends is smooth and has lines, so that its intervals can be cut."""
    return any(isinstance(node.op, Elementwise) and is_curved(node.op) for node in graph.nodes)


@dataclass(frozen=True, eq=False)
class _Pieces(Batched):
    """Open pieces.

    Attributes:
        instance: whose, ``D``.
        rows: lower bounds ``D x S``.
        bounds: of the neurons.
        column: the neuron that each is cut at; -1: none can be.
        share: of the instance's box, a cut halving it; float64.
    """

    instance: Tensor
    rows: Tensor
    bounds: NodeBounds
    column: Tensor
    share: Tensor

    @property
    def bytes(self) -> int:
        """What they take."""
        values = (*self.bounds.lower.values(), *self.bounds.upper.values(), self.rows)
        return sum(value.numel() * value.element_size() for value in values)


def split_intervals(
    graph: Graph,
    box: Box,
    spec: Specification,
    root: NodeBounds,
    settings: SearchSettings,
    deadlines: Deadlines,
    start: Multipliers | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Found]:
    """Decide instances, each found once; see ``search``, whose arguments these are."""
    if len(box) == 0:
        return
    exact = SearchInstances(graph, box, spec, root.only(needed_places(graph))).to(torch.float64)
    rows = functionals_that_fit(graph, len(graph.nodes) - 1, settings.budget, torch.float64)
    limit = max(1, min(settings.batch, rows // (2 * spec.rows.shape[1])))
    pace = Pace(limit, clock)
    cutting = _Cutting(exact, start or Multipliers({}, {}), settings, deadlines)
    yield from cutting.begin(pace)
    yield from cutting.grow(pace)


class _Cutting:
    """The open pieces of all instances, and what becomes of them."""

    def __init__(
        self,
        exact: SearchInstances,
        start: Multipliers,
        settings: SearchSettings,
        deadlines: Deadlines,
    ) -> None:
        self._exact, self._fast = exact, exact.to(torch.float32)
        self._multipliers = start.to(torch.float64)
        self._settings = settings
        graph = exact.graph
        self._places = tuple(p for p, node in enumerate(graph.nodes) if is_curved(node.op))
        self._sources = tuple(graph.nodes[place].inputs[0] for place in self._places)
        self._sizes = tuple(math.prod(graph.nodes[place].shape) for place in self._places)
        unknown = torch.full_like(exact.spec.offsets, -torch.inf)
        everything = torch.arange(len(exact.box), device=unknown.device)
        self._whole = _Pieces(
            everything,
            unknown,
            exact.bounds,
            column=torch.full_like(everything, -1),
            share=torch.ones_like(everything, dtype=torch.float64),
        )
        self._open = self._whole[everything[:0]]
        self.accounts = Bookkeeping(unknown, deadlines)
        factor = math.inf if settings.give_up is None else settings.give_up
        self._prospects = ProgressEstimate(deadlines.shared().to(self.accounts.charged), factor)

    def begin(self, pace: Pace) -> Iterator[Found]:
        """Bound the whole boxes, and look for counterexamples from where that is least."""
        self.accounts.begin(self._whole.instance)
        finite = self._exact.are_finite()
        for n in (~finite).nonzero().flatten().tolist():
            yield self._end(n, Status.UNKNOWN, Reason.NOT_FINITE)
        waiting = finite.nonzero().flatten()
        while len(waiting):
            pace.start()
            part = self._whole[waiting[: pace.size]]
            found = unless_memory_ends(self._bound, part)
            if found is None:
                yield from self._out_of_memory(part, pace)
            else:
                bounded, corners = found
                self.accounts.at_root[part.instance] = bounded.rows.amin(1)
                broken = self._absorb(bounded, corners)
                unproved = (~(bounded.rows.amin(1) > 0)).nonzero().flatten().tolist()
                still = [n for n in unproved if int(part.instance[n]) not in broken]
                broken |= self._descend(part.instance[still], corners[still])
                self._charge(part.instance, pace)
                yield from self._ends(broken)
                waiting = waiting[len(part) :]
            waiting = waiting[~self.accounts.ended[waiting]]

    def grow(self, pace: Pace) -> Iterator[Found]:
        """Cut open pieces until there is none."""
        while len(self._open):
            pace.start(self.accounts.for_a_batch(~self.accounts.ended))
            order = in_turn(self._open.instance, self._open.rows.amin(1), self.accounts.used)
            parents = self._open[order[: pace.size]]
            has_time = self._time_of(parents.instance, pace)
            found = unless_memory_ends(self._children, parents, has_time)
            if found is None:
                yield from self._out_of_memory(parents, pace)
                continue
            self._open = self._open[order[pace.size :].sort().values]
            children, corners = found
            self.accounts.begin(parents.instance)
            broken = self._absorb(children, corners)
            self._charge(parents.instance, pace)
            yield from self._ends(broken)

    def _time_of(self, served: Tensor, pace: Pace) -> Callable[[], bool]:
        """Says no once a step has used up what one of the instances ``D`` served has left."""
        shares = torch.bincount(served, minlength=len(self.accounts.left)) / len(served)
        until = float((self.accounts.left / shares)[served].min())
        return lambda: pace.passed() < until

    def _children(self, parents: _Pieces, has_time: Callable[[], bool]) -> tuple[_Pieces, Tensor]:
        """Both parts of each, bounded; and where their bounds are least."""
        children, corners, first = [], [], 0
        for place, size in zip(self._places, self._sizes, strict=True):
            here = (parents.column >= first) & (parents.column < first + size)
            if bool(here.any()):
                some = parents[here.nonzero().flatten()]
                bounded, corner = self._parts(some, place, some.column - first, has_time)
                children.append(bounded)
                corners.append(corner)
            first += size
        return _Pieces.cat(children), torch.cat(corners)

    def _parts(
        self, parents: _Pieces, place: int, neuron: Tensor, has_time: Callable[[], bool]
    ) -> tuple[_Pieces, Tensor]:
        """Both parts of pieces that are cut at neurons ``D`` of one place.

        Once ``has_time`` says no, neurons behind keep their bounds, or intervals.
        """
        graph = self._exact.graph
        pieces = _Pieces.cat([parents, parents])
        (source,) = graph.nodes[place].inputs
        bends = isinstance(graph.nodes[place].op, Relu | LeakyRelu)
        known = _cut(parents.bounds, source, neuron, bend if bends else middle)
        budget = self._settings.budget
        box = self._box(pieces.instance, known)
        found = crown_intermediate(graph, box, known, budget, has_time, source).only(
            tuple(known.lower)
        )
        return self._bound(replace(pieces, bounds=found, share=pieces.share / 2))

    def _box(self, instance: Tensor, bounds: NodeBounds) -> Box:
        """The boxes of pieces, which are cut themselves where an activation reads the input."""
        if 0 not in bounds.lower:
            return self._exact.box[instance]
        return Box(bounds.lower[0], bounds.upper[0])

    @torch.no_grad()
    def _bound(self, pieces: _Pieces) -> tuple[_Pieces, Tensor]:
        """Bounds of the margins, which only rise, and the next cut; the worst rows' corners."""
        bounds, spec = pieces.bounds, self._exact.spec[pieces.instance]
        box = self._box(pieces.instance, bounds)
        multipliers = self._multipliers[pieces.instance]
        margins, slack = margins_and_gaps(self._exact.graph, box, spec, bounds, multipliers)
        rows = torch.maximum(pieces.rows, sound_lower(margins.lower))
        piece = torch.arange(len(pieces), device=rows.device)
        corners = margins.corners(box)[piece, margins.lower.argmin(1)]
        score, column = self._scores(bounds, slack).max(1)
        return replace(pieces, rows=rows, column=torch.where(score > 0, column, -1)), corners

    def _scores(self, bounds: NodeBounds, slack: dict[int, Tensor]) -> Tensor:
        """What each neuron's line loses, 0 where its interval is too narrow to be cut."""
        scores = []
        for place, source in zip(self._places, self._sources, strict=True):
            low, high = bounds.lower[source].flatten(1), bounds.upper[source].flatten(1)
            wide = high - low > NARROW * (1 + torch.maximum(low.abs(), high.abs()))
            lost = slack[place].flatten(1) if place in slack else torch.zeros_like(low)
            scores.append(lost * wide)
        return torch.cat(scores, 1)

    def _absorb(self, pieces: _Pieces, corners: Tensor) -> dict[int, Tensor]:
        """Close pieces and keep the others open; returns points that break specifications."""
        least = pieces.rows.amin(1)
        closed, stuck = least > 0, pieces.column < 0
        broken = self._broken(pieces.instance[~closed], corners[~closed])
        self.accounts.close(pieces.instance[closed], least[closed])
        left = ~closed & stuck
        self.accounts.close(pieces.instance[left], least[left].clamp(max=0))
        self._open = self._open.with_more(pieces[(~closed & ~stuck).nonzero().flatten()])
        return broken

    def _descend(self, instance: Tensor, corners: Tensor) -> dict[int, Tensor]:
        """Gradient descent from the corners, in search of points that break specifications."""
        if self._settings.descent == 0 or len(instance) == 0:
            return {}
        fast = self._fast
        box, spec = fast.box[instance], fast.spec[instance]
        start = corners.to(torch.float32).clamp(box.lower, box.upper)
        how = FalsifySettings(steps=self._settings.descent, targets=1)
        found = falsify(fast.graph, box, spec, start, how, range(len(instance)))
        return self._broken(instance, found.points)

    def _broken(self, instance: Tensor, points: Tensor) -> dict[int, Tensor]:
        evaluated = evaluate(self._fast, self._exact, instance, points)
        hit = evaluated.breaks.nonzero().flatten()
        return dict(zip(instance[hit].tolist(), evaluated.points[hit], strict=True))

    def _charge(self, served: Tensor, pace: Pace) -> None:
        shares = torch.bincount(served, minlength=len(self.accounts.domains))
        self.accounts.charge(shares, pace.stop(len(served)))
        self.accounts.domains += shares

    def _out_of_memory(self, pieces: _Pieces, pace: Pace) -> Iterator[Found]:
        """Go on with smaller batches, or without the instance that is too large alone."""
        if len(pieces) == 1:
            yield self._end(int(pieces.instance), Status.UNKNOWN, Reason.MEMORY)
        pace.limit_to(max(1, len(pieces) // 2))

    def _ends(self, broken: dict[int, Tensor]) -> Iterator[Found]:
        """Instances that have come to an end by now."""
        for n, point in broken.items():
            if not self.accounts.ended[n]:
                yield self._end(n, Status.FALSIFIED, point=point)
        for n in self.accounts.complete():
            proved = 0 < float(self.accounts.proved[n]) < math.inf
            reason = None if proved else Reason.EXHAUSTED
            yield self._end(n, Status.VERIFIED if proved else Status.UNKNOWN, reason)
        for n in self.accounts.overdue():
            yield self._end(n, Status.UNKNOWN, Reason.TIMEOUT)
        going = ~self.accounts.ended
        for n in self._prospects.hopeless(self.accounts.charged, going, self._open_share):
            yield self._end(n, Status.UNKNOWN, Reason.GIVEN_UP)
        if self._settings.max_domains is not None:
            for n in self.accounts.over(self._settings.max_domains):
                yield self._end(n, Status.UNKNOWN, Reason.BUDGET)
        while self._open.bytes > self._settings.max_bytes:
            n = int(torch.bincount(self._open.instance).argmax())
            yield self._end(n, Status.UNKNOWN, Reason.BUDGET)

    def _open_share(self) -> Tensor:
        """Of each instance's box, ``N``."""
        nothing = torch.zeros_like(self.accounts.charged)
        return nothing.index_add_(0, self._open.instance, self._open.share)

    def _end(
        self, n: int, status: Status, reason: Reason | None = None, point: Tensor | None = None
    ) -> Found:
        self._open = self._open[(self._open.instance != n).nonzero().flatten()]
        return self.accounts.end(n, status, reason, point)


def _cut(bounds: NodeBounds, source: int, neuron: Tensor, where: Where = middle) -> NodeBounds:
    """Bounds of both parts of pieces, ``2 D``, that are cut at neurons ``D`` of one node."""
    twice = bounds.with_more(bounds)
    lower, upper = (side[source].flatten(1) for side in (bounds.lower, bounds.upper))
    below, above = halved(lower, upper, neuron, where)
    shape = bounds.lower[source].shape[1:]
    return NodeBounds(
        {**twice.lower, source: below.unflatten(1, shape)},
        {**twice.upper, source: above.unflatten(1, shape)},
    )
