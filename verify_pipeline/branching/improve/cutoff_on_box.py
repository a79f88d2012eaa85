"""Domains that are nearly proved: looked at only where their bound is not above zero.

Where a domain's linear bound of its margin is at most zero, there alone the margin may be: a corner
of the box, the smaller the less the bound lacks. Over that part (``HalfspaceBox``) the inputs of
ReLUs are bounded anew, most of them turn out to be of one sign, the margin's bound rises and cuts
off more; rounds follow each other until nothing is left or little changes.

A round costs as much as many domains, and from far below zero it gains nothing. So each open row
has a reach: what a bound may lack for a try. A failure halves it, a success widens it.

This is for networks that multiply activations (attention), where a cut box also tightens softmax
and products. Elsewhere ``cutoff_on_neurons`` bounds neurons with the row, and cuts no box.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    HalfspaceBox,
    MarginBounds,
    MemoryBudget,
    Multipliers,
    NodeBounds,
    RelaxedBounds,
    StopRule,
    always,
    clamp_to_splits,
    crown_activations,
    crown_intermediate,
    optimise,
    relu_coefficients,
)
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import CONFIRMABLE, Bounded, Bounder, DomainProblem
from verify_pipeline.branching.evaluate.relu_scores import scores
from verify_pipeline.branching.tree.subproblems import LEVEL, Domains
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box

ROUNDS, DEAR_ROUNDS = 12, 3
"""For a domain, at most; of those in which all operations are relaxed anew."""

SHARE = 0.005
"""Of what a bound lacks, what a neuron's line costs it for the neuron to be bounded anew."""

MOST_BLAME = 0.9
"""Of what a bound lacks, what the lines of ReLUs may cost for all other operations to be relaxed
anew, which is dearer."""

STEPS = 4
"""Of the ascent in a round, which goes on where the last one ended."""

LEAST_GAIN = 0.1
"""Of what a bound lacks, what a round has to bring for another one."""

NARROWER, WIDER = 0.5, 1.25
"""A open row's reach after a failure and after a success, times what that domain's bound lacked."""

AT_ONCE = 1 << 26
"""Bytes at most for the neurons that are bounded together; a processor's caches like it small."""

STEPS_OF_TRY = 200
"""Steps of bounds that a try counts for, about."""

TRIES = 8
"""Domains of a batch that are tried, at most: they took 0.1 to 0.4 s each."""


class BoxCutoff:
    """Who is tried, and what was learned of that.

    Args:
        open_rows: G, how many there are.
        settings: of the search.
        clock: in seconds.
    """

    def __init__(
        self, open_rows: int, settings: SearchSettings, clock: Callable[[], float]
    ) -> None:
        self._reach = torch.full((open_rows,), torch.inf)
        self._settings = settings
        self._clock = clock

    def applied(self, bounder: Bounder, bounded: Bounded, left: Tensor) -> tuple[Bounded, Tensor]:
        """The domains, with better bounds of them and of their neurons where a try was worth it.

        Args:
            bounder: of the domains.
            bounded: the domains.
            left: seconds that each instance has left, ``N``.

        Returns:
            All domains, and the places of those that were tried.
        """
        began = self._clock()
        domains = bounded.domains
        left = left[bounder.open_rows.instance[domains.open_row]].cpu()
        lacking = -domains.lower.cpu()
        near = ~(bounded.confirmed > 0).cpu() & (lacking <= self._reach[domains.open_row.cpu()])
        near &= left > 0
        if not bool(near.any()):
            return bounded, domains.open_row[:0]
        order = torch.where(near, lacking, -torch.inf).argsort(descending=True)
        chosen = order[: min(int(near.sum()), TRIES)].to(domains.open_row.device)
        until = began + float(left[chosen.cpu()].min())

        def has_time() -> bool:
            return self._clock() < until

        asked = bounder, domains[chosen], self._settings
        anew = partial(activations, has_time=has_time)
        tried, lower = contracted(*asked, anew, ROUNDS, has_time)
        stalled = _elsewhere(bounder, tried, lower)[:1]
        if len(stalled):
            asked = bounder, tried[stalled], self._settings
            dear = partial(everything, has_time=has_time)
            again = contracted(*asked, dear, DEAR_ROUNDS, has_time)
            tried, lower[stalled] = tried.with_some(stalled, again[0]), again[1]
        self._learn(domains[chosen], lower)
        confirmed = bounded.confirmed.clone()
        confirmed[chosen] = torch.where(lower > 0, lower, confirmed[chosen])
        found = replace(bounded, domains=domains.with_some(chosen, tried), confirmed=confirmed)
        return found, chosen

    def _learn(self, tried: Domains, lower: Tensor) -> None:
        """Widen or narrow the reach of every open row, by what became of most of its domains."""
        closed, lacked = (lower > 0).cpu(), -tried.lower.cpu()
        for open_row in tried.open_row.unique().tolist():
            own = tried.open_row.cpu() == open_row
            won, lost = lacked[own & closed], lacked[own & ~closed]
            if len(won) >= len(lost):
                self._reach[open_row] = max(float(self._reach[open_row]), WIDER * float(won.max()))
            else:
                self._reach[open_row] = NARROWER * float(lost.min())


