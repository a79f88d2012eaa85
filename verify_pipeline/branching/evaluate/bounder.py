"""What the search does with a batch of domains: choose a neuron, bound, confirm, solve leaves.

The search thinks in float32 and is believed in float64: a bound counts only after the same
multipliers were evaluated again with the float64 network over the float64 bounds of the root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds import (
    MarginBounds,
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    RelaxedBounds,
    Splits,
    StopRule,
    clamp_to_splits,
    crown_margins,
    optimise,
    relu_coefficients,
)
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.config.search_settings import BranchingSettings
from verify_pipeline.branching.evaluate.relu_scores import (
    CHOICES,
    Scores,
    best_candidate,
    lifts_both,
    scores,
)
from verify_pipeline.branching.exact.lp_leaf import Leaf, lp_leaf
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import LEVEL, Domains, OpenRows, split
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification

CONFIRMABLE = 1e-5
"""The float32 bound at which the ascent rests; float64 finds nearly the same and confirms it."""

LOOKAHEAD = OptimiseSettings(iterations=5, lr_alpha=0.05, lr_beta=0.1, lr_planes=0.0)
"""Ascent on the children of candidates where their first bounds tell none from another."""

WIDER = 4
"""Times as many candidates there: the one that matters may be behind a dozen that do nothing."""

SPENDABLE = 0.9
"""The share of a closed domain's bound that may be lost to having fewer splits."""


@dataclass(frozen=True, eq=False)
class DomainProblem(Batched):
    """A batch of domains as the bounds take them: every one with its own box, row and splits.

    Attributes:
        graph: the network.
        box: ``D x *X``.
        spec: ``D x 1 x K``.
        bounds: of the domains' instances at the root.
        splits: of the domains.
        multipliers: their best known ones.
    """

    graph: Graph
    box: Box
    spec: Specification
    bounds: RelaxedBounds
    splits: Splits
    multipliers: Multipliers

    def margins(self) -> MarginBounds:
        """The bounds that the multipliers give, ``D x 1``."""
        return crown_margins(
            self.graph, self.box, self.spec, self.bounds, self.multipliers, self.splits
        )


def _looked_ahead(view: DomainProblem) -> Tensor:
    """Bounds of a view's domains after a few steps of ascent, ``D``."""
    found, _ = optimise(
        view.graph,
        view.box,
        view.spec,
        view.bounds,
        LOOKAHEAD,
        splits=view.splits,
        start=view.multipliers,
        until=StopRule(torch.full_like(view.spec.offsets[:, 0], CONFIRMABLE)),
    )
    return found.lower[:, 0]


@dataclass(frozen=True, eq=False)
class Bounded:
    """Domains after their bounds were optimised.

    Attributes:
        domains: with the bounds and multipliers that were found, in float32.
        confirmed: ``D``, their bounds in float64; ``-inf`` where float32 saw none above zero.
        corners: ``D x *X``, where the linear bound is least in the box.
    """

    domains: Domains
    confirmed: Tensor
    corners: Tensor


