"""Branch and bound with β-CROWN bounds (Wang et al. 2021, arXiv:2103.06624) across images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.branching.config.search_settings import SearchSettings
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.search.every_way import SearchQuery, search_every_way
from verify_pipeline.certify.contract import Clock, Decision, Subject, Task
from verify_pipeline.certify.memory import backward_bytes, room_to_halve
from verify_pipeline.certify.replay import confirm
from verify_pipeline.certify.root_bounds import learned, root_budget, sufficient
from verify_pipeline.problem import Counterexample, Reason, Status


class BranchAndBoundStage:
    """Runs the search of ``branching`` and replays its counterexamples.

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
        room = room_to_halve(subject.exact, rows, memory, self._budget, settings.give_up)
        self._room = replace(room, dtype=subject.input_dtype)
        self.bytes_per_instance = backward_bytes(subject.exact, rows, torch.float64)

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision for each instance, as the search decides it."""
        before = self._clock()
        known = learned(self._subject, task, self._budget)
        spec = sufficient(self._subject, task, known.bounds)
        preparing = (self._clock() - before) / len(task)
        deadlines = task.deadlines.less(preparing).to(self._subject.device)
        asked = SearchQuery(
            self._subject.exact,
            task.box,
            task.spec,
            spec,
            known.bounds,
            deadlines,
            # multipliers of other rows are useless
            known.multipliers if spec is task.spec else None,
        )
        replayed: dict[int, Counterexample] = {}

        def accepts(place: int, point: Tensor) -> bool:
            found = self._confirm(task, place, point)
            if found is not None:
                replayed[place] = found
            return found is not None

        for found in search_every_way(asked, self._settings, self._room, accepts, self._clock):
            place, point = found.instance, found.point
            if point is not None and place not in replayed:
                accepts(place, point)
            yield self._decision(task, found, replayed.get(place), found.seconds + preparing)

    def _confirm(self, task: Task, place: int, point: Tensor) -> Counterexample | None:
        one, candidate = slice(place, place + 1), point.to(self._subject.input_dtype).unsqueeze(0)
        (found,) = confirm(self._subject.replay, task.box[one], task.spec[one], candidate)
        return found

    def _decision(
        self, task: Task, found: Found, counterexample: Counterexample | None, seconds: float
    ) -> Decision:
        decision = Decision(
            found.instance,
            found.status,
            found.bound,
            reason=found.reason,
            detail=f"{found.domains} domains",
            seconds=seconds,
            final=found.reason is Reason.TIMEOUT,
        )
        if found.status is not Status.FALSIFIED:
            return decision
        if counterexample is not None:
            return replace(decision, counterexample=counterexample)
        reason = Reason.EXHAUSTED if task.spec.spare else Reason.NOT_REPLAYED
        return replace(decision, status=Status.UNKNOWN, bound=None, reason=reason)
