"""Better bounds of a domain, of the part of its box where its row may be at most zero.

Where a domain's linear bound of its row is above zero, so is the row. What is left is a corner of
the box, the smaller the closer the bound is to zero. Over that part (``HalfspaceBox``; Kotha et al.
2023, arXiv:2302.01404) the inputs of ReLUs are bounded, most of them turn out to be of one sign,
the row's bound rises and cuts off more. Rounds follow each other until nothing is left or little
changes.

A round costs as much as many domains, and from far below zero it gains nothing. So each open row
has a reach: what a bound may lack for a try. A failure halves it, a success widens it.

This is for networks that multiply activations (attention), where a smaller box also tightens
softmax and products. Elsewhere ``cutoff_on_neurons`` bounds neurons with the row.
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

NARROWER, WIDER = 0.5, 1.25
"""A row's reach after a failure and after a success, times what that domain's bound lacked."""

AT_ONCE = 1 << 26
"""Bytes at most for the neurons that are bounded together; a processor's caches like it small."""

Rebound = Callable[
    [Bounder, DomainProblem, Tensor, MemoryBudget, Callable[[], bool]], RelaxedBounds
]
"""Bounds neurons over what boxes are cut to; told which neurons cost something, ``D x R``."""


class BoxCutoff:
    """Who is tried, and what was learned of that.

    Args:
        open_rows: G, how many there are.
        graph: of the domains.
        settings: of the search.
    """

    def __init__(self, open_rows: int, graph: Graph, settings: SearchSettings) -> None:
        self._reach = torch.full((open_rows,), torch.inf)
        self._settings = settings
        self._how = settings.box_cutoff if pairs(graph) else None

    def improved(self, bounder: Bounder, bounded: Bounded, meter: Meter) -> Bounded:
        """The domains; those for which a try was worth it with better bounds.

        Args:
            bounder: of the domains.
            bounded: the domains.
            meter: is told what it cost.
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
        """Places of open domains that are within reach, those that lack most first."""
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
        """Bound ReLUs' inputs first, and all operations' where ReLUs are not to blame."""
        rounds = _Rounds(bounder, self._settings, how, has_time)
        tried, lower = rounds.contract(domains, activations, how.rounds)
        stalled = rounds.not_for_relus(tried, lower)[:1]
        if len(stalled):
            again, better = rounds.contract(tried[stalled], everything, how.full_rounds)
            tried, lower[stalled] = tried.with_put(stalled, again), better
        return tried, lower

    def _learn(self, tried: Domains, lower: Tensor) -> None:
        """Widen or narrow the reach of every open row, by what became of most of its domains."""
        closed, lacked = (lower > 0).cpu(), -tried.lower.cpu()
        for row in tried.open_row.unique().tolist():
            own = tried.open_row.cpu() == row
            won, lost = lacked[own & closed], lacked[own & ~closed]
            if len(won) >= len(lost):
                self._reach[row] = max(float(self._reach[row]), WIDER * float(won.max()))
            else:
                self._reach[row] = NARROWER * float(lost.min())


class _Rounds:
    """Rounds of smaller boxes and better bounds."""

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
        """Better bounds of domains and of their neurons.

        All bounds in here hold for the inputs of a domain whose row is at most LEVEL: those lie in
        every part that is looked at.

        Args:
            domains: ``D``, open.
            rebound: what is bounded in each round.
            rounds: at most; none begins once there is no time.

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
        """Open domains whose ReLUs explain too little of their lack, the best first."""
        cost = self._costs(self._bounder.view(self._bounder.fast, domains)).sum(1)
        order = lower.argsort(descending=True)
        found = ~(lower > 0) & (cost < self._how.most_blame * -lower)
        return order[found[order]]

    def _costs(self, view: DomainProblem) -> Tensor:
        """What the line of each ReLU costs the row's bound, ``D x R``."""
        return self._bounder.scores(view, view.bounds)[1]

    def _ascended(self, view: DomainProblem, rough: NodeBounds) -> Multipliers:
        """The multipliers after a short ascent with the float32 graph and bounds; in float64."""
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
    """Bound the inputs of ReLUs whose lines cost something; see :data:`Rebound`."""
    asked = bounder.open_rows.neurons.unflatten(costly)
    return crown_activations(view.graph, view.box, view.bounds, asked, budget, has_time)


def everything(
    bounder: Bounder,
    view: DomainProblem,
    costly: Tensor,
    budget: MemoryBudget,
    has_time: Callable[[], bool],
) -> RelaxedBounds:
    """Bound the inputs of all operations, and relax these again; see :data:`Rebound`."""
    found = crown_intermediate(view.graph, view.box, view.bounds, budget, has_time)
    return RelaxedBounds.of(view.graph, found.only(view.bounds.lower))


def cut(box: Box, margins: MarginBounds) -> HalfspaceBox:
    """What is left of boxes where the rows' linear bounds are at most LEVEL."""
    normal, offset = margins.coefficients[:, 0], margins.constants[:, 0]
    return HalfspaceBox(box.lower, box.upper, normal, offset - LEVEL)
