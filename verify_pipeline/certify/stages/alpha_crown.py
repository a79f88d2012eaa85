"""α-CROWN (Xu et al. 2021, arXiv:2011.13824): optimises the slopes of unstable neurons.

The ascent runs in float32 and stops when time is up. Its slopes are then evaluated in float64, with
float64 bounds of the neurons. All slopes in [0, 1] are valid, so only this evaluation has to be
exact. Rows that CROWN bounds above zero are skipped.

If a network multiplies activations (attention), or all of its activations are smooth, the neurons'
bounds matter more than splits. They are then optimised as well, if the estimated time allows, and
afterwards the margins again.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    StopRule,
    crown_margins,
    optimise,
    optimise_intermediate,
)
from verify_pipeline.bounds.memory import pairs
from verify_pipeline.bounds.relaxations.tangents import has_tangents
from verify_pipeline.branching.limits.cost import seconds_of, walk_cost
from verify_pipeline.branching.search.interval_split import can_be_cut
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.evidence import decisions
from verify_pipeline.certify.knowledge import Learned, RowBounds
from verify_pipeline.certify.memory import backward_bytes
from verify_pipeline.certify.root_bounds import (
    learned,
    root_budget,
    rows_in_time,
    single_rows,
)
from verify_pipeline.certify.stage_settings import AlphaCrownSettings
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import LeakyRelu, Relu
from verify_pipeline.problem import Decision


class AlphaCrownStage:
    """VERIFIED where the optimised bounds are > 0 in every row.

    Args:
        subject: the network.
        batch: images at once.
        rows: S.
        memory: bytes that a task may take.
        root: the ascent on the margins.
        settings: when and how bounds of the neurons are optimised.
    """

    name = "alpha-crown"

    def __init__(
        self,
        subject: Subject,
        batch: int,
        rows: int,
        memory: int,
        root: OptimiseSettings,
        settings: AlphaCrownSettings,
    ) -> None:
        self._subject = subject
        self._root = root
        self._settings = settings
        self._budget = root_budget(memory)
        self.largest_task = batch
        # The ascent keeps the coefficients of every layer for its gradient.
        layers = len(subject.graph.nodes)
        self.bytes_per_instance = layers * backward_bytes(subject.graph, rows, torch.float32)
        # plane positions, Adam's moments, the best so far, the gradient and its intermediate
        # tensors
        self.bytes_per_instance += 8 * rows * pairs(subject.graph) * torch.float32.itemsize

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision, or a bound, for each instance; slopes are remembered."""
        known = learned(self._subject, task, self._budget)
        bounds = known.bounds
        lower = rows_in_time(self._subject, task, known, self._budget)
        if not task.has_time():
            yield from decisions(task.required, lower, task.spec)
            return
        slopes = self._ascend(task, bounds, lower)
        open_ = (~(task.required.least(lower) > 0)).nonzero().flatten()
        bounds, slopes = bounds[open_], slopes[open_]
        if self._is_worthwhile(task, bounds):
            rest = task.picked(open_)
            required = task.required[open_]
            bounds = optimise_intermediate(
                self._subject.exact,
                rest.box,
                bounds,
                self._settings.neurons,
                self._budget,
                task.has_time,
            ).only(bounds.lower)
            again = torch.maximum(
                crown_margins(self._subject.exact, rest.box, required, bounds).lower,
                lower[open_],
            )
            slopes = self._ascend(rest, bounds, again)
            lower[open_] = again
            still = (~(required.least(again) > 0)).nonzero().flatten()
            open_, bounds, slopes = open_[still], bounds[still], slopes[still]
        rows = RowBounds(lower, task.required.offsets)[open_]
        indices = [task.indices[n] for n in open_.tolist()]
        task.knowledge.remember(indices, Learned(bounds, slopes, rows))
        yield from decisions(task.required, lower, task.spec)

    def _is_worthwhile(self, task: Task, bounds: NodeBounds) -> bool:
        """Whether to optimise the neurons' bounds of the open instances.

        Its cost is estimated, not measured, so a busy machine decides like an idle one.
        """
        graph = self._subject.graph
        if len(bounds) == 0 or not _neurons_decide(graph):
            return False
        loose = sum(
            int((bounds.lower[place] < bounds.upper[place]).sum()) for place in bounds.lower
        )
        steps = 2 * loose / len(bounds) * (self._settings.neurons.iterations + 1)
        step = self._settings.neuron_walks * walk_cost(graph, len(graph.nodes) - 1)
        expected = seconds_of(steps * step, self._subject.device)
        return expected < float(task.seconds.min())

    def _ascend(self, task: Task, bounds: NodeBounds, lower: Tensor) -> Multipliers:
        """Slopes that raise the rows of ``lower`` ``N x S`` that are not above 0."""
        single, exact = torch.float32, self._subject.exact
        instance, row = (~(lower > 0)).nonzero(as_tuple=True)
        above = torch.full((len(row),), self._settings.stop_above, device=self._subject.device)
        box, spec = task.box[instance], single_rows(task.required, instance, row)
        bounds_of_rows = bounds[instance]
        slopes = optimise(
            self._subject.graph,
            box.to(single),
            spec.to(single),
            bounds_of_rows.to(single),
            self._root,
            until=StopRule(above, task.has_time),
        )[1]
        better = crown_margins(exact, box, spec, bounds_of_rows, slopes.to(torch.float64))
        lower[instance, row] = torch.maximum(lower[instance, row], better.lower[:, 0])
        return _laid_out(slopes, self._subject.graph, bounds, lower.shape, (instance, row))


def _neurons_decide(graph: Graph) -> bool:
    """Whether the neurons' bounds matter more than splits, and can be optimised."""
    smooth = can_be_cut(graph) and any(has_tangents(node.op) for node in graph.nodes)
    return smooth or pairs(graph) > 0


def _laid_out(
    slopes: Multipliers,
    graph: Graph,
    bounds: NodeBounds,
    shape: torch.Size,
    places: tuple[Tensor, Tensor],
) -> Multipliers:
    """Slopes ``N x S x *V``: the optimised ones at their ``P`` rows, defaults elsewhere."""
    alpha = {}
    for node, found in slopes.alpha.items():
        whole = found.new_full((*shape, *found.shape[2:]), 0.5)
        if isinstance(graph.nodes[node].op, Relu | LeakyRelu):
            source = graph.nodes[node].inputs[0]
            adaptive = bounds.upper[source] > -bounds.lower[source]
            whole.copy_(adaptive.unsqueeze(1))
        whole[places] = found[:, 0]
        alpha[node] = whole
    return Multipliers(alpha, {})
