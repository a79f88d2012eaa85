"""Branch and bound on the input (``branching/halving.py``), for boxes with few inputs that vary."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from verify_pipeline.bounds import NodeBounds, needed_places
from verify_pipeline.branching.accounts import Found
from verify_pipeline.branching.affordable import is_rebounded_within
from verify_pipeline.branching.halving import Room, halve
from verify_pipeline.certify.boxes import inner_box
from verify_pipeline.certify.contract import Clock, Decision, Subject, Task
from verify_pipeline.certify.memory import backward_bytes
from verify_pipeline.certify.replay import confirm
from verify_pipeline.certify.roots import learned, root_budget
from verify_pipeline.network.ops import size
from verify_pipeline.problem import Counterexample, Reason, Status

FEW_FREE = 16
"""Inputs with an interval up to which boxes are halved, instead of ReLUs being split."""

BATCH = 1024
"""Domains that are bounded at once, at most."""

VERY_FEW = 4
"""Inputs with an interval up to which boxes are halved in any case: few parts may do."""

AFFORDABLE = 1 / 200
"""Of an instance's time, what CROWN bounds of a box with more of them may take to be halved."""

KEPT = 2
"""Times a batch's memory that open domains may take, from which on their task is given up."""


class InputSplitStage:
    """VERIFIED where every part of the box is proved, FALSIFIED by points met on the way.

    Args:
        subject: the network.
        rows: S.
        memory: bytes that a batch may take.
        clock: seconds from some origin.
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
        give_up: float | None = None,
    ) -> None:
        self._subject = subject
        self._budget = root_budget(memory)
        self._clock = clock
        one = backward_bytes(subject.exact, rows, torch.float64)
        batch = self.largest_task = max(1, min(BATCH, memory // one))
        nodes = [subject.exact.nodes[place] for place in (0, *needed_places(subject.exact))]
        most = KEPT * memory // (16 * sum(size(node.shape) for node in nodes))
        patience = math.inf if give_up is None else give_up
        self._room = Room(batch, most, self._budget, patience, subject.input_dtype)

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
        for found in halve(*asked, accepts, self._clock):
            yield _decision(found, replayed.get(found.instance))

    def _is_affordable(self, task: Task, known: NodeBounds) -> bool:
        """Whether there is time for many parts, or few are enough; otherwise ReLUs are split."""
        inner = inner_box(task.box, self._subject.input_dtype)
        free = (inner.lower < inner.upper).flatten(1).sum(1)
        if int(free.max()) <= VERY_FEW:
            return True
        allowed = AFFORDABLE * float(task.deadlines.seconds.min())
        asked = self._subject.exact, task.box, known, self._budget, self._clock
        return is_rebounded_within(max(allowed, 1e-9), *asked)


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
