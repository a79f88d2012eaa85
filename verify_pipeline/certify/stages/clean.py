"""The clean check: is the network right on the image itself, as its own file computes it?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from verify_pipeline.certify.contract import Decision, Subject, Task
from verify_pipeline.certify.memory import activation_bytes
from verify_pipeline.certify.replay import confirm
from verify_pipeline.problem import Status


class CleanCheck:
    """FALSIFIED where the image is classified wrongly: its own pixels are the counterexample.

    Standard accuracy is the share of images that pass. A tie of two outputs does not pass.
    """

    name = "clean"

    def __init__(self, subject: Subject) -> None:
        self._replay = subject.replay
        self.bytes_per_instance = 2 * activation_bytes(subject.graph, torch.float32)

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision for each image that is wrong."""
        confirmed = confirm(self._replay, task.box, task.spec, task.points)
        for place, counterexample in enumerate(confirmed):
            if counterexample is not None:
                yield Decision(place, Status.FALSIFIED, counterexample=counterexample)
