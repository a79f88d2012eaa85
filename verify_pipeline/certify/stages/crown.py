"""CROWN (Zhang et al. 2018, arXiv:1811.00866) with CROWN bounds of the unstable neurons.

Of each margin the better of the CROWN and the interval bound counts, as in De Palma et al. 2024
(arXiv:2305.13991). All of it is float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from verify_pipeline.bounds import crown_margins, interval_margins
from verify_pipeline.certify.contract import Decision, Subject, Task
from verify_pipeline.certify.evidence import decisions
from verify_pipeline.certify.knowledge import Learned
from verify_pipeline.certify.memory import backward_bytes
from verify_pipeline.certify.roots import root_bounds, root_budget


class CrownStage:
    """VERIFIED where the better of CROWN and interval bounds is > 0 in every row.

    Args:
        subject: the network.
        batch: images at once.
        rows: S.
        memory: bytes that a task may take.
    """

    name = "crown"

    def __init__(self, subject: Subject, batch: int, rows: int, memory: int) -> None:
        self._subject = subject
        self._budget = root_budget(memory)
        self.largest_task = batch
        self.bytes_per_instance = backward_bytes(subject.exact, rows, torch.float64)

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision, or a bound, for each instance; its neurons' bounds are remembered."""
        graph = self._subject.exact
        bounds = root_bounds(self._subject, task, self._budget)
        lower = torch.maximum(
            interval_margins(graph, task.box, task.spec),
            crown_margins(graph, task.box, task.spec, bounds).lower,
        )
        open_ = (~(task.spec.least(lower) > 0)).nonzero().flatten()
        task.knowledge.remember([task.indices[n] for n in open_.tolist()], Learned(bounds[open_]))
        yield from decisions(task.spec, lower)
