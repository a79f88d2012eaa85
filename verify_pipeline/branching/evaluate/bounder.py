"""The operations on a batch of domains of ReLU splits: bound, confirm, score, solve leaves.

The search computes in float32, but only float64 proves: a bound counts only after the same
multipliers have been evaluated again with the float64 network and the float64 bounds at the root.
"""

from __future__ import annotations

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
from verify_pipeline.branching.evaluate.relu_scores import scores
from verify_pipeline.branching.exact.lp_leaf import Leaf, leaf_multipliers, lp_leaf
from verify_pipeline.branching.heuristics import Candidates
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import LEVEL, Domains, OpenRows
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification

CONFIRMABLE = 1e-5
"""The float32 bound at which the ascent stops; float64 gives nearly the same and confirms it."""


@dataclass(frozen=True, eq=False)
class DomainProblem(Batched):
    """A batch of domains as arguments of the bounds: each has its own box, row and splits.

    Attributes:
        graph: the network.
        box: ``D x *X``.
        spec: ``D x 1 x K``.
        bounds: bounds at the root, intersected with the domains' own bounds of neurons.
        splits: the splits of the domains.
        multipliers: the best known multipliers of the domains.
    """

    graph: Graph
    box: Box
    spec: Specification
    bounds: RelaxedBounds
    splits: Splits
    multipliers: Multipliers

    def margins(self) -> MarginBounds:
        """The bounds of the rows with these multipliers, ``D x 1``."""
        return crown_margins(
            self.graph, self.box, self.spec, self.bounds, self.multipliers, self.splits
        )


@dataclass(frozen=True, eq=False)
class Bounded:
    """Domains whose bounds were optimised.

    Attributes:
        domains: the domains with the bounds and multipliers that were found, in float32.
        confirmed: ``D``, their bounds in float64; ``-inf`` where the float32 bound is not above
            zero.
        corners: ``D x *X``, the corners of the box at which the linear bound is least.
    """

    domains: Domains
    confirmed: Tensor
    corners: Tensor


@dataclass(frozen=True, eq=False)
class Bounder:
    """Bounds domains of some open rows.

    Attributes:
        open_rows: the open rows.
        fast: the instances in float32.
        exact: the instances in float64.
    """

    open_rows: OpenRows
    fast: SearchInstances
    exact: SearchInstances

    @torch.no_grad()
    def bound(self, domains: Domains, settings: OptimiseSettings) -> Bounded:
        """Optimise the bounds of all domains and confirm those above zero.

        Args:
            domains: the domains; their bounds never become worse.
            settings: settings of the ascent, which starts from the domains' multipliers.
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
    def candidates(self, domains: Domains) -> Candidates:
        """The neurons at which domains can be split, with BaBSR and intercept scores."""
        view = self.view(self.fast, domains)
        inside = clamp_to_splits(view.bounds, view.graph, view.splits)
        gain, loss = self.scores(view, inside)
        return Candidates(
            self.open_rows.undecided(domains),
            self.open_rows.compress(domains.open_row, gain),
            self.open_rows.compress(domains.open_row, loss),
            self.open_rows.layers(domains.open_row),
        )

    def scores(self, view: DomainProblem, bounds: NodeBounds) -> tuple[Tensor, Tensor]:
        """BaBSR and intercept scores of all neurons, ``D x R``.

        Args:
            view: the domains.
            bounds: bounds of the activations' inputs, ``D``.
        """
        arriving = relu_coefficients(
            view.graph, view.box, view.spec, view.bounds, view.multipliers, view.splits
        )
        rows = {place: value[:, 0] for place, value in arriving.items()}
        return scores(view.graph, self.open_rows.neurons, bounds, rows)

    def leaf(self, domain: Domains) -> Leaf:
        """Solve one domain in which every activation is decided."""
        view = self.view(self.exact, domain.without_limits())
        return lp_leaf(view.graph, view.box, view.spec, view.bounds, view.splits)

    def leaf_multipliers(self, domain: Domains) -> dict[int, Tensor]:
        """The multipliers of one domain in which every activation is decided, ``*V`` each."""
        view = self.view(self.exact, domain.without_limits())
        return leaf_multipliers(view.graph, view.box, view.spec, view.bounds, view.splits)

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
        """``D x U`` from multipliers ``D x 1 x *V``; 0 where a bound had no multiplier."""
        rows = {place: value[:, 0] for place, value in values.items()}
        like = self.fast.spec.offsets[self.open_rows.instance[open_row]]
        return self.open_rows.compress(open_row, self.open_rows.neurons.flatten(rows, like))
