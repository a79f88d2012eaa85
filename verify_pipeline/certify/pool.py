"""Several workers certify one set: batches of images go through the whole cascade.

The driver alone writes the ledger. A worker takes some images through all stages, sends each
verdict back at once, and tells which stage it begins, so that several stages go on at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import takewhile

from verify_pipeline.certify.cascade import Sink
from verify_pipeline.certify.contract import Observer
from verify_pipeline.certify.hand_out import Crew, WorkQueue, hand_out
from verify_pipeline.problem import Reason, Status, Verdict


class Pool:
    """Brings images to verdicts by the workers of a crew.

    Args:
        hire: opens the crew, and ends its workers afterwards.
        stage: name of the first stage, at which images of lost workers stay open.
    """

    def __init__(self, hire: Callable[[], AbstractContextManager[Crew]], stage: str) -> None:
        self._hire, self._stage = hire, stage

    def decide(
        self,
        indices: Sequence[int],
        sink: Sink,
        observer: Observer,
        decided_elsewhere: Callable[[], set[int]],
    ) -> None:
        """Bring each of ``indices`` to a verdict.

        Args:
            indices: of instances without one.
            sink: stores each verdict.
            observer: is told of stages that overlap, see ``contract.Observer``.
            decided_elsewhere: the indices that another command has decided meanwhile.

        Raises:
            ProcessError: workers cannot be started.
            VerifyPipelineError: what a worker cannot certify, or the sink cannot store.
        """
        if not indices:
            return
        with self._hire() as crew:
            queue = WorkQueue(deque(indices), crew.workers)
            hand_out(crew, queue, _Verdicts(sink, observer, self._stage), decided_elsewhere)


class _Verdicts:
    """Stores the verdicts of workers, and tells an observer how far the stages are.

    Every image counts once at each stage, also if a worker was lost with it and another one takes
    it through the same stages again.
    """

    def __init__(self, sink: Sink, observer: Observer, first: str) -> None:
        self._sink, self._observer, self._first = sink, observer, first
        self._came: dict[str, set[int]] = {}
        self._done: dict[str, set[int]] = {}

    def begun(self, stage: str, indices: Sequence[int]) -> None:
        """Images come to a stage, so that all stages before are done with them."""
        new = set(indices) - self._came.setdefault(stage, set())
        self._came[stage] |= new
        for earlier in self._before(stage):
            self._pass(earlier, indices)
        if new:
            self._observer.stage_started(stage, len(new))

    def raised(self, index: int, stage: str, trace: str) -> None:
        """Pass a worker's exception on."""
        self._observer.raised(index, stage, trace)

    def finished(self, index: int, outcome: Verdict) -> None:
        """Store a verdict; every stage is done with its image."""
        self._sink(index, outcome)
        self._observer.decided(index, outcome)
        for stage in self._came:
            self._pass(stage, [index])

    def lost(self, indices: Sequence[int], why: str) -> None:
        """Pass the loss of a worker on."""
        self._observer.lost_worker(len(indices), why)

    def given_up(self, index: int, why: str) -> None:
        """Leave an image open at the first stage."""
        self.begun(self._first, [index])
        verdict = Verdict(Status.UNKNOWN, self._first, 0.0, reason=Reason.ERROR, detail=why)
        self.finished(index, verdict)

    def _before(self, stage: str) -> Iterator[str]:
        """The stages before one: they first began in the order in which images go through them."""
        return takewhile(lambda each: each != stage, tuple(self._came))

    def _pass(self, stage: str, indices: Sequence[int]) -> None:
        """A stage is done with those of the images that have come to it."""
        done = self._done.setdefault(stage, set())
        new = (self._came[stage] & set(indices)) - done
        done |= new
        if new:
            self._observer.looked_at(stage, len(new))
