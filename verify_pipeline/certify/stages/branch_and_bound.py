"""Branch and bound with β-CROWN bounds (Wang et al. 2021, arXiv:2103.06624) across images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.search.ways import search
from verify_pipeline.certify.contract import Clock, Subject, Task
from verify_pipeline.certify.evidence import of_rounding
from verify_pipeline.certify.memory import backward_bytes, input_split_room
from verify_pipeline.certify.replay import replay_of
from verify_pipeline.certify.root_bounds import learned, root_budget, rows_in_time
from verify_pipeline.problem import Decision, Reason


class BranchAndBoundStage:
    """What the search of ``branching`` finds, with replayed counterexamples.

    Args:
        subject: the network.
        rows: S.
        memory: bytes that a task may take.
        settings: of the search.
        clock: seconds from some origin; the search charges its time itself.
    """

    name = "branch-and-bound"
    largest_task = None

    def __init__(
        self, subject: Subject, rows: int, memory: int, settings: SearchSettings, clock: Clock
    ) -> None:
        self._subject = subject
        self._settings = settings
        self._clock = clock
        self._budget = root_budget(memory)
        self._room = input_split_room(subject.exact, rows, memory, self._budget)
        self.bytes_per_instance = backward_bytes(subject.exact, rows, torch.float64)

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision for each instance, as the search decides it."""
        before = self._clock()
        known = learned(self._subject, task, self._budget)
        rows = rows_in_time(self._subject, task, known, self._budget)
        # A proof of the rows with the best bounds suffices. A point that breaks one of them may
        # not break the specification.
        kept = task.required.kept_rows(rows)
        spec = task.required.without_spare(kept)
        preparing = (self._clock() - before) / len(task)
        query = SearchQuery(
            self._subject.exact,
            task.box,
            task.required,
            spec,
            known.bounds,
            task.deadlines.less(preparing).to(self._subject.device),
            # multipliers of other rows are of no use
            known.multipliers if spec is task.required else None,
            self._subject.input_dtype,
            rows.gather(1, kept),
        )
        replay = replay_of(self._subject, task)
        for found in search(query, self._settings, self._room, replay, self._clock):
            yield replace(
                of_rounding(found, task),
                seconds=(found.seconds or 0.0) + preparing,
                detail=f"{found.subproblems} domain{'' if found.subproblems == 1 else 's'}",
                final=found.reason is Reason.TIMEOUT,
            )
