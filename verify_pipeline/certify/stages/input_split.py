"""Branch and bound on the input (``branching``), for boxes with few free inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.limits.crown_cost import crown_cost, seconds_of
from verify_pipeline.branching.search.input_split import split_inputs
from verify_pipeline.certify.boxes import inner_box
from verify_pipeline.certify.contract import Clock, Decision, Subject, Task
from verify_pipeline.certify.memory import room_to_halve
from verify_pipeline.certify.replay import confirm
from verify_pipeline.certify.root_bounds import learned, root_budget
from verify_pipeline.certify.stage_settings import InputSplitSettings
from verify_pipeline.problem import Counterexample, Reason, Status


class InputSplitStage:
    """VERIFIED if every part of the box is proved, FALSIFIED by points found on the way.

    Args:
        subject: the network.
        rows: S.
        memory: bytes that a batch may take.
        clock: seconds from some origin.
        settings: which boxes are split.
        give_up: times its seconds that a search may be expected to take; None: any.
    """

    name = "input-split"
    bytes_per_instance = 1

    def __init__(
        self,
        subject: Subject,
        rows: int,
        memory: int,
        clock: Clock,
        settings: InputSplitSettings,
        give_up: float | None = None,
    ) -> None:
        self._subject = subject
        self._settings = settings
        self._budget = root_budget(memory)
        self._clock = clock
        room = room_to_halve(subject.exact, rows, memory, self._budget, give_up, settings.patience)
        self._room = replace(room, dtype=subject.input_dtype)
        self.largest_task = room.batch

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision for each instance, as it falls."""
        known = learned(self._subject, task, self._budget).bounds
        if not self._is_affordable(task, known):
            for place in range(len(task)):
                yield Decision(place, Status.UNKNOWN, reason=Reason.NOT_DECIDED)
            return
        replayed: dict[int, Counterexample] = {}

        def accepts(place: int, point: Tensor) -> bool:
            one = slice(place, place + 1)
            box, asked = task.box[one], task.spec[one]
            (found,) = confirm(self._subject.replay, box, asked, point.unsqueeze(0))
            if found is not None:
                replayed[place] = found
            return found is not None

        asked = self._subject.exact, task.box, task.spec, known, self._room, task.deadlines
        for found in split_inputs(*asked, accepts, self._clock):
            yield _decision(found, replayed.get(found.instance))

    def _is_affordable(self, task: Task, known: NodeBounds) -> bool:
        """Whether to split inputs: few inputs are free, or there is time for many parts."""
        inner = inner_box(task.box, self._subject.input_dtype)
        free = (inner.lower < inner.upper).flatten(1).sum(1)
        if int(free.max()) <= self._settings.very_few_inputs:
            return True
        most = float(crown_cost(self._subject.exact, known).max())
        expected = seconds_of(most, self._subject.device)
        return expected <= self._settings.affordable * float(task.deadlines.seconds.min())


def _decision(found: Found, counterexample: Counterexample | None) -> Decision:
    return Decision(
        found.instance,
        found.status,
        found.bound,
        counterexample=counterexample if found.status is Status.FALSIFIED else None,
        reason=found.reason,
        detail=f"{found.domains} parts of its box",
        seconds=found.seconds,
        final=found.reason is Reason.TIMEOUT,
    )
