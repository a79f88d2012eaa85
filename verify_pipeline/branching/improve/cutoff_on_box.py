"""The objective cutoff on the box: bounds over the part of it where the row may be at most zero.

The row is above zero wherever its linear bound is. A corner of the box remains, and it is smaller
if the bound is closer to zero. Over this part (``HalfspaceBox``; Kotha et al. 2023,
arXiv:2302.01404), the inputs of ReLUs are bounded again. Most of them then have only one sign. The
row's bound rises, and the next round cuts off more. Rounds continue until nothing is left or the
bound hardly changes.

A round costs as much as many domains, and gains nothing if the bound is far below zero. Therefore
each open row has a *reach*: the largest distance below zero at which a domain is tried. A failure
halves it; a success widens it.

This mechanism is for networks that multiply activations (attention): there a smaller box also
tightens softmax and products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    HalfspaceBox,
    MemoryBudget,
    Multipliers,
    NodeBounds,
    RelaxedBounds,
    StopRule,
    clamp_to_splits,
    crown_activations,
    crown_intermediate,
    optimise,
)
from verify_pipeline.bounds.memory import pairs, unless_memory_ends
from verify_pipeline.bounds.types import MarginBounds, sound_lower
from verify_pipeline.branching.config.search_settings import BoxCutoffSettings, SearchSettings
from verify_pipeline.branching.evaluate.bounder import (
    CONFIRMABLE,
    Bounded,
    Bounder,
    DomainProblem,
)
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.tree.subproblems import LEVEL, Domains
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box
from verify_pipeline.rounding import next_down

NARROWER, WIDER = 0.5, 1.25
"""A row's reach after a failure and after a success, as a multiple of the domain's distance below
zero."""

AT_ONCE = 1 << 26
"""Largest number of bytes for neurons that are bounded together; small batches suit caches."""

Rebound = Callable[
    [Bounder, DomainProblem, Tensor, MemoryBudget, Callable[[], bool]], RelaxedBounds
]
"""Bounds neurons over the boxes that were cut; the third argument, ``D x R``, says which neurons
have a costly relaxation."""


class BoxCutoff:
    """Chooses the domains that are tried, and learns from the results.

    Args:
        open_rows: G, the number of open rows.
        graph: the network.
        settings: settings of the search.
    """

    def __init__(self, open_rows: int, graph: Graph, settings: SearchSettings) -> None:
        self._reach = torch.full((open_rows,), torch.inf)
        self._settings = settings
        self._how = settings.box_cutoff if pairs(graph) else None

    def improved(self, bounder: Bounder, bounded: Bounded, meter: Meter) -> Bounded:
        """The domains, some of them with better bounds.

        Args:
            bounder: bounds the domains.
            bounded: the domains.
            meter: records the cost.
        """
        chosen = self._near(bounded, meter.left)
        if self._how is None or not len(chosen):
            return bounded
        domains = bounded.domains[chosen]
        until = meter.now + float(meter.left[domains.instance].min())
        found = unless_memory_ends(
            self._tried, bounder, domains, self._how, lambda: meter.now < until
        )
        if found is None:
            return bounded
        tried, lower = found
        self._learn(domains, lower)
        meter.spent_on(tried.instance, self._how.steps / (self._settings.domain.iterations + 1))
        confirmed = bounded.confirmed.clone()
        confirmed[chosen] = torch.where(lower > 0, lower, confirmed[chosen])
        domains = bounded.domains.with_put(chosen, tried)
        return replace(bounded, domains=domains, confirmed=confirmed)

    def _near(self, bounded: Bounded, left: Tensor) -> Tensor:
        """Indices of open domains that are within reach, the lowest bounds first."""
        if self._how is None:
            return bounded.domains.instance[:0]
        domains = bounded.domains
        lacking = -domains.lower.cpu()
        near = ~(bounded.confirmed > 0).cpu() & (left[domains.instance].cpu() > 0)
        near &= lacking <= self._reach[domains.open_row.cpu()]
        order = torch.where(near, lacking, -torch.inf).argsort(descending=True)
        return order[: min(int(near.sum()), self._how.tries)].to(domains.open_row.device)

    def _tried(
        self,
        bounder: Bounder,
        domains: Domains,
        how: BoxCutoffSettings,
        has_time: Callable[[], bool],
    ) -> tuple[Domains, Tensor]:
        """Bound the inputs of ReLUs, then those of all operations if ReLUs explain too little."""
        rounds = _Rounds(bounder, self._settings, how, has_time)
        tried, lower = rounds.contract(domains, activations, how.rounds)
        stalled = rounds.not_for_relus(tried, lower)[:1]
        if len(stalled):
            again, better = rounds.contract(tried[stalled], everything, how.full_rounds)
            tried, lower[stalled] = tried.with_put(stalled, again), better
        return tried, lower

    def _learn(self, tried: Domains, lower: Tensor) -> None:
        """Widen or narrow the reach of each open row: the result of most of its domains decides."""
        closed, lacked = (lower > 0).cpu(), -tried.lower.cpu()
        for row in tried.open_row.unique().tolist():
            own = tried.open_row.cpu() == row
            won, lost = lacked[own & closed], lacked[own & ~closed]
            if len(won) >= len(lost):
                self._reach[row] = max(float(self._reach[row]), WIDER * float(won.max()))
            else:
                self._reach[row] = NARROWER * float(lost.min())


class _Rounds:
    """Rounds in which boxes become smaller and bounds better."""

    def __init__(
        self,
        bounder: Bounder,
        settings: SearchSettings,
        how: BoxCutoffSettings,
        has_time: Callable[[], bool],
    ) -> None:
        self._bounder, self._how, self._has_time = bounder, how, has_time
        self._ascent = replace(settings.domain, iterations=how.iterations, lr_planes=0.0)
        self._budget = MemoryBudget(bytes=min(settings.budget.bytes, AT_ONCE))

    @torch.no_grad()
    def contract(self, domains: Domains, rebound: Rebound, rounds: int) -> tuple[Domains, Tensor]:
        """Improve the bounds of domains and of their neurons.

        All bounds here hold for the inputs of a domain at which its row is at most LEVEL: these lie
        in every box that a round cuts.

        Args:
            domains: ``D`` open domains.
            rebound: bounds neurons in each round.
            rounds: largest number of rounds; no round begins once the time is used up.

        Returns:
            The domains, and float64 bounds of their rows, ``D``, at most LEVEL.
        """
        view = self._bounder.view(self._bounder.exact, domains)
        inside = clamp_to_splits(view.bounds, view.graph, view.splits)
        relaxed = RelaxedBounds(inside.lower, inside.upper, view.bounds.relaxations)
        view, margins = replace(view, bounds=relaxed), view.margins()
        best = sound_lower(margins.lower[:, 0])
        going = torch.arange(len(domains), device=best.device)
        below, above = domains.below.clone(), domains.above.clone()
        for _ in range(rounds):
            if not self._has_time():
                break
            view = replace(view, box=cut(view.box, margins))
            costly = self._costs(view) > self._how.share * -best[going].unsqueeze(1)
            bounds = rebound(self._bounder, view, costly, self._budget, self._has_time)
            view, rough = replace(view, bounds=bounds), bounds.to(torch.float32)
            below[going], above[going] = self._bounder.open_rows.limits(
                domains.open_row[going], rough
            )
            view = replace(view, multipliers=self._ascended(view, rough))
            margins = view.margins()
            lower, before = sound_lower(margins.lower[:, 0]), best[going]
            best[going] = torch.maximum(before, lower)
            more = ~(lower > 0) & (lower > (1 - self._how.least_gain) * before)
            if not bool(more.any()):
                break
            going, view, margins = going[more], view[more], margins[more]
        lower = torch.maximum(domains.lower, best.to(domains.lower))
        return replace(domains, lower=lower, below=below, above=above), best.clamp(max=LEVEL)

    def not_for_relus(self, domains: Domains, lower: Tensor) -> Tensor:
        """Open domains whose ReLUs explain too little of their distance to zero, the best first."""
        cost = self._costs(self._bounder.view(self._bounder.fast, domains)).sum(1)
        order = lower.argsort(descending=True)
        found = ~(lower > 0) & (cost < self._how.most_blame * -lower)
        return order[found[order]]

    def _costs(self, view: DomainProblem) -> Tensor:
        """How much the upper line of each ReLU lowers the row's bound, ``D x R``."""
        return self._bounder.scores(view, view.bounds)[1]

    def _ascended(self, view: DomainProblem, rough: NodeBounds) -> Multipliers:
        """The float64 multipliers after a short ascent with the float32 graph and bounds."""
        single = torch.float32
        _, found = optimise(
            self._bounder.fast.graph,
            view.box.to(single),
            view.spec.to(single),
            rough,
            self._ascent,
            splits=view.splits,
            start=view.multipliers.to(single),
            until=StopRule(torch.full_like(view.spec.offsets[:, 0], CONFIRMABLE, dtype=single)),
        )
        return found.to(torch.float64)


def activations(
    bounder: Bounder,
    view: DomainProblem,
    costly: Tensor,
    budget: MemoryBudget,
    has_time: Callable[[], bool],
) -> RelaxedBounds:
    """Bound the inputs of ReLUs whose relaxation is costly; see :data:`Rebound`."""
    asked = bounder.open_rows.neurons.unflatten(costly)
    return crown_activations(view.graph, view.box, view.bounds, asked, budget, has_time)


def everything(
    bounder: Bounder,
    view: DomainProblem,
    costly: Tensor,
    budget: MemoryBudget,
    has_time: Callable[[], bool],
) -> RelaxedBounds:
    """Bound the inputs of all operations, and relax all of them again; see :data:`Rebound`."""
    found = crown_intermediate(view.graph, view.box, view.bounds, budget, has_time)
    return RelaxedBounds.of(view.graph, found.only(view.bounds.lower))


def cut(box: Box, margins: MarginBounds) -> HalfspaceBox:
    """The parts of boxes where the linear bounds of the rows are at most LEVEL."""
    normal, offset = margins.coefficients[:, 0], margins.constants[:, 0]
    return HalfspaceBox(box.lower, box.upper, normal, next_down(offset - LEVEL))
