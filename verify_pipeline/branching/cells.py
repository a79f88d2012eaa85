"""Boxes cut at early ReLUs, each part with bounds of its own for all neurons behind them.

A split in the usual search tells the neurons behind it nothing: their bounds are those of the whole
box. In deep networks of few unstable neurons in the first layers and many in the last, that is most
of what there is to gain. So where bounding all neurons anew costs little of an instance's time, an
instance that a short search leaves open is cut into cells: at the first layer that has an unstable
neuron, the one of the best BaBSR score; every cell's neurons are bounded again under its
splits, each bound with an α and β of its own.
The cells are then searched like instances that share their instance's time.

(Splits that tighten later layers: Wang et al. 2018, Neurify, arXiv:1809.08098; the relaxations are
those of α-CROWN, Xu et al. 2021, arXiv:2011.13824.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    Splits,
    Until,
    crown_margins,
    needed_places,
    optimise,
    optimise_intermediate,
    relu_coefficients,
)
from verify_pipeline.branching.accounts import Found
from verify_pipeline.branching.affine import is_splittable
from verify_pipeline.branching.affordable import is_rebounded_within
from verify_pipeline.branching.bounding import CONFIRMABLE, believed
from verify_pipeline.branching.columns import Columns
from verify_pipeline.branching.deadlines import Deadlines
from verify_pipeline.branching.domains import Neurons
from verify_pipeline.branching.instances import Instances
from verify_pipeline.branching.parts import both_signs
from verify_pipeline.branching.prospects import Prospects
from verify_pipeline.branching.scores import scores
from verify_pipeline.branching.search import search
from verify_pipeline.branching.settings import SearchSettings
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import OF_TIME, Box, Reason, Specification, Status

AFFORDABLE, AFFORDABLE_SECONDS = 1 / 500, 0.1
"""Of an instance's time, what CROWN bounds of its neurons may take, or it is not cut; and at most.

Optimised, as a cell's are, they take ten times as long. A ResNet-2B, 0.16 s, is better off with
thousands of domains than with dozens of cells, however long it has.
"""

FIRST, GROWING = 0.05, 0.8
"""Of an instance's time, what the search without cells gets; of the rest, what cutting gets."""

MOST = 512
"""Open cells of an instance at which the cutting ends."""

AT_ONCE = 8
"""Cells that are cut together."""

TIGHTEN = OptimiseSettings(iterations=5, lr_alpha=0.5, lr_beta=0.2, decay=0.8)
MARGINS = OptimiseSettings(iterations=8, lr_alpha=0.4, decay=0.85)


def search_with_cells(
    graph: Graph,
    box: Box,
    spec: Specification,
    root: NodeBounds,
    settings: SearchSettings,
    deadlines: Deadlines,
    start: Multipliers | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Found]:
    """Decide instances as ``search`` does, whose arguments these are; some of them in cells."""
    exact = Instances(graph, box, spec, root.only(needed_places(graph))).to(torch.float64)
    if not _is_affordable(exact, settings, deadlines, clock):
        yield from search(graph, box, spec, root, settings, deadlines, start, clock)
        return
    short = Deadlines(deadlines.seconds * FIRST, deadlines.group)
    patient = replace(settings, give_up=None)  # cutting changes what is to be expected
    late = []
    for found in search(graph, box, spec, root, patient, short, start, clock):
        if found.reason is Reason.TIMEOUT:
            late.append(found)
        else:
            yield found
    for found in late:
        one = slice(found.instance, found.instance + 1)
        instance = Instances(exact.graph, exact.box[one], exact.spec[one], exact.bounds[one])
        left = float(deadlines.seconds[found.instance]) - found.seconds
        yield _InCells(instance, settings, clock).decide(found, max(left, 1e-6))


def _is_affordable(
    exact: Instances,
    settings: SearchSettings,
    deadlines: Deadlines,
    clock: Callable[[], float],
) -> bool:
    """Whether bounding the neurons of an instance anew takes little of its time."""
    alone = len(deadlines.group.unique()) == len(deadlines.group)
    if not len(exact.box) or not alone or settings.tighten.iterations == 0:
        return False
    if not is_splittable(exact.graph) or not bool(exact.are_finite().all()):
        return False
    allowed = min(AFFORDABLE * float(deadlines.seconds.amin()), AFFORDABLE_SECONDS)
    known = exact.box, exact.bounds
    return is_rebounded_within(allowed, exact.graph, *known, settings.budget, clock)


