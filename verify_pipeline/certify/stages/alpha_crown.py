"""α-CROWN (Xu et al. 2021, arXiv:2011.13824): the slopes of unstable neurons are optimised.

The ascent runs in float32 and ends early where time does; the slopes that it finds are then
evaluated in float64, on float64 bounds of the neurons. Any slopes in [0, 1] are valid, so only the
last evaluation has to be exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from verify_pipeline.bounds import OptimiseSettings, Until, crown_margins, optimise
from verify_pipeline.certify.contract import Decision, Subject, Task
from verify_pipeline.certify.evidence import decisions
from verify_pipeline.certify.knowledge import Learned
from verify_pipeline.certify.memory import backward_bytes
from verify_pipeline.certify.roots import learned, root_budget

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
        single, known = torch.float32, learned(self._subject, task, self._budget)
        _, slopes = optimise(
            self._subject.graph,
            task.box.to(single),
            task.spec.to(single),
            known.bounds.to(single),
            self._settings,
            until=Until(
                torch.full((len(task),), CONFIRMABLE, device=self._subject.device), task.has_time
            ),
        )
        lower = crown_margins(
            self._subject.exact, task.box, task.spec, known.bounds, slopes.to(torch.float64)
        ).lower
        open_ = (~(task.spec.least(lower) > 0)).nonzero().flatten()
        task.knowledge.remember(
            [task.indices[n] for n in open_.tolist()], Learned(known.bounds[open_], slopes[open_])
        )
        yield from decisions(task.spec, lower)
