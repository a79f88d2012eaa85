"""α-CROWN (Xu et al. 2021, arXiv:2011.13824): the slopes of unstable neurons are optimised.

The ascent runs in float32 and ends early where time does; the slopes that it finds are then
evaluated in float64, on float64 bounds of the neurons. Any slopes in [0, 1] are valid, so only the
last evaluation has to be exact. Rows that CROWN has above zero are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from verify_pipeline.bounds import (
    Multipliers,
    NodeBounds,
    OptimiseSettings,
    Until,
    crown_margins,
    optimise,
)
from verify_pipeline.certify.contract import Decision, Subject, Task
from verify_pipeline.certify.evidence import decisions
from verify_pipeline.certify.knowledge import Learned
from verify_pipeline.certify.memory import backward_bytes
from verify_pipeline.certify.roots import learned, root_budget
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Specification

CONFIRMABLE = 1e-4
"""The float32 bound at which the ascent rests; float64 finds nearly the same and confirms it."""


class AlphaCrownStage:
    """VERIFIED where the optimised bounds are > 0 in every row.

    Args:
        subject: the network.
        batch: images at once.
        rows: S.
        memory: bytes that a task may take.
        settings: of the ascent.
    """

    name = "alpha-crown"

    def __init__(
        self, subject: Subject, batch: int, rows: int, memory: int, settings: OptimiseSettings
    ) -> None:
        self._subject = subject
        self._settings = settings
        self._budget = root_budget(memory)
        self.largest_task = batch
        # The ascent keeps the coefficients of every layer for its gradient.
        layers = len(subject.graph.nodes)
        self.bytes_per_instance = layers * backward_bytes(subject.graph, rows, torch.float32)

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision, or a bound, for each instance; slopes are remembered."""
        exact, known = self._subject.exact, learned(self._subject, task, self._budget)
        lower = crown_margins(exact, task.box, task.spec, known.bounds).lower
        instance, row = (~(lower > 0)).nonzero(as_tuple=True)
        slopes = self._ascend(task, known.bounds, instance, row)
        better = crown_margins(
            exact,
            task.box[instance],
            _single_rows(task.spec, instance, row),
            known.bounds[instance],
            slopes.to(torch.float64),
        ).lower[:, 0]
        lower[instance, row] = torch.maximum(lower[instance, row], better)
        slopes = _laid_out(slopes, self._subject.graph, known.bounds, lower.shape, (instance, row))
        open_ = (~(task.spec.least(lower) > 0)).nonzero().flatten()
        task.knowledge.remember(
            [task.indices[n] for n in open_.tolist()], Learned(known.bounds[open_], slopes[open_])
        )
        yield from decisions(task.spec, lower)

    def _ascend(self, task: Task, bounds: NodeBounds, instance: Tensor, row: Tensor) -> Multipliers:
        """Slopes ``P x 1 x *V`` for P rows of instances, each on its own until it is verified."""
        single = torch.float32
        above = torch.full((len(row),), CONFIRMABLE, device=self._subject.device)
        return optimise(
            self._subject.graph,
            task.box[instance].to(single),
            _single_rows(task.spec, instance, row).to(single),
            bounds[instance].to(single),
            self._settings,
            until=Until(above, task.has_time),
        )[1]


def _single_rows(spec: Specification, instance: Tensor, row: Tensor) -> Specification:
    """Some rows of some instances, a specification for each."""
    return Specification(
        spec.rows[instance, row].unsqueeze(1), spec.offsets[instance, row].unsqueeze(1)
    )


def _laid_out(
    slopes: Multipliers,
    graph: Graph,
    bounds: NodeBounds,
    shape: torch.Size,
    places: tuple[Tensor, Tensor],
) -> Multipliers:
    """Slopes ``N x S x *V`` that are those of ``P`` rows at their places, elsewhere adaptive."""
    alpha = {}
    for node, found in slopes.alpha.items():
        source = graph.nodes[node].inputs[0]
        adaptive = bounds.upper[source] > -bounds.lower[source]
        whole = adaptive.unsqueeze(1).repeat(1, shape[1], *[1] * (adaptive.dim() - 1)).to(found)
        whole[places] = found[:, 0]
        alpha[node] = whole
    return Multipliers(alpha, {})
