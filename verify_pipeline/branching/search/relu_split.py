"""Splits of ReLUs: active or inactive, with a multiplier β for each split (β-CROWN).

β-CROWN (Wang et al. 2021, arXiv:2103.06624) bounds domains of different images in one batch. A
linear program solves a domain in which every ReLU is decided. This makes the search complete on
piecewise-linear networks, up to rounding in float64. Each open row of a specification has its own
tree. The search computes in float32; bounds count once they are confirmed in float64.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds import Multipliers, crown_margins
from verify_pipeline.bounds.memory import functionals_with_gradients
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.evaluate.bounder import Bounded, Bounder
from verify_pipeline.branching.evaluate.candidate_points import evaluate
from verify_pipeline.branching.evaluate.corner_attack import DescentTurns, descend
from verify_pipeline.branching.evaluate.relu_choice import choose
from verify_pipeline.branching.improve.cutoff_on_box import BoxCutoff
from verify_pipeline.branching.improve.optimise_at_root import RootOptimisation
from verify_pipeline.branching.improve.root_plane_positions import with_planes
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.search.loop import Roots, Step
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.splittable import is_splittable
from verify_pipeline.branching.tree.subproblems import Domains, Neurons, OpenRows, split
from verify_pipeline.problem import Reason


class ReluSplits:
    """Domains of N instances; a :class:`SplitKind`.

    Args:
        exact: the instances in float64; every row of their specifications must hold.
        settings: settings of the search.
        start: multipliers of the bounds at the root, ``N x S x *V`` or ``N x 1 x *V``; None: they
            are optimised here.
        refuted: the reason for UNKNOWN if a point refutes a specification, but its replay gives no
            counterexample.
        input_dtype: dtype of counterexamples.
        rows: float64 lower bounds of the rows, ``N x S``; None: they are computed here.
    """

    def __init__(
        self,
        exact: SearchInstances,
        settings: SearchSettings,
        start: Multipliers | None,
        refuted: Reason = Reason.NOT_REPLAYED,
        input_dtype: torch.dtype = torch.float32,
        rows: Tensor | None = None,
    ) -> None:
        graph = exact.graph
        fitting = functionals_with_gradients(
            graph, len(graph.nodes) - 1, settings.budget, torch.float32
        )
        self.batch = max(1, min(settings.batch, fitting // 2))
        self.is_complete = is_splittable(graph)
        self.exhausted = Reason.NOT_CONFIRMED if self.is_complete else Reason.EXHAUSTED
        self.refuted = refuted
        self.unbounded = ~exact.are_finite()
        self._settings, self._start, self._known = settings, start, rows
        self._ascent = settings.root if start is None else replace(settings.root, iterations=0)
        self._exact, self._input_dtype = exact, input_dtype
        self._turns = DescentTurns(len(exact.box))

    @torch.no_grad()
    def roots(self) -> Roots[Domains]:
        """The float64 bound of every row, and a domain without splits for each open row."""
        exact = with_planes(self._exact, self._start)
        lower = self._rows(exact) if self._known is None else sound_lower(self._known)
        neurons = Neurons.of(exact.graph)
        is_open = ~(lower > 0) & ~self.unbounded.unsqueeze(1)
        open_rows = OpenRows.of(neurons, neurons.unstable(exact.bounds), is_open)
        self._bounder = Bounder(open_rows, exact.to(torch.float32), exact)
        deployed = exact if self._input_dtype == torch.float64 else self._bounder.fast
        self._deployed = deployed
        self._root_optimisation = RootOptimisation(neurons, exact, self._settings)
        self._box_cutoff = BoxCutoff(len(open_rows), exact.graph, self._settings)
        trees = torch.bincount(open_rows.instance, minlength=len(lower))
        slopes = _alpha(exact, open_rows, self._start)
        domains = Domains(
            instance=open_rows.instance,
            lower=lower[open_rows.instance, open_rows.row].float(),
            share=1 / trees[open_rows.instance].double(),
            open_row=torch.arange(len(open_rows), device=lower.device),
            splits=torch.zeros_like(slopes, dtype=torch.int8),
            alpha=slopes,
            beta=torch.zeros_like(slopes),
            below=torch.full_like(slopes, -torch.inf),
            above=torch.full_like(slopes, torch.inf),
        )
        return Roots(lower, domains)

    @property
    def open_rows(self) -> OpenRows:
        """The open rows, and the neurons of their domains' columns; known once roots are."""
        return self._bounder.open_rows

    def leaf_multipliers(self, domain: Domains) -> dict[int, Tensor]:
        """The multipliers of a linear program, of one domain in which every ReLU is decided."""
        return self._bounder.leaf_multipliers(domain)

    def bound(self, roots: Domains, meter: Meter) -> Step[Domains]:
        """Optimise the bounds of roots, and descend from the corners of those that stay open."""
        bounded = self._bounder.bound(roots, self._ascent)
        meter.spent_on(roots.instance)
        bounded = self._box_cutoff.improved(self._bounder, bounded, meter)
        return self._step(bounded, _open(bounded), meter)

    def split(self, parents: Domains, meter: Meter) -> Step[Domains]:
        """Split domains at their best neurons, and optimise the bounds of both parts."""
        self._bounder = self._root_optimisation.after(self._bounder, parents.instance, meter)
        columns, steps = choose(self._bounder, parents, self._settings, 2 * meter.size)
        meter.spent_on(parents.instance, steps / (self._settings.domain.iterations + 1))
        children = split(parents, columns)
        bounded = self._bounder.bound(children, self._settings.domain)
        meter.spent_on(parents.instance)
        bounded = self._box_cutoff.improved(self._bounder, bounded, meter)
        open_ = _open(bounded)
        return self._step(bounded, open_[self._turns.next(bounded.domains[open_])], meter)

    def _step(self, bounded: Bounded, descended: Tensor, meter: Meter) -> Step[Domains]:
        """Search for counterexamples, and solve domains in which every ReLU is decided."""
        domains, proved = bounded.domains, bounded.confirmed.clone()
        broken = self._broken(domains.instance, bounded.corners)
        if not broken:
            broken = self._descend(bounded, descended)
            meter.spent_on(domains.instance[descended])
        leaves = ~self._bounder.open_rows.undecided(domains).any(1) & ~(proved > 0)
        empty = torch.zeros_like(leaves)
        if self.is_complete:
            for d in leaves.nonzero().squeeze(1).tolist():
                if int(domains.instance[d]) not in broken:
                    leaf = self._bounder.leaf(domains[d : d + 1])
                    proved[d] = sound_lower(leaf.lower)
                    empty[d] = leaf.points is None
                    if leaf.points is not None:
                        broken |= self._broken(domains.instance[d : d + 1], leaf.points)
        return Step(domains, proved, leaves, broken, empty)

    def _descend(self, bounded: Bounded, chosen: Tensor) -> dict[int, Tensor]:
        """Descend from the corners of some open domains to points that break a specification."""
        if self._settings.descent == 0 or len(chosen) == 0:
            return {}
        some = bounded.domains[chosen]
        row = self._bounder.view(self._bounder.fast, some).spec
        corners, steps = bounded.corners[chosen], self._settings.descent
        points = descend(self._bounder.fast, some.instance, row, corners, steps)
        return self._broken(some.instance, points)

    def _broken(self, instance: Tensor, points: Tensor) -> dict[int, Tensor]:
        return evaluate(self._deployed, self._exact, instance, points).worst(instance)

    def _rows(self, exact: SearchInstances) -> Tensor:
        """Lower bounds of the rows, ``N x S``, of some instances at once."""
        instances, rows = exact.spec.offsets.shape
        parts = torch.arange(instances).split(max(1, self._settings.batch // rows))
        return torch.cat([self._rows_of(exact[part], part) for part in parts])

    def _rows_of(self, some: SearchInstances, part: Tensor) -> Tensor:
        start = None if self._start is None else self._start[part].to(torch.float64)
        return sound_lower(crown_margins(some.graph, some.box, some.spec, some.bounds, start).lower)


def _open(bounded: Bounded) -> Tensor:
    """Indices of the domains that are not closed."""
    return (~(bounded.confirmed > 0)).nonzero().squeeze(1)


def _alpha(exact: SearchInstances, open_rows: OpenRows, start: Multipliers | None) -> Tensor:
    """The α of open rows, ``G x U`` float32: those of ``start``, or adaptive ones.

    Only the columns are read: all neurons of all rows together may not fit into memory.
    """
    given = {} if start is None else start.alpha
    neurons, columns = open_rows.neurons, open_rows.columns
    alpha = torch.zeros_like(columns, dtype=torch.float32)
    first = 0
    for place, source, size in zip(neurons.places, neurons.sources, neurons.sizes, strict=True):
        tree, column = ((first <= columns) & (columns < first + size)).nonzero(as_tuple=True)
        instance, row = open_rows.instance[tree], open_rows.row[tree]
        neuron = columns[tree, column] - first
        if place in given:
            row = row if given[place].shape[1] > 1 else torch.zeros_like(row)
            slopes = given[place].flatten(2)[instance, row, neuron]
        else:
            adaptive = exact.bounds.upper[source] > -exact.bounds.lower[source]
            slopes = adaptive.flatten(1)[instance, neuron]
        alpha[tree, column] = slopes.float()
        first += size
    return alpha