@dataclass(frozen=True, eq=False)
class Bounder:
    """Bounds domains of some open_rows.

    Attributes:
        open_rows: whose domains.
        fast: the instances in float32.
        exact: the same in float64.
    """

    open_rows: OpenRows
    fast: SearchInstances
    exact: SearchInstances

    @torch.no_grad()
    def bound(self, domains: Domains, settings: OptimiseSettings) -> Bounded:
        """Optimise the bounds of all domains and confirm those above zero.

        Args:
            domains: whose bounds may only rise.
            settings: of the ascent, which starts from the domains' multipliers.
        """
        if len(domains) == 0:
            return Bounded(domains, domains.lower.double(), self.fast.box.lower[:0])
        view = self.view(self.fast, domains)
        margins, multipliers = optimise(
            view.graph,
            view.box,
            view.spec,
            view.bounds,
            replace(settings, lr_planes=0.0),
            splits=view.splits,
            start=view.multipliers,
            until=StopRule(torch.full_like(domains.lower, CONFIRMABLE)),
        )
        lower = margins.lower[:, 0]
        found = replace(
            domains,
            lower=torch.maximum(domains.lower, lower),
            alpha=self._compress(domains.open_row, multipliers.alpha),
            beta=self._compress(domains.open_row, multipliers.beta),
        )
        confirmed = torch.full_like(lower, -torch.inf, dtype=torch.float64)
        claimed = lower > 0
        if bool(claimed.any()):
            exact = self.view(self.exact, found[claimed]).margins().lower[:, 0]
            confirmed[claimed] = sound_lower(exact)
            confirmed = torch.where(found.limited, confirmed.clamp(max=LEVEL), confirmed)
        limited = domains.limited
        if bool(limited.any()):
            inside = clamp_to_splits(view.bounds, view.graph, view.splits)
            confirmed[limited & inside.empty()] = LEVEL
        return Bounded(found, confirmed, margins.corners(view.box)[:, 0])

    @torch.no_grad()
    def choose(
        self, domains: Domains, settings: BranchingSettings, at_once: int
    ) -> tuple[Tensor, Tensor]:
        """The column of the neuron that each domain is split at, ``D``.

        Args:
            domains: each with an undecided column.
            settings: how to choose.
            at_once: how many children may be bounded at once.

        Returns:
            The columns; and the steps of bounds that each choice took, ``D`` float64.
        """
        steps = torch.zeros_like(domains.lower, dtype=torch.float64)
        score, pick = self.scores(domains), CHOICES[settings.method]
        allowed, layers = self.open_rows.undecided(domains), self.open_rows.layers(domains.open_row)
        columns = pick(score, allowed, layers, settings.candidates)
        if columns.shape[1] == 1:
            return columns[:, 0], steps

        def bounds(view: DomainProblem) -> Tensor:
            return view.margins().lower[:, 0]

        children = self._of_children(domains, columns, at_once, bounds)
        chosen = best_candidate(children, columns, domains.lower)
        steps += 2 * columns.shape[1]
        idle = ~lifts_both(children, domains.lower)
        if bool(idle.any()):
            some = domains[idle]
            more = pick(score[idle], allowed[idle], layers[idle], WIDER * settings.candidates)
            children = self._of_children(some, more, at_once, _looked_ahead)
            chosen = chosen.masked_scatter(idle, best_candidate(children, more, some.lower))
            steps += idle * (2 * more.shape[1] * (LOOKAHEAD.iterations + 1))
        return chosen, steps

    def _of_children(
        self,
        domains: Domains,
        columns: Tensor,
        at_once: int,
        bounds: Callable[[DomainProblem], Tensor],
    ) -> Tensor:
        """Bounds of both children of each candidate, ``D x C x 2`` float32.

        Args:
            domains: ``D``.
            columns: ``D x C``, the candidates.
            at_once: how many children may be bounded at once.
            bounds: of the domains of a view.
        """
        count = columns.shape[1]
        repeated = torch.arange(len(domains), device=columns.device).repeat_interleave(count)
        tried = split(domains[repeated], columns.flatten())
        lower = [
            bounds(self.view(self.fast, tried[first : first + at_once]))
            for first in range(0, len(tried), at_once)
        ]
        return torch.cat(lower).reshape(2, len(domains), count).permute(1, 2, 0)

    def scores(self, domains: Domains) -> Scores:
        """The scores of the domains' columns, ``D x U``."""
        view = self.view(self.fast, domains)
        within = clamp_to_splits(view.bounds, view.graph, view.splits)
        return self._scores_within(view, within, domains.open_row)

    def _scores_within(self, view: DomainProblem, bounds: NodeBounds, open_row: Tensor) -> Scores:
        """As ``_scores``, for given bounds of the activations' inputs."""
        arriving = relu_coefficients(
            view.graph, view.box, view.spec, view.bounds, view.multipliers, view.splits
        )
        rows = {place: value[:, 0] for place, value in arriving.items()}
        score = scores(view.graph, self.open_rows.neurons, bounds, self._filled(rows, open_row))
        return Scores(
            self.open_rows.compress(open_row, score.babsr),
            self.open_rows.compress(open_row, score.intercept),
        )

    @torch.no_grad()
    def generalise(self, domains: Domains, bounds: Tensor) -> tuple[Tensor, Tensor]:
        """Splits that closed domains' bounds do without are dropped.

        A split with β = 0 that is dropped costs at most what the upper line lies above the
        activation, times its coefficient (to first order; what came of it is bounded anew).

        Args:
            domains: ``D``.
            bounds: ``D`` > 0, float64.

        Returns:
            Splits ``D x U`` that are enough, and bounds > 0 where they hold, ``D`` float64.
        """
        view = self.view(self.fast, domains)
        loss = self._scores_within(view, view.bounds, domains.open_row).intercept
        free = (domains.splits != 0) & (domains.beta <= 0)
        loss, order = torch.where(free, loss, torch.inf).sort(1)
        affordable = loss.cumsum(1) < SPENDABLE * bounds.unsqueeze(1)
        dropped = torch.zeros_like(free).scatter(1, order, affordable)
        larger = replace(
            domains.without_limits(),
            splits=domains.splits * ~dropped,
            alpha=torch.where(dropped, (domains.splits > 0).to(domains.alpha), domains.alpha),
        )
        lower = sound_lower(self.view(self.exact, larger).margins().lower[:, 0])
        enough = lower > 0
        splits = torch.where(enough.unsqueeze(1), larger.splits, domains.splits)
        return splits, torch.where(enough, lower, bounds)

    def leaf(self, domain: Domains) -> Leaf:
        """The exact end of one domain whose every activation is decided."""
        view = self.view(self.exact, domain.without_limits())
        return lp_leaf(view.graph, view.box, view.spec, view.bounds, view.splits)

    def view(self, instances: SearchInstances, domains: Domains) -> DomainProblem:
        """The domains, in the precision of ``instances``."""
        instance, row = (
            self.open_rows.instance[domains.open_row],
            self.open_rows.row[domains.open_row],
        )
        spec = Specification(
            instances.spec.rows[instance, row].unsqueeze(1),
            instances.spec.offsets[instance, row].unsqueeze(1),
        )
        found = self.open_rows.multipliers(domains)
        planes = {
            place: positions[instance, row].unsqueeze(1)
            for place, positions in instances.planes.items()
        }
        multipliers = Multipliers(found.alpha | planes, found.beta).to(instances.graph.dtype)
        root = instances.relaxed[instance]
        bounds = self.open_rows.narrowed(domains, root)
        return DomainProblem(
            instances.graph,
            instances.box[instance],
            spec,
            RelaxedBounds(bounds.lower, bounds.upper, root.relaxations),
            self.open_rows.splits(domains),
            multipliers,
        )

    def _compress(self, open_row: Tensor, values: dict[int, Tensor]) -> Tensor:
        """``D x U`` from multipliers ``D x 1 x *V``."""
        rows = {place: value[:, 0] for place, value in values.items()}
        return self.open_rows.compress(
            open_row, self.open_rows.neurons.flatten(self._filled(rows, open_row), len(open_row))
        )

    def _filled(self, values: dict[int, Tensor], open_row: Tensor) -> dict[int, Tensor]:
        """``D x *V`` at every activation: 0 where bounds had none, for they do not depend on it."""
        neurons, dtype = self.open_rows.neurons, self.fast.graph.dtype
        return {
            place: values[place]
            if place in values
            else torch.zeros(len(open_row), *shape, dtype=dtype, device=open_row.device)
            for place, shape in zip(neurons.places, neurons.shapes, strict=True)
        }
