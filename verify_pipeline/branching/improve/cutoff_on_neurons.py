"""Bounds of a domain's neurons where its row is at most zero, and under its splits.

The bounds of neurons that a search works with are those of the whole box. A domain that lacks
little to zero need only be looked at where its row is at most zero, where neurons vary far less
(``objective_cutoff``). Before it is split, the few whose upper lines cost its bound most are
bounded anew; its descendants inherit that, and have a few more bounded.

It takes as long as a split or two, and gains nothing far below zero. So it is learned for each open
row what share of their lack it brings domains, by how large that lack is. It is done where that is
much, or where it is expected to shorten the tree enough: where a split gains g, a domain that lacks
m has n = m / g levels below it, and a share f of m at each leaves n / (1 + f n) of them.

This is for networks that do not multiply activations; of those that do, see ``cutoff_on_box``.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MarginProblem,
    MemoryBudget,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    clamp_to_splits,
    lower_below_cutoff,
)
from verify_pipeline.bounds.memory import functionals_with_gradients
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounder, DomainProblem
from verify_pipeline.branching.tree.subproblems import LEVEL, Domains
from verify_pipeline.problem import Specification

NEURONS = 12
"""Of a domain, those that are bounded anew; 48 gain a quarter more, in four times the time."""

LAYERS = 3
"""Of activations, counted from the last: bounds of earlier ones hardly depend on the margin."""

ASCENT = OptimiseSettings(iterations=2, lr_alpha=0.3, lr_beta=0.1, decay=0.85)
"""For each bound; 6 steps gain no more."""

START = 0.15
"""γ to begin with, in widths of the neuron by what the row's bound lacks."""

STEPS = 2 * NEURONS * (ASCENT.iterations + 1)
"""Steps of bounds that it takes for a domain."""

AT_ONCE = 1 << 28
"""Bytes at most for the functionals of the domains that are looked at together."""

SIZES = 24
"""Kinds of domains: what they lack, in halvings of 256."""

ENOUGH = 0.25
"""The share of what domains lack that is worth it in any case."""

COST = 1.7
"""What it costs, in splits."""

TRIES, MEMORY = 4, 0.8
"""Domains of a kind that are tried; what of an old mean stays when there is something new."""


