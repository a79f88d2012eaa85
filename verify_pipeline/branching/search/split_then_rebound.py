"""Boxes cut at early ReLUs, each part with bounds of its own for all neurons behind them.

A split in the usual search tells the neurons behind it nothing: their bounds are those of the whole
box. In deep networks with few unstable neurons in the first layers and many in the last, that is
most of what there is to gain. There an instance is cut into cells: at the first layer that has an
unstable neuron, the one with the best BaBSR score. Every cell's neurons are bounded again under its
splits, each bound with an α and β of its own. What is still open is searched cell by cell.
``portfolio`` decides which instances are searched this way, and for how long.

(Splits that tighten later layers: Wang et al. 2018, Neurify, arXiv:1809.08098; the relaxations are
those of α-CROWN, Xu et al. 2021, arXiv:2011.13824.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    Splits,
    StopRule,
    crown_margins,
    optimise,
    optimise_intermediate,
    relu_coefficients,
)
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import CONFIRMABLE
from verify_pipeline.branching.evaluate.relu_scores import scores
from verify_pipeline.branching.improve.optimise_at_root import cost_in_domains
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.relu_split import Search
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.splitting import both_signs
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.problem import Reason, Status

FEW = 64
"""Unstable neurons of the first layer up to which cutting there settles it soon."""

STILL_UNSTABLE = 0.5
"""Of the box's unstable neurons, those that are unstable in a cell, about."""

MOST = 512
"""Open cells of an instance at which the cutting ends."""

AT_ONCE = 8
"""Cells that are cut together."""

TIGHTEN = OptimiseSettings(iterations=5, lr_alpha=0.5, lr_beta=0.2, decay=0.8)
MARGINS = OptimiseSettings(iterations=8, lr_alpha=0.4, decay=0.85)


def cost_of_cell(exact: SearchInstances, settings: SearchSettings) -> Tensor:
    """What bounding the neurons of a cell costs, ``N``, in domains of the search without cells."""
    neurons = Neurons.of(exact.graph)
    bounds = 2 * STILL_UNSTABLE * neurons.unstable(exact.bounds, len(exact.box)).sum(1)
    return cost_in_domains(bounds, TIGHTEN.iterations, settings).clamp(min=1.0)


def are_promising(exact: SearchInstances) -> Tensor:
    """Instances with few unstable neurons in the first layer that has any, and more behind it.

    There few splits settle the layer, and each tightens all bounds of the others. ``N`` booleans.
    """
    neurons = Neurons.of(exact.graph)
    unstable = neurons.unstable(exact.bounds, len(exact.box))
    if not neurons.sizes:
        return unstable.any(1)
    parts = unstable.split(neurons.sizes, 1)
    counts = torch.stack([part.sum(1) for part in parts], 1)
    first = counts.gather(1, (counts > 0).to(torch.int8).argmax(1, keepdim=True)).squeeze(1)
    return (first <= FEW) & (counts.sum(1) > 2 * first)


@dataclass(frozen=True, eq=False)
class _Cells(Batched):
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
    def shares(self) -> Tensor:
        """What each is of the instance's box, a split halving it; ``C``."""
        counts = torch.zeros_like(self.lower)
        for sides in self.splits.values():
            counts += (sides != 0).flatten(1).sum(1)
        return torch.exp2(-counts)


@dataclass(frozen=True, eq=False)
class Ended:
    """How an instance has come to its end in cells.

    Attributes:
        status: VERIFIED, FALSIFIED or UNKNOWN.
        bound: of VERIFIED, the least of all cells, float64.
        point: of FALSIFIED, ``*X`` float32.
        reason: of UNKNOWN.
    """

    status: Status
    bound: float | None = None
    point: Tensor | None = None
    reason: Reason | None = None


