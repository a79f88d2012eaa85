"""The clean check: does the file classify the image itself correctly?"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.memory import activation_bytes
from verify_pipeline.certify.replay import confirm
from verify_pipeline.problem import Decision, Reason, Status


class CleanCheck:
    """FALSIFIED if the image is misclassified: its own pixels are the counterexample.

    Standard accuracy is the share of images that pass. A tie of two outputs does not pass. If the
    file returns NaN or infinity, bounds of the exact network do not apply: UNKNOWN.
    """

    name = "clean"

    def __init__(self, subject: Subject, batch: int) -> None:
        self._replay, self._dtype = subject.replay, subject.input_dtype
        self.largest_task = batch
        self.bytes_per_instance = 2 * activation_bytes(subject.graph, torch.float32)

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision for each image that is not classified correctly."""
        outputs = self._replay(task.points).double()
        finite = torch.isfinite(outputs).all(1)
        for place in (~finite).nonzero().flatten().tolist():
            yield Decision(
                place, Status.UNKNOWN, reason=Reason.NOT_FINITE, detail="its outputs", final=True
            )
        box, spec = task.box.to("cpu"), task.spec.to("cpu")
        places = (finite & (spec.least(spec.values(outputs)) <= 0)).nonzero().flatten()
        points = task.points[places]
        confirmed = confirm(self._replay, box[places], spec[places], points, self._dtype)
        for place, counterexample in zip(places.tolist(), confirmed, strict=True):
            if counterexample is not None:
                yield Decision(place, Status.FALSIFIED, counterexample=counterexample)