class NeuronCutoff:
    """Who is worth it, and what was learned about that.

    Args:
        open_rows: G, how many there are.
        settings: of the search.
    """

    def __init__(self, open_rows: int, settings: SearchSettings) -> None:
        self._budget = MemoryBudget(bytes=min(settings.budget.bytes, AT_ONCE))
        self._share = torch.zeros(open_rows, SIZES)
        self._tried = torch.zeros(open_rows, SIZES, dtype=torch.long)
        self._gain = torch.zeros(open_rows)
        self._most = TRIES

    def narrowed(self, bounder: Bounder, domains: Domains) -> tuple[Domains, Tensor]:
        """The domains, those that it is worth for with better bounds of them and their neurons.

        Returns:
            All domains, and the places of those that it was done for.
        """
        # a batch's size follows what the last one took, so that more are done step by step
        chosen = self._worth(domains).nonzero().flatten()[: self._most].to(domains.open_row.device)
        self._most = max(TRIES, 2 * len(chosen))
        if not len(chosen):
            return domains, chosen
        graph = bounder.fast.graph
        last = len(graph.nodes) - 1
        fitting = functionals_with_gradients(graph, last, self._budget, torch.float32)
        parts = [domains[part] for part in chosen.split(max(1, fitting // (2 * NEURONS)))]
        found = Domains.cat([narrow(bounder, part) for part in parts])
        self._note(domains[chosen], found)
        return domains.with_some(chosen, found), chosen

    def learn(self, before: Domains, after: Domains) -> None:
        """Take in what splits gained: children with their parents' bounds, and with their own."""
        gained = (after.lower.clamp(max=0) - before.lower).clamp(min=0).cpu()
        open_rows = before.open_row.cpu()
        for open_row in open_rows.unique().tolist():
            new, old = gain_of_splits(gained[open_rows == open_row]), float(self._gain[open_row])
            self._gain[open_row] = new if old == 0 else MEMORY * old + (1 - MEMORY) * new

    def _worth(self, domains: Domains) -> Tensor:
        open_row, lacking = domains.open_row.cpu(), -domains.lower.cpu()
        kind = _kind(lacking)
        tried, share = self._tried[open_row, kind], self._share[open_row, kind]
        levels = lacking / self._gain[open_row].clamp(min=1e-9)
        saved = levels - levels / (1 + share * levels)
        fresh = tried < TRIES
        fresh &= fresh.cumsum(0) <= TRIES
        return fresh | (share > ENOUGH) | (saved > math.log2(1 + COST))

    def _note(self, before: Domains, after: Domains) -> None:
        """Take in what it brought to some domains."""
        lacking = -before.lower.cpu()
        share = 1 + after.lower.cpu().clamp(max=0) / lacking.clamp(min=1e-9)
        kinds = zip(before.open_row.tolist(), _kind(lacking).tolist(), share.tolist(), strict=True)
        for open_row, kind, new in kinds:
            count = int(self._tried[open_row, kind])
            kept = min(MEMORY, count / (count + 1))
            self._share[open_row, kind] = kept * self._share[open_row, kind] + (1 - kept) * max(
                new, 0.0
            )
            self._tried[open_row, kind] += 1


def gain_of_splits(gained: Tensor) -> float:
    """The gain g of a split such that a tree in which each child gains g is as large.

    A tree whose splits gain a and b in their children needs ``2^(m / g)`` leaves for what lacks m,
    with ``2^(-a / g) + 2^(-b / g) = 1`` (Le Bodic & Nemhauser 2017, Math. Programming 166).

    Args:
        gained: of both children of each split, ``D`` numbers >= 0.
    """
    low, high = 0.0, float(gained.max()) if len(gained) else 0.0
    for _ in range(20):
        middle = (low + high) / 2
        left = float(torch.exp2(-gained / max(middle, 1e-12)).mean())
        low, high = (middle, high) if left < 0.5 else (low, middle)
    return low


def _kind(lacking: Tensor) -> Tensor:
    """Which of SIZES kinds of domains each is of."""
    return (8 - lacking.clamp(min=1e-9).log2()).long().clamp(0, SIZES - 1)


@torch.no_grad()
def narrow(bounder: Bounder, domains: Domains) -> Domains:
    """Domains with bounds of some neurons of their own, and the better bounds that these give.

    Args:
        bounder: of the domains.
        domains: ``D``, open.
    """
    exact, fast = bounder.view(bounder.exact, domains), bounder.view(bounder.fast, domains)
    columns = _costly(bounder, domains)
    inside = clamp_to_splits(exact.bounds, exact.graph, exact.splits)
    below, above = (
        side.gather(1, columns) for side in bounder.open_rows.limits(domains.open_row, inside)
    )
    lacking = (-domains.lower).clamp(min=0.02).unsqueeze(1)
    gamma = START * (above - below).clamp(min=1e-6) / lacking
    lower, upper = lower_below_cutoff(
        _problem(exact),
        _problem(fast),
        _singles(bounder, domains, columns),
        gamma.repeat(1, 2),
        ASCENT,
        Multipliers(fast.multipliers.alpha, {}),
    ).chunk(2, 1)
    known = NodeBounds({0: lower}, {0: -upper}).to(torch.float32)  # of one place, as it were
    found = replace(
        domains,
        below=domains.below.scatter_reduce(1, columns, known.lower[0], "amax"),
        above=domains.above.scatter_reduce(1, columns, known.upper[0], "amin"),
    )
    margins = bounder.view(bounder.fast, found).margins().lower[:, 0].clamp(max=LEVEL)
    return replace(found, lower=torch.maximum(domains.lower, margins))


def _problem(view: DomainProblem) -> MarginProblem:
    """Of the row less LEVEL."""
    spec = Specification(view.spec.rows, view.spec.offsets - LEVEL)
    return MarginProblem(view.graph, view.box, spec, view.bounds, view.splits)


def _costly(bounder: Bounder, domains: Domains) -> Tensor:
    """Columns of the neurons whose upper lines cost the bounds most, ``D x C``."""
    open_rows = bounder.open_rows
    late = open_rows.layers(domains.open_row) >= len(open_rows.neurons.places) - LAYERS
    allowed = open_rows.undecided(domains) & late
    score = torch.where(allowed, bounder.scores(domains).intercept, -1.0)
    return score.topk(min(NEURONS, score.shape[1]), 1).indices


def _singles(bounder: Bounder, domains: Domains, columns: Tensor) -> dict[int, Tensor]:
    """Functionals of single neurons and their negatives, ``D x 2C x *V`` float64 at their nodes."""
    neurons, count = bounder.open_rows.neurons, columns.shape[1]
    places = bounder.open_rows.columns[domains.open_row].gather(1, columns)
    found, first = {}, 0
    for source, shape, size in zip(neurons.sources, neurons.shapes, neurons.sizes, strict=True):
        domain, number = ((places >= first) & (places < first + size)).nonzero(as_tuple=True)
        if len(domain):
            rows = columns.new_zeros(len(places), 2 * count, size, dtype=torch.float64)
            at = places[domain, number] - first
            rows[domain, number, at], rows[domain, number + count, at] = 1.0, -1.0
            found[source] = rows.unflatten(2, shape)
        first += size
    return found
