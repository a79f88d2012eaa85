"""Splits of intervals: a smooth neuron's interval is cut, and later neurons are bounded again.

Functions such as sigmoid and tanh do not consist of linear pieces. But over half of an interval
their linear bounds are much closer, and the bounds of all later neurons are tighter. A *piece* is
the part of a box where some neurons lie in given intervals. Cutting one interval gives two pieces
whose union is the original one. This is branching on general nonlinearities (Shi et al. 2024,
GenBaB, arXiv:2405.21063). Here the cuts have no multipliers, but the bounds of neurons use them. A
heuristic picks the neuron by the relaxation gap at each. The cut is in the middle of the interval,
or at zero if a ReLU's interval contains zero. All computations are in float64. The search is not
complete: a cut tightens the bounds of later neurons, but does not restrict the input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds import Multipliers, NodeBounds, crown_intermediate
from verify_pipeline.bounds.linear.relaxation_gap import is_curved, margins_and_gaps
from verify_pipeline.bounds.memory import functionals_that_fit
from verify_pipeline.bounds.relaxations.relaxed_graph import is_affine
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.candidate_points import evaluate
from verify_pipeline.branching.evaluate.corner_attack import descend
from verify_pipeline.branching.heuristics import HEURISTICS, Candidates
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.search.loop import Roots, Step
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.tree.frontier import Subproblems
from verify_pipeline.branching.tree.splitting import Where, bend, halved, middle
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Elementwise, LeakyRelu, Relu
from verify_pipeline.problem import Box, Reason

NARROW = 1e-6
"""Intervals with a smaller width, relative to their ends, are not cut."""


def can_be_cut(graph: Graph) -> bool:
    """Whether all nonlinear operations, at least one, are smooth and have intervals to cut."""
    bent = [node.op for node in graph.nodes if not is_affine(node.op)]
    return bool(bent) and all(isinstance(op, Elementwise) and is_curved(op) for op in bent)


def has_smooth_neurons(graph: Graph) -> bool:
    """Whether some nonlinear operation is smooth and has intervals to cut."""
    return any(isinstance(node.op, Elementwise) and is_curved(node.op) for node in graph.nodes)


@dataclass(frozen=True, eq=False)
class Pieces(Subproblems):
    """Parts of boxes where some neurons lie in given intervals.

    Attributes:
        rows: lower bounds of the rows, ``D x S`` float64.
        bounds: bounds of the neurons over the pieces.
        column: ``D``, the neuron at which each piece is cut next; -1: no cut is left.
    """

    rows: Tensor
    bounds: NodeBounds
    column: Tensor


class IntervalSplits:
    """Pieces of N instances; a :class:`SplitKind`.

    Args:
        query: the instances.
        settings: settings of the search.
    """

    exhausted = Reason.EXHAUSTED

    def __init__(self, query: SearchQuery, settings: SearchSettings) -> None:
        self._exact = query.instances(query.sufficient)
        self._fast = self._exact.to(torch.float32)
        is_double = query.input_dtype == torch.float64
        self._deployed = self._exact if is_double else self._fast
        start = query.start or Multipliers({}, {})
        self._multipliers = start.to(torch.float64)
        self._settings, self._pick = settings, HEURISTICS[settings.branching.intervals]
        graph = query.graph
        rows = functionals_that_fit(graph, len(graph.nodes) - 1, settings.budget, torch.float64)
        self.batch = max(1, min(settings.batch, rows // (2 * query.sufficient.rows.shape[1])))
        self.refuted = Reason.EXHAUSTED if query.spec.spare else Reason.NOT_REPLAYED
        self.unbounded = ~self._exact.are_finite()
        self._places = tuple(p for p, node in enumerate(graph.nodes) if is_curved(node.op))
        self._sources = tuple(graph.nodes[place].inputs[0] for place in self._places)
        self._sizes = tuple(math.prod(graph.nodes[place].shape) for place in self._places)

    def roots(self) -> Roots[Pieces]:
        """The whole boxes, with the bounds of neurons at the root."""
        unknown = torch.full_like(self._exact.spec.offsets, -torch.inf)
        everything = torch.arange(len(unknown), device=unknown.device)
        whole = Pieces(
            everything,
            unknown.amin(1),
            torch.ones_like(unknown[:, 0]),
            unknown,
            self._exact.bounds,
            torch.full_like(everything, -1),
        )
        return Roots(unknown, whole)

    def bound(self, roots: Pieces, meter: Meter) -> Step[Pieces]:
        """Bound whole boxes, and descend from the corners of those that stay open."""
        pieces, corners = self._bounded(roots)
        step = self._step(pieces, corners)
        open_ = (~(pieces.lower > 0)).nonzero().flatten().tolist()
        still = [d for d in open_ if int(pieces.instance[d]) not in step.broken]
        if self._settings.descent == 0 or not still:
            return step
        instance = pieces.instance[still]
        spec, steps = self._fast.spec[instance], self._settings.descent
        points = descend(self._fast, instance, spec, corners[still], steps)
        return replace(step, broken=step.broken | self._broken(instance, points))

    def split(self, parents: Pieces, meter: Meter) -> Step[Pieces]:
        """Cut each piece, and bound all later neurons; pieces cut at the same node form a batch."""
        parts, corners, first = [], [], 0
        for place, size in zip(self._places, self._sizes, strict=True):
            here = (parents.column >= first) & (parents.column < first + size)
            if bool(here.any()):
                some = parents[here.nonzero().flatten()]
                pieces, corner = self._cut(some, place, some.column - first, meter)
                parts.append(pieces)
                corners.append(corner)
            first += size
        return self._step(Pieces.cat(parts), torch.cat(corners))

    def _cut(
        self, parents: Pieces, place: int, neuron: Tensor, meter: Meter
    ) -> tuple[Pieces, Tensor]:
        """Both parts of pieces that are cut at neurons ``D`` of one node, and their corners.

        Once the time is used up, later neurons keep their bounds, or get interval bounds.
        """
        graph, pieces = self._exact.graph, parents.with_more(parents)
        (source,) = graph.nodes[place].inputs
        bends = isinstance(graph.nodes[place].op, Relu | LeakyRelu)
        known = cut(parents.bounds, source, neuron, bend if bends else middle)
        box, budget = self._box(pieces.instance, known), self._settings.budget
        found = crown_intermediate(graph, box, known, budget, meter.has_time, source)
        bounds = found.only(tuple(known.lower))
        return self._bounded(replace(pieces, bounds=bounds, share=pieces.share / 2))

    def _box(self, instance: Tensor, bounds: NodeBounds) -> Box:
        """The boxes of pieces; a box is cut itself if an activation reads the input."""
        if 0 not in bounds.lower:
            return self._exact.box[instance]
        return Box(bounds.lower[0], bounds.upper[0])

    @torch.no_grad()
    def _bounded(self, pieces: Pieces) -> tuple[Pieces, Tensor]:
        """The pieces with bounds of their rows and next cuts, and the corners of the worst rows."""
        bounds, spec = pieces.bounds, self._exact.spec[pieces.instance]
        box = self._box(pieces.instance, bounds)
        multipliers = self._multipliers[pieces.instance]
        margins, gaps = margins_and_gaps(self._exact.graph, box, spec, bounds, multipliers)
        rows = torch.maximum(pieces.rows, sound_lower(margins.lower))
        number = torch.arange(len(pieces), device=rows.device)
        corners = margins.corners(box)[number, margins.lower.argmin(1)]
        column = self._column(bounds, gaps)
        return replace(pieces, rows=rows, lower=rows.amin(1), column=column), corners

    def _column(self, bounds: NodeBounds, gaps: dict[int, Tensor]) -> Tensor:
        """The neuron at which each piece is cut next; -1: no neuron that can be cut has a gap."""
        wide, lost = [], []
        for place, source in zip(self._places, self._sources, strict=True):
            low, high = bounds.lower[source].flatten(1), bounds.upper[source].flatten(1)
            wide.append(high - low > NARROW * (1 + torch.maximum(low.abs(), high.abs())))
            lost.append(gaps[place].flatten(1) if place in gaps else torch.zeros_like(low))
        loss = torch.cat(lost, 1)
        allowed = torch.cat(wide, 1) & (loss > 0)
        column = self._pick(Candidates.scored(loss, allowed), 1)[:, 0]
        return torch.where(allowed.any(1), column, -1)

    def _step(self, pieces: Pieces, corners: Tensor) -> Step[Pieces]:
        open_ = ~(pieces.lower > 0)
        broken = self._broken(pieces.instance[open_], corners[open_])
        return Step(pieces, pieces.lower, pieces.column < 0, broken)

    def _broken(self, instance: Tensor, points: Tensor) -> dict[int, Tensor]:
        return evaluate(self._deployed, self._exact, instance, points).worst(instance)


def cut(bounds: NodeBounds, source: int, neuron: Tensor, where: Where = middle) -> NodeBounds:
    """Bounds of both parts, ``2 D``, of pieces that are cut at neurons ``D`` of one node."""
    twice = bounds.with_more(bounds)
    lower, upper = (side[source].flatten(1) for side in (bounds.lower, bounds.upper))
    below, above = halved(lower, upper, neuron, where)
    shape = bounds.lower[source].shape[1:]
    return NodeBounds(
        {**twice.lower, source: below.unflatten(1, shape)},
        {**twice.upper, source: above.unflatten(1, shape)},
    )
