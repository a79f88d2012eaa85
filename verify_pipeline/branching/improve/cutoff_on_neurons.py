"""The objective cutoff on neurons: bounds of a domain's neurons where its row is at most zero.

A search uses bounds of neurons over the whole box. When a domain's bound is close to zero, it
suffices to consider the inputs at which its row is at most zero. Neurons vary far less there
(``bounds.optimise.objective_cutoff``; integer programming calls this an objective cutoff). Before a
domain is split, the few neurons whose upper lines lower its bound most are bounded over these
inputs. Its descendants inherit these bounds, and further neurons are bounded for them.

This takes as long as one or two splits, and gains nothing if the bound is far below zero. A domain
*lacks* the distance of its bound below zero. Each open row learns which share of it a domain gains,
in classes of that distance. A domain is tried if the share is large, or if the tree is expected to
become short enough: if a split gains g, a domain that lacks m has n = m / g levels below it, and a
gain of a share f of m at each level leaves n / (1 + f n) of them.

Networks that multiply activations are excluded: there bounds of a few neurons change little.
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
    clamp_to_splits,
    lower_below_cutoff,
)
from verify_pipeline.bounds.memory import functionals_with_gradients, pairs, unless_memory_ends
from verify_pipeline.branching.config.search_settings import CutoffSettings, SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounder, DomainProblem
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.tree.subproblems import LEVEL, Domains
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Specification

AT_ONCE = 1 << 28
"""Largest number of bytes for the functionals of domains that are bounded together."""

SIZES = 24
"""Number of size classes of what domains lack; each class halves the one before, beginning at 256.
"""


class NeuronCutoff:
    """Chooses the domains whose neurons are bounded, and learns from the results.

    Args:
        open_rows: G, the number of open rows.
        graph: the network.
        settings: settings of the search.
    """

    def __init__(self, open_rows: int, graph: Graph, settings: SearchSettings) -> None:
        self._settings = None if pairs(graph) else settings.cutoff
        self._budget = MemoryBudget(bytes=min(settings.budget.bytes, AT_ONCE))
        self._iterations = settings.domain.iterations
        self._share = torch.zeros(open_rows, SIZES)
        self._tried = torch.zeros(open_rows, SIZES, dtype=torch.long)
        self._gain = torch.zeros(open_rows)
        self._most = settings.cutoff.tries if settings.cutoff else 0

    def improved(self, bounder: Bounder, domains: Domains, meter: Meter) -> Domains:
        """The domains, some of them with better bounds of the row and of neurons.

        Args:
            bounder: bounds the domains.
            domains: ``D`` domains that are about to be split.
            meter: records the cost.
        """
        if self._settings is None:
            return domains
        # the number of tries at most doubles from batch to batch
        chosen = self._worth(domains, self._settings).nonzero().flatten()[: self._most]
        chosen = chosen.to(domains.open_row.device)
        self._most = max(self._settings.tries, 2 * len(chosen))
        if not len(chosen):
            return domains
        some = domains[chosen]
        found = unless_memory_ends(self._bounded, bounder, some, self._settings)
        if found is None:  # out of memory: the search goes on without this mechanism
            self._settings = None
            return domains
        meter.spent_on(some.instance, self._settings.steps / (self._iterations + 1))
        self._note(some, found, self._settings)
        return domains.with_put(chosen, found)

    def learn(self, before: Domains, after: Domains) -> None:
        """Learn the gain of splits from children with their parents' bounds, and with their own."""
        if self._settings is None:
            return
        gained = (after.lower.clamp(max=0) - before.lower).clamp(min=0).cpu()
        open_rows, kept = before.open_row.cpu(), self._settings.memory
        for open_row in open_rows.unique().tolist():
            new, old = gain_of_splits(gained[open_rows == open_row]), float(self._gain[open_row])
            self._gain[open_row] = new if old == 0 else kept * old + (1 - kept) * new

    def _bounded(self, bounder: Bounder, some: Domains, settings: CutoffSettings) -> Domains:
        graph = bounder.fast.graph
        last = len(graph.nodes) - 1
        fitting = functionals_with_gradients(graph, last, self._budget, torch.float32)
        places = torch.arange(len(some), device=some.open_row.device)
        parts = places.split(max(1, fitting // (2 * settings.neurons)))
        return Domains.cat([bound_below_cutoff(bounder, some[part], settings) for part in parts])

    def _worth(self, domains: Domains, settings: CutoffSettings) -> Tensor:
        open_row, lacking = domains.open_row.cpu(), -domains.lower.cpu()
        kind = _kind(lacking)
        tried, share = self._tried[open_row, kind], self._share[open_row, kind]
        levels = lacking / self._gain[open_row].clamp(min=1e-9)
        saved = levels - levels / (1 + share * levels)
        fresh = tried < settings.tries
        fresh &= fresh.cumsum(0) <= settings.tries
        return fresh | (share > settings.enough) | (saved > math.log2(1 + settings.cost))

    def _note(self, before: Domains, after: Domains, settings: CutoffSettings) -> None:
        """Average in the gains of domains that were tried."""
        lacking = -before.lower.cpu()
        share = 1 + after.lower.cpu().clamp(max=0) / lacking.clamp(min=1e-9)
        kinds = zip(before.open_row.tolist(), _kind(lacking).tolist(), share.tolist(), strict=True)
        for open_row, kind, new in kinds:
            count = int(self._tried[open_row, kind])
            kept = min(settings.memory, count / (count + 1))
            old = self._share[open_row, kind]
            self._share[open_row, kind] = kept * old + (1 - kept) * max(new, 0.0)
            self._tried[open_row, kind] += 1


def gain_of_splits(gained: Tensor) -> float:
    """The mean gain g of splits: a tree in which every child gains g has the same size.

    A tree whose splits gain a and b in their children needs ``2^(m / g)`` leaves to gain m, where
    ``2^(-a / g) + 2^(-b / g) = 1`` (Le Bodic & Nemhauser 2017, Math. Programming 166).

    Args:
        gained: gains of both children of each split, ``D`` numbers >= 0.
    """
    low, high = 0.0, float(gained.max()) if len(gained) else 0.0
    for _ in range(20):
        middle = (low + high) / 2
        left = float(torch.exp2(-gained / max(middle, 1e-12)).mean())
        low, high = (middle, high) if left < 0.5 else (low, middle)
    return low


def _kind(lacking: Tensor) -> Tensor:
    """The size class of each domain, of SIZES."""
    return (8 - lacking.clamp(min=1e-9).log2()).long().clamp(0, SIZES - 1)


@torch.no_grad()
def bound_below_cutoff(bounder: Bounder, domains: Domains, settings: CutoffSettings) -> Domains:
    """Bound some neurons of each domain, and the domain's row with them.

    Args:
        bounder: prepares the domains.
        domains: ``D`` open domains.
        settings: the number of neurons, and the ascent.
    """
    exact, fast = bounder.view(bounder.exact, domains), bounder.view(bounder.fast, domains)
    columns = _costly(bounder, domains, settings)
    inside = clamp_to_splits(exact.bounds, exact.graph, exact.splits)
    below, above = (
        side.gather(1, columns) for side in bounder.open_rows.limits(domains.open_row, inside)
    )
    lacking = (-domains.lower).clamp(min=0.02).unsqueeze(1)
    gamma = settings.gamma * (above - below).clamp(min=1e-6) / lacking
    lower, upper = lower_below_cutoff(
        _problem(exact),
        _problem(fast),
        _singles(bounder, domains, columns),
        gamma.repeat(1, 2),
        settings.ascent,
        Multipliers(fast.multipliers.alpha, {}),
    ).chunk(2, 1)
    known = NodeBounds({0: lower}, {0: -upper}).to(torch.float32)  # the conversion rounds outwards
    found = replace(
        domains,
        below=domains.below.scatter_reduce(1, columns, known.lower[0], "amax"),
        above=domains.above.scatter_reduce(1, columns, known.upper[0], "amin"),
    )
    margins = bounder.view(bounder.fast, found).margins().lower[:, 0].clamp(max=LEVEL)
    return replace(found, lower=torch.maximum(domains.lower, margins))


def _problem(view: DomainProblem) -> MarginProblem:
    """The margin problem of the row minus LEVEL."""
    spec = Specification(view.spec.rows, view.spec.offsets - LEVEL)
    return MarginProblem(view.graph, view.box, spec, view.bounds, view.splits)


def _costly(bounder: Bounder, domains: Domains, settings: CutoffSettings) -> Tensor:
    """Columns of the neurons whose upper lines lower the bounds most, ``D x C``."""
    candidates = bounder.candidates(domains)
    late = candidates.layer >= len(bounder.open_rows.neurons.places) - settings.layers
    score = torch.where(candidates.allowed & late, candidates.loss, -1.0)
    return score.topk(min(settings.neurons, score.shape[1]), 1).indices


def _singles(bounder: Bounder, domains: Domains, columns: Tensor) -> dict[int, Tensor]:
    """Functionals of single neurons and their negatives: node index -> ``D x 2C x *V`` float64."""
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