@dataclass(frozen=True, eq=False)
class _Cells(Columns):
    """Cells of one instance that are not proved.

    Attributes:
        lower: the least row's bound, ``C``.
        bounds: of the neurons, ``C``, under the cells' splits.
        splits: of the cells.
        neuron: that each is cut at next, ``C``; -1 where none is unstable.
    """

    lower: Tensor
    bounds: NodeBounds
    splits: Splits
    neuron: Tensor

    @property
    def share(self) -> float:
        """What they are of the instance's box, a split halving it."""
        counts = torch.zeros_like(self.lower)
        for sides in self.splits.values():
            counts += (sides != 0).flatten(1).sum(1)
        return float(torch.exp2(-counts).sum())


class _InCells:
    """One instance, cut and searched."""

    def __init__(
        self, instance: Instances, settings: SearchSettings, clock: Callable[[], float]
    ) -> None:
        self._exact, self._fast = instance, instance.to(torch.float32)
        self._neurons = Neurons.of(instance.graph)
        self._settings, self._clock = settings, clock
        self._budget = MemoryBudget(bytes=min(settings.budget.bytes, 1 << 28))
        self._began = clock()
        self._grows_until = math.inf
        self._earlier, self._hope = 0.0, True
        self._prospects = Prospects(torch.ones(1, dtype=torch.float64), math.inf)
        self._bounded = 0
        self._proved = torch.inf

    def decide(self, before: Found, left: float) -> Found:
        """The instance's end.

        Args:
            before: what the search without cells found.
            left: seconds.
        """
        self._earlier = before.seconds
        factor = math.inf if self._settings.give_up is None else self._settings.give_up
        allowed = torch.tensor([before.seconds + left], dtype=torch.float64)
        self._prospects = Prospects(allowed, factor)
        cells = self._grow(GROWING * left)
        if not len(cells):
            return self._end(before, Status.VERIFIED, None, None)
        if not self._hope:
            return self._end(before, Status.UNKNOWN, Reason.GIVEN_UP, None)
        remaining = max(left - (self._clock() - self._began), 1e-6)
        same = torch.zeros(len(cells), dtype=torch.long, device=cells.lower.device)
        # the cells' bounds are optimised already, and so are, nearly, their margins
        settings = replace(
            self._settings,
            root=self._settings.domain,
            tighten=replace(self._settings.tighten, iterations=0),
        )
        found_ones = search(
            self._exact.graph,
            self._exact.box[same],
            self._exact.spec[same],
            cells.bounds,
            settings,
            Deadlines(torch.full_like(cells.lower, remaining / len(cells)), same),
            clock=self._clock,
        )
        for found in found_ones:
            self._bounded += found.domains
            if found.status is Status.VERIFIED:
                self._prove(found.bound)
            elif found.status is Status.FALSIFIED or found.reason in OF_TIME:
                return self._end(before, found.status, found.reason, found.point)
            else:
                return self._undivided(before, left)
        return self._end(before, Status.VERIFIED, None, None)

    def _undivided(self, before: Found, left: float) -> Found:
        """What a search without cells finds: it is complete, as linear programs see all splits."""
        remaining = max(left - (self._clock() - self._began), 1e-6)
        exact = self._exact
        alone = Deadlines.alone(torch.full_like(exact.spec.offsets[:, 0], remaining))
        (found,) = search(
            exact.graph,
            exact.box,
            exact.spec,
            exact.bounds,
            self._settings,
            alone,
            clock=self._clock,
        )
        self._bounded += found.domains
        ended = self._end(before, found.status, found.reason, found.point)
        return replace(ended, bound=found.bound)

    def _prove(self, bound: float | None) -> None:
        if bound is not None:
            self._proved = min(self._proved, bound)

    def _end(
        self, before: Found, status: Status, reason: Reason | None, point: Tensor | None
    ) -> Found:
        return replace(
            before,
            status=status,
            bound=self._proved if status is Status.VERIFIED else before.bound,
            point=point,
            seconds=before.seconds + self._clock() - self._began,
            domains=before.domains + self._bounded,
            reason=reason,
        )

    def _may_grow(self) -> bool:
        return self._clock() < self._grows_until

    def _has_hope(self, cells: _Cells) -> bool:
        """Whether cutting and searching all cells is not expected to take far too long."""
        seconds = torch.tensor([self._earlier + self._clock() - self._began], dtype=torch.float64)

        def open_share() -> Tensor:
            return torch.tensor([cells.share], dtype=torch.float64)

        going = torch.ones_like(seconds, dtype=torch.bool)
        self._hope = self._hope and not self._prospects.hopeless(seconds, going, open_share)
        return self._hope

    def _grow(self, seconds: float) -> _Cells:
        """Cut the worst cells until there are many, time is up, or there is no hope."""
        self._grows_until = self._began + seconds
        device = self._exact.box.lower.device
        nothing = {
            place: torch.zeros(1, *shape, dtype=torch.int8, device=device)
            for place, shape in zip(self._neurons.places, self._neurons.shapes, strict=True)
        }
        cells = self._bound(self._exact.bounds, nothing)
        while 0 < len(cells) < MOST and self._may_grow() and self._has_hope(cells):
            order = cells.lower.argsort()
            order = order[cells.neuron[order] >= 0]
            if not len(order):
                break
            chosen = order[:AT_ONCE]
            rest = torch.ones(len(cells), dtype=torch.bool, device=order.device)
            rest[chosen] = False
            children = self._bound(*self._cut(cells[chosen]))
            cells = cells[rest.nonzero().flatten()].with_more(children)
        return cells

    def _cut(self, cells: _Cells) -> tuple[NodeBounds, Splits]:
        """Two children of each cell: their parents' bounds, and their splits."""
        flat = both_signs(self._neurons.flatten(cells.splits, len(cells)), cells.neuron)
        return cells.bounds.followed_by(cells.bounds), self._neurons.unflatten(flat)

    @torch.no_grad()
    def _bound(self, bounds: NodeBounds, splits: Splits) -> _Cells:
        """Bound the neurons and the margins of cells; those that are proved are left out."""
        same = torch.zeros(len(bounds), dtype=torch.long, device=self._exact.box.lower.device)
        box, spec = self._exact.box[same], self._exact.spec[same]
        graph, rough = self._exact.graph, self._fast.graph
        found = optimise_intermediate(
            graph, box, bounds, TIGHTEN, self._budget, self._may_grow, splits
        )
        bounds = found.only(tuple(bounds.lower))
        fast_box, fast_spec = self._fast.box[same], self._fast.spec[same]
        fast_bounds = bounds.to(torch.float32)
        until = Until(torch.full_like(fast_spec.offsets[:, 0], CONFIRMABLE))
        _, alpha = optimise(rough, fast_box, fast_spec, fast_bounds, MARGINS, until=until)
        margins = crown_margins(graph, box, spec, bounds, alpha.to(torch.float64))
        lower, worst = believed(margins.lower).min(1)
        arriving = relu_coefficients(rough, fast_box, fast_spec, fast_bounds, alpha)
        neuron = self._neuron(fast_bounds, arriving, worst)
        self._bounded += len(bounds)
        for bound in lower[lower > 0].tolist():
            self._prove(bound)
        cells = _Cells(lower, bounds, splits, neuron)
        return cells[(~(lower > 0)).nonzero().flatten()]

    def _neuron(self, bounds: NodeBounds, arriving: dict[int, Tensor], worst: Tensor) -> Tensor:
        """The neuron that each cell is cut at, ``C``: the best of the first unstable layer."""
        cell = torch.arange(len(worst), device=worst.device)
        rows = {
            place: arriving[place][cell, worst]
            if place in arriving
            else torch.zeros_like(bounds.lower[source])
            for place, source in zip(self._neurons.places, self._neurons.sources, strict=True)
        }
        unstable = self._neurons.unstable(bounds, len(bounds))
        score = scores(self._fast.graph, self._neurons, bounds, rows).babsr
        score = torch.where(unstable, score, -torch.inf)
        columns, first = torch.full_like(worst, -1), 0
        for size in self._neurons.sizes:
            best = score[:, first : first + size].max(1)
            takes = (columns < 0) & (best.values > -torch.inf)
            columns = torch.where(takes, best.indices + first, columns)
            first += size
        return columns