def _elsewhere(bounder: Bounder, domains: Domains, lower: Tensor) -> Tensor:
    """Open domains, of ``D``, for most of whose lack their ReLUs are not to blame; least first."""
    view = bounder.view(bounder.fast, domains)
    blame = costs(bounder, view).sum(1)
    order = lower.argsort(descending=True)
    found = ~(lower > 0) & (blame < MOST_BLAME * -lower)
    return order[found[order]]


Anew = Callable[[Bounder, DomainProblem, Tensor, MemoryBudget], RelaxedBounds]
"""Bounds neurons anew over what a view's boxes are cut to; told what margins' bounds are, ``D``."""


@torch.no_grad()
def contracted(
    bounder: Bounder,
    domains: Domains,
    settings: SearchSettings,
    anew: Anew,
    rounds: int,
    has_time: Callable[[], bool] = always,
) -> tuple[Domains, Tensor]:
    """Better bounds of domains and of their neurons.

    All bounds in here hold for the inputs of a domain whose margin is at most LEVEL: those lie in
    every part that is looked at.

    Args:
        bounder: of the domains.
        domains: ``D``, open.
        settings: of the search.
        anew: what is bounded in each round.
        rounds: at most.
        has_time: whether there is time for another round, asked before each.

    Returns:
        The domains, and float64 bounds of their margins, ``D``, at most LEVEL.
    """
    view = bounder.view(bounder.exact, domains)
    inside = clamp_to_splits(view.bounds, view.graph, view.splits)
    relaxed = RelaxedBounds(inside.lower, inside.upper, view.bounds.relaxations)
    view, margins = replace(view, bounds=relaxed), view.margins()
    best = sound_lower(margins.lower[:, 0])
    going = torch.arange(len(domains), device=best.device)
    below, above = domains.below.clone(), domains.above.clone()
    budget = MemoryBudget(bytes=min(settings.budget.bytes, AT_ONCE))
    for _ in range(rounds):
        if not has_time():
            break
        view = replace(view, box=_cut(view.box, margins))
        view = replace(view, bounds=anew(bounder, view, best[going], budget))
        rough = view.bounds.to(torch.float32)
        below[going], above[going] = bounder.open_rows.limits(domains.open_row[going], rough)
        view = replace(view, multipliers=_ascended(bounder.fast.graph, view, rough, settings))
        margins = view.margins()
        lower, before = sound_lower(margins.lower[:, 0]), best[going]
        best[going] = torch.maximum(before, lower)
        more = ~(lower > 0) & (lower > (1 - LEAST_GAIN) * before)
        if not bool(more.any()):
            break
        going, view, margins = going[more], view[more], margins[more]
    lower = torch.maximum(domains.lower, best.to(domains.lower))
    return replace(domains, lower=lower, below=below, above=above), best.clamp(max=LEVEL)


def activations(
    bounder: Bounder,
    view: DomainProblem,
    lower: Tensor,
    budget: MemoryBudget,
    has_time: Callable[[], bool] = always,
) -> RelaxedBounds:
    """Bound the inputs of ReLUs whose lines cost something; see :data:`Anew`.

    Once ``has_time`` says no, those that are left keep their bounds.
    """
    cost = costs(bounder, view)
    asked = bounder.open_rows.neurons.unflatten(cost > SHARE * -lower.unsqueeze(1))
    return crown_activations(view.graph, view.box, view.bounds, asked, budget, has_time)


def everything(
    bounder: Bounder,
    view: DomainProblem,
    lower: Tensor,
    budget: MemoryBudget,
    has_time: Callable[[], bool] = always,
) -> RelaxedBounds:
    """Bound the inputs of all operations, which are relaxed anew; see :data:`Anew`.

    Once ``has_time`` says no, the inputs that are left keep their bounds.
    """
    found = crown_intermediate(view.graph, view.box, view.bounds, budget, has_time)
    return RelaxedBounds.of(view.graph, found.only(view.bounds.lower))


def costs(bounder: Bounder, view: DomainProblem) -> Tensor:
    """What the line of each ReLU costs the margin's bound, ``D x R``."""
    neurons = bounder.open_rows.neurons
    arriving = relu_coefficients(
        view.graph, view.box, view.spec, view.bounds, view.multipliers, view.splits
    )
    rows = {
        place: arriving[place][:, 0]
        if place in arriving
        else torch.zeros_like(view.bounds.lower[source])
        for place, source in zip(neurons.places, neurons.sources, strict=True)
    }
    return scores(view.graph, neurons, view.bounds, rows).intercept


def _cut(box: Box, margins: MarginBounds) -> HalfspaceBox:
    """What is left of boxes where the margins' bounds are at most LEVEL."""
    normal, offset = margins.coefficients[:, 0], margins.constants[:, 0]
    return HalfspaceBox(box.lower, box.upper, normal, offset - LEVEL)


def _ascended(
    graph: Graph, view: DomainProblem, rough: NodeBounds, settings: SearchSettings
) -> Multipliers:
    """The multipliers after a domain's ascent with the float32 graph and bounds; in float64."""
    single = torch.float32
    _, found = optimise(
        graph,
        view.box.to(single),
        view.spec.to(single),
        rough,
        replace(settings.domain, iterations=STEPS, lr_planes=0.0),
        splits=view.splits,
        start=view.multipliers.to(single),
        until=StopRule(torch.full_like(view.spec.offsets[:, 0], CONFIRMABLE, dtype=single)),
    )
    return found.to(torch.float64)
