"""CROWN (Zhang et al. 2018, arXiv:1811.00866) with CROWN bounds of the unstable neurons.

Each margin takes the better of its CROWN and interval bounds, as in De Palma et al. 2024
(arXiv:2305.13991). All computation is float64. A layer's neurons are bounded only for images that
the earlier layers leave open.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    functionals_that_fit,
    interval_margins,
    needed_places,
)
from verify_pipeline.branching.limits.cost import neurons_cost, seconds_of
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.evidence import decisions
from verify_pipeline.certify.knowledge import Learned, RowBounds
from verify_pipeline.certify.memory import backward_bytes
from verify_pipeline.certify.root_bounds import (
    margins_in_time,
    root_bounds,
    root_budget,
    single_rows,
    within_caches,
)
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Decision, Specification

BATCH_SECONDS = 30.0
"""Expected seconds of a batch, after which verdicts are written and other stages follow."""

UNSTABLE = 0.1
"""The share of neurons that are expected to be bounded: 0.02 to 0.1 in trained networks."""


class CrownStage:
    """VERIFIED where the better of CROWN and interval bounds is > 0 in every row.

    Args:
        subject: the network.
        batch: images at once, at most.
        rows: S.
        memory: bytes that a task may take.
    """

    name = "crown"

    def __init__(self, subject: Subject, batch: int, rows: int, memory: int) -> None:
        self._subject = subject
        self._budget = root_budget(memory)
        self.largest_task = images_of_seconds(subject, batch)
        self.bytes_per_instance = backward_bytes(subject.exact, rows, torch.float64)

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision, or a bound, for each instance; open ones' bounds are remembered."""
        budget = within_caches(self._budget, self._subject.device)
        margins = _Margins(self._subject.exact, task, budget)
        bounds = root_bounds(self._subject, task, self._budget, margins.improve)
        margins.improve(bounds, only_likely=False)
        open_ = margins.open.nonzero().flatten()
        # without time, some rows have interval bounds only
        rows = RowBounds(margins.lower, task.required.offsets)[open_] if task.has_time() else None
        indices = [task.indices[n] for n in open_.tolist()]
        task.knowledge.remember(indices, Learned(bounds[open_], rows=rows))
        yield from decisions(task.required, margins.lower, task.spec)


def images_of_seconds(subject: Subject, most: int) -> int:
    """How many images CROWN takes at once, so that a batch takes about :data:`BATCH_SECONDS`.

    A large network has enough neurons in one image; its verdicts should not wait for other images.
    """
    expected = UNSTABLE * seconds_of(neurons_cost(subject.exact), subject.device)
    return max(1, min(most, int(BATCH_SECONDS / expected) if expected > 0 else most))


class _Margins:
    """The best bounds of margins so far.

    Attributes:
        lower: ``N x S``, of interval bounds first.
    """

    def __init__(self, graph: Graph, task: Task, budget: MemoryBudget) -> None:
        self._graph, self._box, self._spec = graph, task.box, task.required
        self._has_time = task.has_time
        self._needed = needed_places(graph)
        self._functionals = functionals_that_fit(graph, len(graph.nodes) - 1, budget, torch.float64)
        self.lower = interval_margins(graph, task.box, task.required)

    @property
    def open(self) -> Tensor:
        """Instances that are not verified, ``N`` booleans."""
        return ~(self._spec.least(self.lower) > 0)

    def improve(self, bounds: NodeBounds, only_likely: bool = True) -> Tensor:
        """Improve the open instances' margins by CROWN; returns which instances remain open.

        With ``only_likely``, all rows are bounded only if the row that was worst so far holds.
        """
        open_, bounds = self.open.nonzero().flatten(), bounds.only(self._needed)
        if only_likely:
            worst = self.lower[open_].argmin(1)
            rows = single_rows(self._spec, open_, worst)
            open_ = open_[self._crown(open_, rows, bounds)[:, 0] > 0]
        found = self._crown(open_, self._spec[open_], bounds)
        self.lower[open_] = torch.maximum(self.lower[open_], found)
        return self.open

    def _crown(self, instances: Tensor, spec: Specification, bounds: NodeBounds) -> Tensor:
        """CROWN bounds ``Q x S`` of some instances, with a specification for each of these."""
        box, of_instances = self._box[instances], bounds[instances]
        return margins_in_time(
            self._graph, box, spec, of_instances, self._functionals, self._has_time
        )
