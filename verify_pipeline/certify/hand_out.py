"""Units of work are handed out to workers as they become free: images, or properties of a set.

A unit has an index, and one outcome. What a lost worker had is given to others; a unit with which
two workers were lost is given up.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from verify_pipeline.errors import ProcessError, VerifyPipelineError

STARTS = 2
"""Attempts to start a worker: one that ends while it starts twice will not start."""

LOSSES = 2
"""Workers that may be lost with a unit before it is given up."""


@dataclass(frozen=True)
class Ready:
    """A worker waits for units."""


@dataclass(frozen=True)
class StageBegun:
    """A worker begins a stage with those units of its batch that are open.

    Attributes:
        stage: its name.
    """

    stage: str


@dataclass(frozen=True)
class Raised:
    """A unit raised an exception in a worker, which goes on; its outcome comes later.

    Attributes:
        index: of the unit.
        stage: where.
        trace: its traceback.
    """

    index: int
    stage: str
    trace: str


@dataclass(frozen=True, eq=False)
class Finished:
    """A worker has brought a unit to its outcome.

    Attributes:
        index: of the unit.
        outcome: such as a verdict.
    """

    index: int
    outcome: Any


@dataclass(frozen=True)
class Lost:
    """A worker has ended.

    Attributes:
        why: such as the signal that ended it, or the last line that it wrote.
    """

    why: str


@dataclass(frozen=True, eq=False)
class Failed:
    """A worker found what makes the whole work impossible."""

    error: VerifyPipelineError


Event = Ready | StageBegun | Raised | Finished | Lost | Failed


class CrewJob(Protocol):
    """What every worker does; it is sent to the workers."""

    @property
    def device(self) -> str:
        """Where a worker computes, by name."""
        ...

    def serve(self, receive: Callable[[], Sequence[int]], send: Callable[[Event], None]) -> None:
        """Do batches of units until ``receive`` raises.

        Args:
            receive: the next units.
            send: tells the driver: that the worker is ready, and each outcome.

        Raises:
            VerifyPipelineError: the job cannot be done here.
        """
        ...


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
        """Units for a worker that is ready."""
        ...

    def events(self) -> Iterator[tuple[int, Event]]:
        """What workers tell, as it comes; waits for at least one event."""
        ...


class Recipient(Protocol):
    """Takes what comes of the units."""

    def begun(self, stage: str, indices: Sequence[int]) -> None:
        """A worker has begun a stage with these units."""
        ...

    def raised(self, index: int, stage: str, trace: str) -> None:
        """A unit raised an exception in a worker, which goes on."""
        ...

    def finished(self, index: int, outcome: Any) -> None:
        """A unit has its outcome; told once for each."""
        ...

    def lost(self, indices: Sequence[int], why: str) -> None:
        """A worker has ended, and is replaced; these units are given to others."""
        ...

    def given_up(self, index: int, why: str) -> None:
        """A unit gets no outcome: too many workers were lost with it."""
        ...


def batch_size(waiting: int, workers: int) -> int:
    """How many units a worker that is free is given.

    Half of its share of those that wait: batches become smaller towards the end, so that no worker
    waits long for the last one.
    """
    return math.ceil(waiting / (2 * workers))


@dataclass
class WorkQueue:
    """Units that wait for a worker.

    Attributes:
        waiting: units that no worker has had, in order.
        again: batches of lost workers, which are given out first.
        workers: how many there are.
        lost: how often a worker was lost with a unit.
        largest: how many a batch has at most; None: any number.
    """

    waiting: deque[int]
    workers: int
    again: deque[tuple[int, ...]] = field(default_factory=deque)
    lost: Counter[int] = field(default_factory=Counter)
    largest: int | None = None

    @property
    def waits(self) -> bool:
        """Whether a unit waits for a worker."""
        return bool(self.waiting or self.again)

    def next(self, decided: set[int]) -> tuple[int, ...]:
        """Units for a worker that is free; none if nothing waits.

        Args:
            decided: that another command has decided meanwhile.
        """
        while self.again:
            batch = tuple(index for index in self.again.popleft() if index not in decided)
            if batch:
                return batch
        self.waiting = deque(index for index in self.waiting if index not in decided)
        size = batch_size(len(self.waiting), self.workers)
        size = min(size, self.largest or size)
        return tuple(self.waiting.popleft() for _ in range(size))

    def give_back(self, indices: Sequence[int]) -> tuple[int, ...]:
        """Units that a lost worker had; half of them each for two workers.

        Returns:
            Units that no worker can be asked to take again.
        """
        self.lost.update(indices)
        hopeless = tuple(i for i in indices if len(indices) == 1 and self.lost[i] >= LOSSES)
        rest = [index for index in indices if index not in hopeless]
        middle = (len(rest) + 1) // 2
        self.again.extend(tuple(part) for part in (rest[:middle], rest[middle:]) if part)
        return hopeless


def hand_out(
    crew: Crew,
    queue: WorkQueue,
    recipient: Recipient,
    decided_elsewhere: Callable[[], set[int]] = set,
) -> None:
    """Hand out the units of a queue until each has its outcome.

    Args:
        crew: who does them.
        queue: the units.
        recipient: takes what comes of them.
        decided_elsewhere: units that need not be done any more.

    Raises:
        ProcessError: workers cannot be started.
        VerifyPipelineError: what a worker cannot do, or the recipient cannot take.
    """
    _Work(crew, queue, recipient).run(min(crew.workers, len(queue.waiting)), decided_elsewhere)


class _Work:
    """One call of :func:`hand_out`."""

    def __init__(self, crew: Crew, queue: WorkQueue, recipient: Recipient) -> None:
        self._crew, self._queue, self._recipient = crew, queue, recipient
        self._has: dict[int, list[int]] = {}
        self._idle: set[int] = set()
        self._starting: set[int] = set()
        self._failed_starts: Counter[int] = Counter()

    def run(self, workers: int, decided_elsewhere: Callable[[], set[int]]) -> None:
        """Until no unit waits and no worker has any."""
        for worker in range(workers):
            self._start(worker)
        while True:
            if self._idle and self._queue.waits:
                self._hand_out(decided_elsewhere())
            if not self._has and not self._starting:
                return
            if not self._has and not self._queue.waits:
                return
            for worker, event in self._crew.events():
                self._take(worker, event)

    def _hand_out(self, decided: set[int]) -> None:
        for worker in sorted(self._idle):
            batch = self._queue.next(decided)
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
            case StageBegun(stage):
                self._recipient.begun(stage, tuple(self._has[worker]))
            case Raised(index, stage, trace):
                self._recipient.raised(index, stage, trace)
            case Finished(index, outcome):
                self._has[worker].remove(index)
                self._recipient.finished(index, outcome)
            case Failed(error):
                raise error
            case Lost(why):
                self._replace(worker, why)

    def _replace(self, worker: int, why: str) -> None:
        """Start a worker anew, and give its units to whoever is free first."""
        self._failed_starts[worker] += worker in self._starting
        if self._failed_starts[worker] == STARTS:
            raise ProcessError(
                f"worker {worker}",
                expected=f"one that starts, at the attempt {STARTS} at the latest",
                got=why,
                remedy="Verdicts so far are kept. Give the same command again to continue.",
            )
        self._idle.discard(worker)
        units = self._has.pop(worker, [])
        self._recipient.lost(units, why)
        for index in self._queue.give_back(units):
            why_open = f"{LOSSES} workers were lost with it, the last one: {why}"
            self._recipient.given_up(index, why_open)
        self._start(worker)
