"""Early splits: a box is cut at early ReLUs, and all later neurons are bounded again.

In the usual search, a split does not change the bounds of later neurons: they stay those of the
whole box. In deep networks with few unstable neurons in the first layers and many in the last ones,
this loses most of the possible gain. There a box is cut into *cells*. The cut is at the neuron with
the best BaBSR score in the first layer that has an unstable neuron. The neurons of each cell are
bounded under its splits, and each bound has its own α and β. Open cells are searched further by
splits of ReLUs, cell by cell (``search.portfolio``).

Splits that tighten later layers: Wang et al. 2018 (Neurify, arXiv:1809.08098). The bounds are those
of α-CROWN (Xu et al. 2021, arXiv:2011.13824) with β for the splits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    Splits,
    StopRule,
    crown_margins,
    optimise,
    optimise_intermediate,
    relu_coefficients,
)
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.config.search_settings import EarlySplitSettings
from verify_pipeline.branching.evaluate.bounder import CONFIRMABLE
from verify_pipeline.branching.evaluate.relu_scores import scores
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.search.loop import Roots, Step
from verify_pipeline.branching.tree.frontier import Subproblems
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.splitting import both_signs
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Reason

AT_ONCE, BYTES = 8, 1 << 28
"""Largest number of cells that are cut at once, and of bytes for neurons that are bounded at once:
a turn can end in between."""


def are_promising(exact: SearchInstances, settings: EarlySplitSettings) -> Tensor:
    """Instances for which early splits are promising, ``N`` booleans.

    They have few unstable neurons in the first layer that has any, and more in later layers. Few
    splits then decide that layer, and each split tightens the bounds of all later layers.
    """
    neurons = Neurons.of(exact.graph)
    unstable = neurons.unstable(exact.bounds)
    if not neurons.sizes:
        return unstable.any(1)
    counts = torch.stack([part.sum(1) for part in unstable.split(neurons.sizes, 1)], 1)
    first = counts.gather(1, (counts > 0).to(torch.int8).argmax(1, keepdim=True)).squeeze(1)
    return (first <= settings.few) & (counts.sum(1) > 2 * first)


@dataclass(frozen=True, eq=False)
class Cells(Subproblems):
    """Parts of boxes, each with its own bounds of neurons.

    Attributes:
        bounds: float64 bounds of the neurons under the splits of the cells.
        splits: the splits of the cells.
        neuron: ``D``, the neuron among all R at which each cell is cut next; -1: none is unstable.
    """

    bounds: NodeBounds
    splits: Splits
    neuron: Tensor

    @property
    def can_be_split(self) -> Tensor:
        """Whether a neuron is left at which the cell can be cut, ``D`` booleans."""
        return self.neuron >= 0


class EarlySplits:
    """Cells of N instances; a :class:`SplitKind`.

    Args:
        exact: the instances, in float64.
        settings: settings of early splits.
        budget: memory for the neurons that are bounded at once.
    """

    batch = AT_ONCE
    exhausted = refuted = Reason.EXHAUSTED

    def __init__(
        self, exact: SearchInstances, settings: EarlySplitSettings, budget: MemoryBudget
    ) -> None:
        self._exact, self._fast = exact, exact.to(torch.float32)
        self._neurons, self._settings = Neurons.of(exact.graph), settings
        self._budget = MemoryBudget(bytes=min(budget.bytes, BYTES))
        self.unbounded = ~exact.are_finite()

    def roots(self) -> Roots[Cells]:
        """The whole boxes, without splits."""
        unknown = torch.full_like(self._exact.spec.offsets, -torch.inf)
        everything = torch.arange(len(unknown), device=unknown.device)
        nowhere = {
            place: torch.zeros(len(unknown), *shape, dtype=torch.int8, device=unknown.device)
            for place, shape in zip(self._neurons.places, self._neurons.shapes, strict=True)
        }
        ones, none = torch.ones_like(unknown[:, 0]), torch.full_like(everything, -1)
        whole = Cells(everything, unknown.amin(1), ones, self._exact.bounds, nowhere, none)
        return Roots(unknown, whole)

    def split(self, parents: Cells, meter: Meter) -> Step[Cells]:
        """Cut each cell at its neuron, and bound both parts."""
        flat = both_signs(self._neurons.flatten(parents.splits, parents.neuron), parents.neuron)
        twice = parents.with_more(parents)
        splits = self._neurons.unflatten(flat)
        return self.bound(
            Cells(twice.instance, twice.lower, twice.share / 2, twice.bounds, splits, twice.neuron),
            meter,
        )

    @torch.no_grad()
    def bound(self, roots: Cells, meter: Meter) -> Step[Cells]:
        """Bound the neurons of cells, then their margins."""
        exact, settings, instance = self._exact, self._settings, roots.instance
        box, spec = exact.box[instance], exact.spec[instance]
        found = optimise_intermediate(
            exact.graph,
            box,
            roots.bounds,
            settings.neurons,
            self._budget,
            meter.has_time,
            roots.splits,
        )
        bounds = found.only(tuple(roots.bounds.lower))
        fast = self._fast.graph, self._fast.box[instance], self._fast.spec[instance]
        rough = bounds.to(torch.float32)
        until = StopRule(torch.full_like(fast[2].offsets[:, 0], CONFIRMABLE))
        _, alpha = optimise(*fast, rough, settings.margins, until=until)
        margins = crown_margins(exact.graph, box, spec, bounds, alpha.to(torch.float64))
        lower, worst = sound_lower(margins.lower).min(1)
        arriving = relu_coefficients(*fast, rough, alpha)
        number = torch.arange(len(worst), device=worst.device)
        rows = {place: values[number, worst] for place, values in arriving.items()}
        neuron = neuron_to_cut(self._fast.graph, self._neurons, rough, rows)
        cells = Cells(instance, lower, roots.share, bounds, roots.splits, neuron)
        return Step(cells, lower, torch.zeros_like(lower, dtype=torch.bool))


def neuron_to_cut(
    graph: Graph, neurons: Neurons, bounds: NodeBounds, rows: dict[int, Tensor]
) -> Tensor:
    """The neuron at which each of D cells is cut: the best of its first unstable layer.

    Args:
        graph: the network.
        neurons: of its activations, R in all.
        bounds: of the cells.
        rows: node index of an activation -> its coefficients ``D x *V`` in the lower bound of each
            cell's worst row.

    Returns:
        ``D``, numbers among all R; -1 where none is unstable.
    """
    babsr, _ = scores(graph, neurons, bounds, rows)
    score = torch.where(neurons.unstable(bounds), babsr, -torch.inf)
    chosen = torch.full((len(bounds),), -1, dtype=torch.long, device=score.device)
    first = 0
    for size in neurons.sizes:
        best = score[:, first : first + size].max(1)
        takes = (chosen < 0) & (best.values > -torch.inf)
        chosen = torch.where(takes, best.indices + first, chosen)
        first += size
    return chosen
