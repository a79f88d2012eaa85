"""Domains that are nearly proved: looked at only where their bound is not above zero.

Where a domain's linear bound of its margin is at most zero, there alone the margin may be: a corner
of the box, the smaller the less the bound lacks. Over that part (``bounds.CutBox``) the inputs of
ReLUs are bounded anew, most of them turn out to be of one sign, the margin's bound rises and cuts
off more; rounds follow each other until nothing is left or little changes.

A round costs as much as many domains, and from far below zero it gains nothing. So each goal has a
reach: what a bound may lack for a try. A failure halves it, a success widens it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    CutBox,
    MarginBounds,
    MemoryBudget,
    Multipliers,
    NodeBounds,
    RelaxedBounds,
    Until,
    clamp_to_splits,
    crown_activations,
    optimise,
    relu_coefficients,
)
from verify_pipeline.branching.bounding import CONFIRMABLE, Bounded, Bounder, View, believed
from verify_pipeline.branching.domains import Domains
from verify_pipeline.branching.scores import scores
from verify_pipeline.branching.settings import SearchSettings
from verify_pipeline.problem import Box

LEVEL = 1e-6
"""Inputs are cut off where the margin is above this: the bound of a domain that is closed so."""

ROUNDS = 12
"""For a domain, at most."""

SHARE = 0.005
"""Of what a bound lacks, what a neuron's line costs it for the neuron to be bounded anew."""

LEAST_GAIN = 0.1
"""Of what a bound lacks, what a round has to bring for another one."""

NARROWER, WIDER = 0.5, 1.25
"""A goal's reach after a failure and after a success, times what that domain's bound lacked."""

AT_ONCE = 1 << 26
"""Bytes at most for the neurons that are bounded together; a processor's caches like it small."""

SECONDS = 2.0
"""What the tries of one batch of domains may take, about."""


class Contraction:
    """Who is tried, and what was learned of that.

    Args:
        goals: G, how many there are.
        settings: of the search.
        clock: in seconds.
    """

    def __init__(self, goals: int, settings: SearchSettings, clock: Callable[[], float]) -> None:
        self._reach = torch.full((goals,), torch.inf)
        self._settings = settings
        self._clock = clock
        self._seconds_each = SECONDS

    def applied(self, bounder: Bounder, bounded: Bounded) -> Bounded:
        """The domains, with better bounds where a try was worth it and succeeded."""
        domains = bounded.domains
        lacking = -domains.lower.cpu()
        near = ~(bounded.confirmed > 0).cpu() & (lacking <= self._reach[domains.goal.cpu()])
        order = torch.where(near, lacking, -torch.inf).argsort(descending=True)
        most = max(1, int(SECONDS / max(self._seconds_each, 1e-9)))
        chosen = order[: min(int(near.sum()), most)].to(domains.goal.device)
        if not len(chosen):
            return bounded
        began = self._clock()
        lower = contracted(bounder, domains[chosen], self._settings)
        self._seconds_each = (self._clock() - began) / len(chosen)
        self._learn(domains[chosen], lower)
        # what a failure brought is not noted: its children begin without it
        confirmed = bounded.confirmed.clone()
        confirmed[chosen] = torch.where(lower > 0, lower, confirmed[chosen])
        return replace(bounded, confirmed=confirmed)

    def _learn(self, tried: Domains, lower: Tensor) -> None:
        """Widen or narrow the reach of every goal, by what became of most of its domains."""
        closed, lacked = (lower > 0).cpu(), -tried.lower.cpu()
        for goal in tried.goal.unique().tolist():
            own = tried.goal.cpu() == goal
            won, lost = lacked[own & closed], lacked[own & ~closed]
            if len(won) >= len(lost):
                self._reach[goal] = max(float(self._reach[goal]), WIDER * float(won.max()))
            else:
                self._reach[goal] = NARROWER * float(lost.min())


@torch.no_grad()
def contracted(bounder: Bounder, domains: Domains, settings: SearchSettings) -> Tensor:
    """Float64 bounds of domains' margins, ``D``; of margins above :data:`LEVEL` nothing is said.

    All bounds in here hold for the inputs of a domain whose margin is at most LEVEL: those lie in
    every part that is looked at.

    Args:
        bounder: of the domains.
        domains: ``D``, open.
        settings: of the search.
    """
    view = bounder.view(bounder.exact, domains)
    known = bounder.fast.relaxed[bounder.goals.instance[domains.goal]].relaxations
    relaxed, inside = view.bounds, clamp_to_splits(view.bounds, view.graph, view.splits)
    bounds = RelaxedBounds(inside.lower, inside.upper, relaxed.relaxations)
    margins = view.margins()
    best = believed(margins.lower[:, 0])
    going = torch.arange(len(domains), device=best.device)
    for _ in range(ROUNDS):
        box = _cut(view.box, margins)
        bounds = crown_activations(
            view.graph, box, bounds, _asked(bounder, view, bounds, best[going]), _budget(settings)
        )
        rough = RelaxedBounds(*_sides(bounds.to(torch.float32)), known)
        fast = replace(view, graph=bounder.fast.graph, box=box.to(torch.float32), bounds=rough)
        multipliers = _ascended(fast, settings).to(torch.float64)
        view = replace(view, box=box, bounds=bounds, multipliers=multipliers)
        margins = view.margins()
        lower, before = believed(margins.lower[:, 0]), best[going]
        best[going] = torch.maximum(before, lower)
        more = ~(lower > 0) & (lower > (1 - LEAST_GAIN) * before)
        if not bool(more.any()):
            break
        going, view, margins = going[more], view[more], margins[more]
        bounds = bounds[more]
        known = {place: relaxation[more] for place, relaxation in known.items()}
    return best.clamp(max=LEVEL)


def _asked(bounder: Bounder, view: View, bounds: NodeBounds, lower: Tensor) -> dict[int, Tensor]:
    """The neurons whose lines cost the margin's bound something, at each activation ``D x *V``."""
    neurons = bounder.goals.neurons
    arriving = relu_coefficients(
        view.graph, view.box, view.spec, view.bounds, view.multipliers, view.splits
    )
    rows = {
        place: arriving[place][:, 0]
        if place in arriving
        else torch.zeros_like(bounds.lower[source])
        for place, source in zip(neurons.places, neurons.sources, strict=True)
    }
    cost = scores(view.graph, neurons, bounds, rows).intercept
    return neurons.unflatten(cost > SHARE * -lower.unsqueeze(1))


def _cut(box: Box, margins: MarginBounds) -> CutBox:
    """What is left of boxes where the margins' bounds are at most LEVEL."""
    normal, offset = margins.coefficients[:, 0], margins.constants[:, 0]
    return CutBox(box.lower, box.upper, normal, offset - LEVEL)


def _sides(bounds: NodeBounds) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    return bounds.lower, bounds.upper


def _budget(settings: SearchSettings) -> MemoryBudget:
    return MemoryBudget(bytes=min(settings.budget.bytes, AT_ONCE))


def _ascended(view: View, settings: SearchSettings) -> Multipliers:
    """The multipliers after a domain's ascent, in float32."""
    _, found = optimise(
        view.graph,
        view.box,
        view.spec.to(torch.float32),
        view.bounds,
        replace(settings.domain, lr_planes=0.0),
        splits=view.splits,
        start=view.multipliers.to(torch.float32),
        until=Until(torch.full_like(view.spec.offsets[:, 0], CONFIRMABLE, dtype=torch.float32)),
    )
    return found
