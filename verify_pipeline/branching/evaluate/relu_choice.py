"""Choice of the ReLU that a domain is split at: a heuristic's candidates, and their children.

kFSB takes the candidate whose worse child has the best bound. Here the product of both children's
gains decides, as in integer programming (Achterberg 2009, Constraint Integer Programming, section
5.4), because the better child costs work, too. If every candidate has a child that gains almost
nothing, more candidates are compared after a few steps of ascent (look-ahead; strong branching in
the same section).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from verify_pipeline.bounds import OptimiseSettings, StopRule, optimise
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import CONFIRMABLE, Bounder, DomainProblem
from verify_pipeline.branching.heuristics import HEURISTICS
from verify_pipeline.branching.tree.subproblems import Domains, split

NO_GAIN = 1e-6
"""A child's gain counts at least this much, as a share of its parent's distance below zero."""

LITTLE = 1e-3
"""A child that gains a smaller share of its parent's distance below zero is not lifted."""


@torch.no_grad()
def choose(
    bounder: Bounder, domains: Domains, settings: SearchSettings, at_once: int
) -> tuple[Tensor, Tensor]:
    """Choose the neuron at which each domain is split.

    Args:
        bounder: bounds the children.
        domains: ``D`` domains, each with an undecided column.
        settings: the heuristic that picks candidates, and their number.
        at_once: how many children may be bounded at once.

    Returns:
        The column of each neuron, ``D``; the bound evaluations of each choice, ``D`` float64.
    """
    steps = torch.zeros_like(domains.share)
    branching = settings.branching
    pick, candidates = HEURISTICS[branching.method], bounder.candidates(domains)
    columns = pick(candidates, branching.candidates)
    if columns.shape[1] == 1:
        return columns[:, 0], steps
    children = _children(bounder, domains, columns, at_once, _as_they_are)
    chosen = best_candidate(children, columns, domains.lower)
    steps += 2 * columns.shape[1]
    idle = ~lifts_both(children, domains.lower)
    ahead = branching.lookahead
    if ahead is not None and bool(idle.any()):
        some = domains[idle]
        more = pick(candidates[idle], branching.wider * branching.candidates)
        children = _children(bounder, some, more, at_once, partial(_looked_ahead, ahead))
        chosen = chosen.masked_scatter(idle, best_candidate(children, more, some.lower))
        steps += idle * (2 * more.shape[1] * (ahead.iterations + 1))
    return chosen, steps


def _as_they_are(view: DomainProblem) -> Tensor:
    return view.margins().lower[:, 0]


def _looked_ahead(ascent: OptimiseSettings, view: DomainProblem) -> Tensor:
    """Bounds after a few steps of ascent, ``D``."""
    found, _ = optimise(
        view.graph,
        view.box,
        view.spec,
        view.bounds,
        ascent,
        splits=view.splits,
        start=view.multipliers,
        until=StopRule(torch.full_like(view.spec.offsets[:, 0], CONFIRMABLE)),
    )
    return found.lower[:, 0]


def _children(
    bounder: Bounder,
    domains: Domains,
    columns: Tensor,
    at_once: int,
    bounds: Callable[[DomainProblem], Tensor],
) -> Tensor:
    """Bounds of both children of each candidate, ``D x C x 2`` float32.

    Args:
        bounder: prepares the children for ``bounds``.
        domains: ``D`` domains.
        columns: ``D x C``, the candidates.
        at_once: how many children may be bounded at once.
        bounds: computes the bounds of a batch of domains.
    """
    count = columns.shape[1]
    repeated = torch.arange(len(domains), device=columns.device).repeat_interleave(count)
    tried = split(domains[repeated], columns.flatten())
    parts = torch.arange(len(tried), device=columns.device).split(at_once)
    lower = [bounds(bounder.view(bounder.fast, tried[part])) for part in parts]
    return torch.cat(lower).reshape(2, len(domains), count).permute(1, 2, 0)


def best_candidate(lower: Tensor, columns: Tensor, before: Tensor) -> Tensor:
    """The candidate whose children have the best bounds, ``D`` columns.

    Args:
        lower: ``D x C x 2``, the bounds of both children of each candidate.
        columns: ``D x C``.
        before: ``D``, the domains' own bounds.
    """
    # a gain of zero counts a little, so that the other child's gain still distinguishes candidates
    gain = _gains(lower, before).clamp(min=NO_GAIN)
    return columns.gather(1, gain.prod(2).argmax(1, keepdim=True)).squeeze(1)


def lifts_both(lower: Tensor, before: Tensor) -> Tensor:
    """Domains with a candidate that lifts the bounds of both children, ``D`` booleans.

    Without such a candidate, bounds that are not optimised hardly distinguish candidates: the gain
    of a child often shows only after its β has grown.

    Args:
        lower: ``D x C x 2``, the bounds of both children of each candidate.
        before: ``D``, the domains' own bounds.
    """
    return (_gains(lower, before).amin(2) > LITTLE).any(1)


def _gains(lower: Tensor, before: Tensor) -> Tensor:
    """Gains of children, ``D x C x 2`` in [0, 1], as shares of their parents' distance to zero."""
    before = before.view(-1, 1, 1)
    missing = (-before).clamp(min=torch.finfo(lower.dtype).tiny)
    return ((lower - before) / missing).nan_to_num(0.0).clamp(0.0, 1.0)
