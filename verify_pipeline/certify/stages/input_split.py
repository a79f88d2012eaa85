"""Branch and bound on the input (``branching``), for boxes with few free inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from verify_pipeline.bounds import NodeBounds
from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.cost import crown_cost, seconds_of
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.search.ways import split_inputs
from verify_pipeline.certify.boxes import inner_box
from verify_pipeline.certify.contract import Clock, Subject, Task
from verify_pipeline.certify.evidence import of_rounding
from verify_pipeline.certify.memory import input_split_room
from verify_pipeline.certify.replay import replay_of
from verify_pipeline.certify.root_bounds import learned, root_budget
from verify_pipeline.certify.stage_settings import FewInputSettings
from verify_pipeline.problem import Decision, Reason, Status


class InputSplitStage:
    """VERIFIED if every part of the box is proved, FALSIFIED by points found on the way.

    Args:
        subject: the network.
        rows: S.
        memory: bytes that a batch may take.
        search: settings of the search.
        settings: which boxes are split.
        clock: seconds from some origin.
    """

    name = "input-split"
    bytes_per_instance = 1

    def __init__(
        self,
        subject: Subject,
        rows: int,
        memory: int,
        search: SearchSettings,
        settings: FewInputSettings,
        clock: Clock,
    ) -> None:
        self._subject = subject
        self._settings = settings
        self._budget = root_budget(memory)
        self._clock = clock
        room = input_split_room(subject.exact, rows, memory, self._budget)
        self._room = replace(room, patience=settings.patience)
        self._search = search
        self.largest_task = room.batch

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision for each instance, as it falls."""
        known = learned(self._subject, task, self._budget).bounds
        if not self._is_affordable(task, known):
            for place in range(len(task)):
                yield Decision(place, Status.UNKNOWN, reason=Reason.NOT_DECIDED)
            return
        query = SearchQuery(
            self._subject.exact,
            task.box,
            task.required,
            task.required,
            known,
            task.deadlines.to(self._subject.device),
            input_dtype=self._subject.input_dtype,
        )
        replay = replay_of(self._subject, task)
        for found in split_inputs(query, self._search, self._room, replay, self._clock):
            detail = f"{found.subproblems} parts of its box"
            found = of_rounding(found, task)
            yield replace(found, detail=detail, final=found.reason is Reason.TIMEOUT)

    def _is_affordable(self, task: Task, known: NodeBounds) -> bool:
        """Whether to split inputs: few inputs are free, or there is time for many parts."""
        inner = inner_box(task.box, self._subject.input_dtype)
        free = (inner.lower < inner.upper).flatten(1).sum(1)
        if int(free.max()) <= self._settings.very_few_inputs:
            return True
        most = float(crown_cost(self._subject.exact, known).max())
        expected = seconds_of(most, self._subject.device)
        return expected <= self._settings.affordable * float(task.deadlines.seconds.min())
