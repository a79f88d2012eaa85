"""Several workers certify one set: batches of images are handed out as workers become free.

The driver alone writes the ledger. A worker takes some images through the whole cascade and sends
each verdict back at once. Batches become smaller towards the end, so that no worker waits long for
the last one. The images of a worker that is lost are given to others.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from verify_pipeline.certify.cascade import Sink
from verify_pipeline.certify.contract import Observer
from verify_pipeline.certify.handing_out import batch_size
from verify_pipeline.errors import ProcessError, VerifyPipelineError
from verify_pipeline.problem import Reason, Status, Verdict

PHASE = "all stages"
"""The name under which observers are told of the images that workers take through all stages."""

STARTS = 2
"""Attempts to start a worker: one that ends while it starts twice will not start."""

LOSSES = 2
"""Workers that may be lost with an image before it stays open."""


@dataclass(frozen=True)
class Ready:
    """A worker waits for images."""


@dataclass(frozen=True, eq=False)
class ImageDecided:
    """A worker has brought an image to its verdict."""

    index: int
    verdict: Verdict


@dataclass(frozen=True)
class Lost:
    """A worker has ended.

    Attributes:
        why: such as the signal that ended it, or the last line that it wrote.
    """

    why: str


@dataclass(frozen=True, eq=False)
class Failed:
    """A worker found what makes the whole certification impossible."""

    error: VerifyPipelineError


Event = Ready | ImageDecided | Lost | Failed


class Crew(Protocol):
    """Workers by number from 0, wherever they run."""

    @property
    def workers(self) -> int:
        """How many there are at most."""
        ...

    def start(self, worker: int) -> None:
        """Start a worker; its first event is that it is ready, or lost."""
        ...

    def give(self, worker: int, indices: Sequence[int]) -> None:
        """Images for a worker that is ready."""
        ...

    def events(self) -> Iterator[tuple[int, Event]]:
        """What workers tell, as it comes; waits for at least one event."""
        ...


@dataclass
class WorkQueue:
    """Images that wait for a worker.

    Attributes:
        waiting: images that no worker has had, in order.
        again: batches of lost workers, which are given out first.
        workers: how many there are.
        lost: how often a worker was lost with an image.
    """

    waiting: deque[int]
    workers: int
    again: deque[tuple[int, ...]] = field(default_factory=deque)
    lost: Counter[int] = field(default_factory=Counter)

    @property
    def waits(self) -> bool:
        """Whether an image waits for a worker."""
        return bool(self.waiting or self.again)

    def next(self, decided: set[int]) -> tuple[int, ...]:
        """Images for a worker that is free; none if nothing waits.

        Args:
            decided: that another command has decided meanwhile.
        """
        while self.again:
            batch = tuple(index for index in self.again.popleft() if index not in decided)
            if batch:
                return batch
        self.waiting = deque(index for index in self.waiting if index not in decided)
        size = batch_size(len(self.waiting), self.workers)
        return tuple(self.waiting.popleft() for _ in range(size))

    def give_back(self, indices: Sequence[int]) -> tuple[int, ...]:
        """Images that a lost worker had; half of them each for two workers.

        Returns:
            Images that no worker can be asked to take again.
        """
        self.lost.update(indices)
        hopeless = tuple(i for i in indices if len(indices) == 1 and self.lost[i] >= LOSSES)
        rest = [index for index in indices if index not in hopeless]
        middle = (len(rest) + 1) // 2
        self.again.extend(tuple(part) for part in (rest[:middle], rest[middle:]) if part)
        return hopeless


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
            observer: is told of one phase for all stages.
            decided_elsewhere: the indices that another command has decided meanwhile.

        Raises:
            ProcessError: workers cannot be started.
            VerifyPipelineError: what a worker cannot certify, or the sink cannot store.
        """
        if not indices:
            return
        observer.stage_started(PHASE, len(indices))
        with self._hire() as crew:
            queue = WorkQueue(deque(indices), crew.workers)
            work = _Work(crew, queue, sink, observer, self._stage)
            work.run(min(crew.workers, len(indices)), decided_elsewhere)


class _Work:
    """One call of :meth:`Pool.decide`."""

    def __init__(
        self, crew: Crew, batches: WorkQueue, sink: Sink, observer: Observer, stage: str
    ) -> None:
        self._crew, self._batches, self._stage = crew, batches, stage
        self._sink, self._observer = sink, observer
        self._has: dict[int, list[int]] = {}
        self._idle: set[int] = set()
        self._starting: set[int] = set()
        self._failed_starts: Counter[int] = Counter()

    def run(self, workers: int, decided_elsewhere: Callable[[], set[int]]) -> None:
        """Until no image waits and no worker has any."""
        for worker in range(workers):
            self._start(worker)
        while True:
            if self._idle and self._batches.waits:
                self._hand_out(decided_elsewhere())
            if not self._has and not self._starting:
                return
            if not self._has and not self._batches.waits:
                return
            for worker, event in self._crew.events():
                self._take(worker, event)

    def _hand_out(self, decided: set[int]) -> None:
        for worker in sorted(self._idle):
            batch = self._batches.next(decided)
            if batch:
                self._idle.discard(worker)
                self._has[worker] = list(batch)
                self._crew.give(worker, batch)

    def _start(self, worker: int) -> None:
        self._starting.add(worker)
        self._crew.start(worker)

    def _take(self, worker: int, event: Event) -> None:
        match event:
            case Ready():
                self._starting.discard(worker)
                self._failed_starts[worker] = 0
                self._has.pop(worker, None)
                self._idle.add(worker)
            case ImageDecided(index, verdict):
                self._has[worker].remove(index)
                self._settle(index, verdict)
            case Failed(error):
                raise error
            case Lost(why):
                self._replace(worker, why)

    def _replace(self, worker: int, why: str) -> None:
        """Start a worker anew, and give its images to whoever is free first."""
        self._failed_starts[worker] += worker in self._starting
        if self._failed_starts[worker] == STARTS:
            raise ProcessError(
                f"worker {worker}",
                expected=f"one that starts, at the attempt {STARTS} at the latest",
                got=why,
                remedy="Verdicts so far are in the ledger; the same command goes on.",
            )
        self._idle.discard(worker)
        for index in self._batches.give_back(self._has.pop(worker, [])):
            detail = f"{LOSSES} workers were lost with it, the last one: {why}"
            verdict = Verdict(Status.UNKNOWN, self._stage, 0.0, reason=Reason.ERROR, detail=detail)
            self._settle(index, verdict)
        self._start(worker)

    def _settle(self, index: int, verdict: Verdict) -> None:
        self._sink(index, verdict)
        self._observer.decided(index, verdict)
        self._observer.looked_at(PHASE, 1)
