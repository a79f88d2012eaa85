"""Splits of inputs, for boxes with few free inputs: a part of a box is halved along one input.

CROWN bounds a part in float64; a part that is not proved is halved (Bunel et al. 2018,
arXiv:1711.00455, compare rules that choose the input). This works for every network. Bounds that
are not finite over the whole box may become finite on small parts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds import MemoryBudget, NodeBounds, crown_intermediate, needed_places
from verify_pipeline.bounds.linear.relaxation_gap import margins_and_gaps
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.candidate_points import evaluate, representable
from verify_pipeline.branching.evaluate.corner_attack import descend
from verify_pipeline.branching.evaluate.input_scores import input_scores
from verify_pipeline.branching.heuristics import HEURISTICS, Candidates
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.search.loop import Roots, Step
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.tree.frontier import Subproblems
from verify_pipeline.branching.tree.splitting import halved, middle
from verify_pipeline.problem import Box, Reason, Specification
from verify_pipeline.rounding import searched


@dataclass(frozen=True, eq=False)
class BoxParts(Subproblems):
    """Parts of boxes.

    Attributes:
        low: lower limits of the inputs, ``D x *X``.
        high: upper limits of the inputs, ``D x *X``.
        rows: lower bounds of the rows, ``D x S`` float64.
        bounds: bounds of the nodes that CROWN needs.
        axis: ``D``, the input along which each part is halved next; -1: float64 has no number
            between the limits of any input.
    """

    low: Tensor
    high: Tensor
    rows: Tensor
    bounds: NodeBounds
    axis: Tensor

    @property
    def box(self) -> Box:
        """The parts as boxes."""
        return Box(self.low, self.high)


class InputSplits:
    """Parts of the boxes of N instances; a :class:`SplitKind`.

    Args:
        query: the instances; rows of their specifications may be allowed to fail.
        settings: settings of the search.
        batch: largest number of parts that are bounded at once.
        budget: memory for the functionals that are bounded at once.
    """

    exhausted, refuted = Reason.EXHAUSTED, None  # parts that hold other points go on

    def __init__(
        self, query: SearchQuery, settings: SearchSettings, batch: int, budget: MemoryBudget
    ) -> None:
        self.batch = max(1, batch // 2)  # counts parents; both parts of each are bounded
        self._exact = query.instances(query.spec)
        self._input_dtype = query.input_dtype
        self._settings, self._budget = settings, budget
        self._pick = HEURISTICS[settings.branching.inputs]
        self._needed = needed_places(query.graph)
        self._bounded = torch.zeros(len(query), dtype=torch.long, device=query.box.lower.device)
        self.unbounded = torch.zeros_like(self._bounded, dtype=torch.bool)

    def roots(self) -> Roots[BoxParts]:
        """The whole boxes."""
        box, spec = self._exact.box, self._exact.spec
        unknown = torch.full_like(spec.offsets, -torch.inf)
        everything = torch.arange(len(box), device=unknown.device)
        ones, none = torch.ones_like(unknown[:, 0]), torch.full_like(everything, -1)
        known = self._exact.bounds
        whole = BoxParts(
            everything, unknown[:, 0], ones, box.lower, box.upper, unknown, known, none
        )
        return Roots(unknown, whole)

    def bound(self, roots: BoxParts, meter: Meter) -> Step[BoxParts]:
        """Bound parts, and choose the input along which each open part is halved next.

        Once the time is used up, neurons keep the bounds over the part that was halved.
        """
        graph, spec = self._exact.graph, self._exact.spec[roots.instance]
        bounds = crown_intermediate(graph, roots.box, roots.bounds, self._budget, meter.has_time)
        bounds = bounds.only(self._needed)
        margins, gaps = margins_and_gaps(graph, roots.box, spec, bounds)
        rows = torch.maximum(sound_lower(margins.lower), roots.rows)
        parts = replace(roots, rows=rows, lower=spec.least(rows), bounds=bounds)
        descends = self._count(parts.instance)
        left = (~(parts.lower > 0)).nonzero().flatten()
        axis, broken = torch.full_like(parts.axis, -1), {}
        if len(left):
            open_, row = parts[left], rows[left].argsort(1)[:, spec.spare]
            slopes = margins.coefficients[left, row]
            broken = self._broken(open_, slopes, row, descends[open_.instance])
            lost = {place: gap[left] for place, gap in gaps.items()}
            axis[left] = self._axis(open_, lost, slopes)
        return Step(replace(parts, axis=axis), parts.lower, axis < 0, broken)

    def split(self, parents: BoxParts, meter: Meter) -> Step[BoxParts]:
        """Halve each part, and bound both halves."""
        twice, shape = parents.with_more(parents), parents.low.shape[1:]
        low, high = halved(parents.low.flatten(1), parents.high.flatten(1), parents.axis)
        low, high = low.unflatten(1, shape), high.unflatten(1, shape)
        return self.bound(replace(twice, low=low, high=high, share=twice.share / 2), meter)

    def _count(self, instance: Tensor) -> Tensor:
        """Count ``D`` parts. Return the instances for which descents are due, ``N`` booleans."""
        first = self._settings.inputs.first_descents
        before = (self._bounded / first).log2().floor()
        self._bounded += torch.bincount(instance, minlength=len(self._bounded))
        doubled = (self._bounded / first).log2().floor() > before
        return doubled & (self._bounded >= first)

    def _broken(
        self, parts: BoxParts, slopes: Tensor, row: Tensor, descends: Tensor
    ) -> dict[int, Tensor]:
        """Points that break specifications: corners where linear bounds are least, and middles.

        Descents also start from the middles of the parts ``descends`` (``D`` booleans).
        """
        corner = torch.where(slopes > 0, parts.low, parts.high)
        centre = middle(parts.low, parts.high)
        instance = parts.instance[descends]
        spec = self._exact.spec[instance]
        if spec.spare == 0:
            number = torch.arange(len(instance), device=instance.device)
            rows, offsets = (t[number, row[descends]] for t in (spec.rows, spec.offsets))
            spec = Specification(rows.unsqueeze(1), offsets.unsqueeze(1))
        steps = self._settings.inputs.descent
        low = descend(self._exact, instance, spec, centre[descends], steps)
        whose = torch.cat([parts.instance.repeat(2), instance])
        box = self._exact.box[whose]
        points = representable(torch.cat([corner, centre, low]), box, self._input_dtype)
        found = evaluate(self._exact, self._exact, whose, points.double())
        # splits do not help where the file's output is not defined
        self.unbounded[whose[~found.defined]] = True
        dtype = searched(self._input_dtype)
        return {n: point.to(dtype) for n, point in found.worst(whose).items()}

    def _axis(self, parts: BoxParts, lost: dict[int, Tensor], slopes: Tensor) -> Tensor:
        """The input along which each part is halved next; -1: none is left."""
        whole, settings = self._exact.box[parts.instance], self._settings.inputs
        scores = input_scores(
            self._exact.graph, parts.box, parts.bounds, lost, slopes, whole, settings
        )
        low, high = parts.low.flatten(1), parts.high.flatten(1)
        between = middle(low, high)
        allowed = (low < between) & (between < high)
        axis = self._pick(Candidates.scored(scores, allowed), 1)[:, 0]
        return torch.where(allowed.any(1), axis, -1)
