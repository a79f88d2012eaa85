"""The attack: gradient descent on margins, then replay."""

from __future__ import annotations

from collections.abc import Iterator

from verify_pipeline.attacks.falsify import Attacked, FalsifySettings, falsify
from verify_pipeline.certify.boxes import inner_box
from verify_pipeline.certify.contract import Subject, Task
from verify_pipeline.certify.memory import activation_bytes
from verify_pipeline.certify.replay import confirm
from verify_pipeline.problem import Decision, Reason, Status
from verify_pipeline.rounding import searched


class AttackStage:
    """FALSIFIED where an input of the box breaks the specification and onnxruntime agrees."""

    name = "attack"

    def __init__(self, subject: Subject, batch: int, settings: FalsifySettings) -> None:
        self._subject = subject
        self._settings = settings
        one = activation_bytes(subject.graph, searched(subject.input_dtype))
        self.largest_task = batch
        self.bytes_per_instance = 4 * settings.targets * one

    def run(self, task: Task) -> Iterator[Decision]:
        """Decide each instance that the attack breaks; UNKNOWN if the replay does not."""
        dtype = self._subject.input_dtype
        found = falsify(
            self._subject.searched,
            inner_box(task.box, dtype),
            task.spec.to(searched(dtype)),
            task.points.to(self._subject.device),
            self._settings,
            task.indices,
            task.has_time,
        )
        broken = (found.margins <= 0).nonzero().flatten()
        candidates = found.points[broken]
        boxes, specs = task.box[broken], task.spec[broken]
        confirmed = confirm(self._subject.replay, boxes, specs, candidates, dtype)
        for place, counterexample in zip(broken.tolist(), confirmed, strict=True):
            if counterexample is None:
                yield Decision(place, Status.UNKNOWN, reason=Reason.NOT_REPLAYED)
            else:
                yield Decision(place, Status.FALSIFIED, counterexample=counterexample)
        yield from self._within_rounding(task, found)

    def _within_rounding(self, task: Task, found: Attacked) -> Iterator[Decision]:
        """Instances that nothing can prove: a margin is within what rounding changes."""
        if task.required is task.spec:
            return
        values = self._subject.exact(found.points.to(task.box.lower))
        margins = task.required.least(task.required.values(values))
        within = ((margins <= 0) & (found.margins > 0)).nonzero().flatten()
        if len(within) == 0:
            return
        required = task.required_at_least(within)
        margins = required.least(required.values(values[within]))
        for place in within[margins <= 0].tolist():
            yield Decision(place, Status.UNKNOWN, reason=Reason.ROUNDING, final=True)
