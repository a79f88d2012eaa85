"""Branch and bound with β-CROWN bounds (Wang et al. 2021, arXiv:2103.06624) across images."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from verify_pipeline.branching.accounts import Found
from verify_pipeline.branching.cells import search_with_cells
from verify_pipeline.branching.pieces import can_be_cut, search_in_pieces
from verify_pipeline.branching.settings import SearchSettings
from verify_pipeline.certify.contract import Clock, Decision, Subject, Task
from verify_pipeline.certify.memory import backward_bytes
from verify_pipeline.certify.replay import confirm
from verify_pipeline.certify.roots import learned, root_budget, sufficient
from verify_pipeline.problem import Reason, Status


class BranchAndBoundStage:
    """What the search of ``branching`` finds, its counterexamples replayed.

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
        self.bytes_per_instance = backward_bytes(subject.exact, rows, torch.float64)

    def run(self, task: Task) -> Iterator[Decision]:
        """A decision for each instance, as the search decides it."""
        before = self._clock()
        known = learned(self._subject, task, self._budget)
        spec = sufficient(self._subject, task, known.bounds)
        preparing = (self._clock() - before) / len(task)
        deadlines = task.deadlines.less(preparing).to(self._subject.device)
        asked = (self._subject.exact, task.box, spec, known.bounds, self._settings, deadlines)
        # multipliers of other rows are of no use
        start = known.multipliers if spec is task.spec else None
        find = search_in_pieces if can_be_cut(self._subject.exact) else search_with_cells
        found_ones = find(*asked, start, self._clock)
        for found in found_ones:
            yield self._decision(task, found, found.seconds + preparing)

    def _decision(self, task: Task, found: Found, seconds: float) -> Decision:
        place, detail = found.instance, f"{found.domains} domains"
        if found.status is not Status.FALSIFIED:
            return Decision(
                place,
                found.status,
                found.bound,
                reason=found.reason,
                detail=detail,
                seconds=seconds,
                final=found.reason is Reason.TIMEOUT,
            )
        one = slice(place, place + 1)
        counterexample = None
        if found.point is not None:
            candidate = found.point.to(self._subject.input_dtype).unsqueeze(0)
            (counterexample,) = confirm(
                self._subject.replay, task.box[one], task.spec[one], candidate
            )
        if counterexample is None:
            reason = Reason.NOT_DECIDED if task.spec.spare else Reason.NOT_REPLAYED
            return Decision(place, Status.UNKNOWN, reason=reason, detail=detail, seconds=seconds)
        return Decision(
            place,
            Status.FALSIFIED,
            found.bound,
            counterexample=counterexample,
            detail=detail,
            seconds=seconds,
        )