class SplitThenRebound:
    """One instance, cut early and searched in cells; it can pause and go on.

    Args:
        instance: one, in float64.
        settings: of the search.
        clock: in seconds.

    Attributes:
        bounded: how many cells were bounded.
    """

    def __init__(
        self, instance: SearchInstances, settings: SearchSettings, clock: Callable[[], float]
    ) -> None:
        self._exact, self._fast = instance, instance.to(torch.float32)
        self._neurons = Neurons.of(instance.graph)
        self._settings, self._clock = settings, clock
        self._budget = MemoryBudget(bytes=min(settings.budget.bytes, 1 << 28))
        self._until = math.inf
        self._open: _Cells | None = None
        self._inside: Search | None = None
        self._proved = math.inf
        self.bounded = 0

    @property
    def open_share(self) -> float:
        """Of the instance's box, what is not proved."""
        if self._open is None:
            return 1.0
        if self._inside is not None:
            return float((self._inside.open_share() * self._open.shares).sum())
        return float(self._open.shares.sum())

    def cut(self, count: int, until: float) -> Ended | None:
        """Cut the worst cells until so many more are bounded, and never more are open than MOST.

        Args:
            count: of cells.
            until: the clock's seconds at which to pause.

        Returns:
            The instance's end, if it has come.
        """
        if self._inside is not None:
            return None  # cells that are searched stay as they are
        self._until = until
        last, cells = self.bounded + count, self._begun()
        while 0 < len(cells) < MOST and self.bounded < last and self._may_go_on():
            order = cells.lower.argsort()
            order = order[cells.neuron[order] >= 0]
            if not len(order):
                break
            chosen = order[:AT_ONCE]
            rest = torch.ones(len(cells), dtype=torch.bool, device=order.device)
            rest[chosen] = False
            children = self._bound(*self._cut(cells[chosen]))
            cells = cells[rest.nonzero().flatten()].with_more(children)
        self._open = cells
        return None if len(cells) else Ended(Status.VERIFIED, bound=self._proved)

    @property
    def are_cut(self) -> bool:
        """Whether cutting has come to its end; cells that are searched stay as they are."""
        if self._open is None or self._inside is not None:
            return self._inside is not None
        return len(self._open) >= MOST or not bool((self._open.neuron >= 0).any())

    @property
    def count(self) -> int:
        """How many cells are open."""
        if self._inside is not None:
            return int((~self._inside.accounts.ended).sum())
        return 1 if self._open is None else len(self._open)

    def forget(self) -> None:
        """Let go of all cells: their search is over."""
        self._open, self._inside = None, None

    def _begun(self) -> _Cells:
        """The open cells; the whole box to begin with."""
        if self._open is None:
            self._open = self._bound(self._exact.bounds, self._nowhere())
        return self._open

    def search(self, domains: int, until: float) -> Ended | None:
        """Search the open cells, which are not cut any more.

        Args:
            domains: work for each cell, as of so many domains.
            until: the clock's seconds at which to pause.

        Returns:
            The instance's end, if it has come. UNKNOWN: the cells do not decide it.
        """
        self._until = until
        if self._inside is None:
            cells = self._begun()
            if not len(cells):
                return Ended(Status.VERIFIED, bound=self._proved)
            self._inside = self._search_inside(cells)
        accounts = self._inside.accounts
        for found in self._inside.run(accounts.work + domains, until):
            if found.status is Status.VERIFIED:
                self._prove(found.bound)
            else:
                return Ended(found.status, point=found.point, reason=found.reason)
        done = bool(accounts.ended.all())
        return Ended(Status.VERIFIED, bound=self._proved) if done else None

    @property
    def domains(self) -> int:
        """How many were bounded in cells."""
        return 0 if self._inside is None else int(self._inside.accounts.domains.sum())

    def work(self, cost: float) -> float:
        """Counted work so far; ``cost``: of bounding a cell."""
        inside = 0.0 if self._inside is None else float(self._inside.accounts.work.sum())
        return cost * self.bounded + inside

    def _search_inside(self, cells: _Cells) -> Search:
        """A search of the cells as instances, whose time their instance looks after."""
        same = torch.zeros(len(cells), dtype=torch.long, device=cells.lower.device)
        exact, settings = self._exact, self._settings
        # the cells' bounds are optimised already, and so are, nearly, their margins
        settings = replace(
            settings,
            root=settings.domain,
            tighten=replace(settings.tighten, iterations=0),
            give_up=None,
        )
        parts = SearchInstances(exact.graph, exact.box[same], exact.spec[same], cells.bounds)
        patience = Deadlines.alone(torch.full_like(cells.lower, math.inf))
        return Search(parts, settings, patience, None, self._clock)

    def _nowhere(self) -> Splits:
        """No split, for the whole box as one cell."""
        device = self._exact.box.lower.device
        return {
            place: torch.zeros(1, *shape, dtype=torch.int8, device=device)
            for place, shape in zip(self._neurons.places, self._neurons.shapes, strict=True)
        }

    def _prove(self, bound: float | None) -> None:
        if bound is not None:
            self._proved = min(self._proved, bound)

    def _may_go_on(self) -> bool:
        return self._clock() < self._until

    def _cut(self, cells: _Cells) -> tuple[NodeBounds, Splits]:
        """Two children of each cell: their parents' bounds, and their splits."""
        flat = both_signs(self._neurons.flatten(cells.splits, len(cells)), cells.neuron)
        return cells.bounds.with_more(cells.bounds), self._neurons.unflatten(flat)

    @torch.no_grad()
    def _bound(self, bounds: NodeBounds, splits: Splits) -> _Cells:
        """Bound the neurons and the margins of cells; those that are proved are left out."""
        same = torch.zeros(len(bounds), dtype=torch.long, device=self._exact.box.lower.device)
        box, spec = self._exact.box[same], self._exact.spec[same]
        graph, rough = self._exact.graph, self._fast.graph
        found = optimise_intermediate(
            graph, box, bounds, TIGHTEN, self._budget, self._may_go_on, splits
        )
        bounds = found.only(tuple(bounds.lower))
        fast_box, fast_spec = self._fast.box[same], self._fast.spec[same]
        fast_bounds = bounds.to(torch.float32)
        until = StopRule(torch.full_like(fast_spec.offsets[:, 0], CONFIRMABLE))
        _, alpha = optimise(rough, fast_box, fast_spec, fast_bounds, MARGINS, until=until)
        margins = crown_margins(graph, box, spec, bounds, alpha.to(torch.float64))
        lower, worst = sound_lower(margins.lower).min(1)
        arriving = relu_coefficients(rough, fast_box, fast_spec, fast_bounds, alpha)
        neuron = self._neuron(fast_bounds, arriving, worst)
        self.bounded += len(bounds)
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
