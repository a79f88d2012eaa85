"""Interval bounds (Gowal et al. 2018, arXiv:1810.12715) with the rows merged into the last layer.

They cost two forward passes, so they are computed in float64 straight away: where most images are
verified, computing them in float32 first would cost more than it saves.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from verify_pipeline.bounds import interval_margins
from verify_pipeline.certify.contract import Decision, Subject, Task
from verify_pipeline.certify.evidence import decisions
from verify_pipeline.certify.memory import activation_bytes


class IntervalStage:
    """VERIFIED where interval bounds of all margins are > 0."""

    name = "ibp"

    def __init__(self, subject: Subject) -> None:
        self._graph = subject.exact
        self.bytes_per_instance = 6 * activation_bytes(subject.exact, torch.float64)

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision, or a bound, for each instance."""
        yield from decisions(interval_margins(self._graph, task.box, task.spec))
