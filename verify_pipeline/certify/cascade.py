"""The cascade: every stage gets all images that are still open, in tasks that fit in memory.

It handles everything that stages need not know: which images are open, time and deadlines, running
out of memory, exceptions, sharing images with other processes, and writing each verdict to the
ledger at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.certify.contract import Clock, Observer, Sharing, Stage, Task
from verify_pipeline.certify.evaluation_errors import Hardening
from verify_pipeline.certify.failures import StageFailure
from verify_pipeline.certify.instances import Instances
from verify_pipeline.certify.knowledge import Knowledge
from verify_pipeline.certify.memory import release
from verify_pipeline.certify.shared_time import SharedTimeBudget
from verify_pipeline.certify.stage_settings import StageShares
from verify_pipeline.certify.tasks import StageTasks
from verify_pipeline.certify.time_accounting import TimeShares
from verify_pipeline.problem import Decision, Reason, StageResult, Status, Verdict

Sink = Callable[[int, Verdict], None]
"""Stores the final verdict of the image with that index."""

LEAST_SECONDS = 1e-6
"""Seconds for an instance whose shared budget was used up by others since its stage began."""

QUICK = ("clean", "ibp", "attack", "crown")
"""Stages after which errors of evaluations are bounded better, and only where these matter."""

_MAY_CHANGE = (None, Reason.NOT_DECIDED, Reason.NOT_REPLAYED)
"""Reasons that more time might resolve; if time ran out, TIMEOUT replaces them."""


@dataclass(frozen=True)
class CascadeLimits:
    """What a cascade may use.

    Attributes:
        timeout: seconds for each instance.
        memory: approximate bytes for a task.
        device: of the tasks' tensors.
        purses: time budgets of instances that share their seconds, by index; these replace the
            timeout.
        shares: how much of an instance's remaining seconds a stage before the last may take.
        hardening: makes specifications whose proofs hold for every evaluation of the file; None:
            proofs are about real numbers.
    """

    timeout: float
    memory: int
    device: torch.device
    purses: Mapping[int, SharedTimeBudget] = field(default_factory=dict)
    shares: StageShares = field(default_factory=StageShares)
    hardening: Hardening | None = None


@dataclass
class _Progress:
    """State of one open instance: what the stages did, best bound, and why it is open, if known.

    ``hurried`` is set once a stage was told that the time of some instance of its task is up. A
    stage that has used up only its share leaves time for the next stages.
    """

    stages: list[StageResult] = field(default_factory=list)
    hurried: bool = False
    bound: float | None = None
    stage: str = ""
    reason: Reason | None = None
    detail: str = ""

    @property
    def seconds(self) -> float:
        """Seconds charged by all stages so far."""
        return sum(each.seconds for each in self.stages)

    def charge(self, stage: str, seconds: float, bound: float | None) -> None:
        """Record the seconds of a stage, and its bound if it has one."""
        if self.stages and self.stages[-1].stage == stage:  # memory ran out, and it was repeated
            seconds += self.stages.pop().seconds
        self.stages.append(StageResult(stage, seconds, bound))

    def note(self, stage: str, decision: Decision) -> None:
        """Record what a stage found out about an instance that stays open."""
        self.stage = stage
        if decision.reason is not None:
            self.reason, self.detail = decision.reason, decision.detail
        if decision.bound is not None:
            best = decision.bound if self.bound is None else max(decision.bound, self.bound)
            self.bound = best
            if self.reason in (Reason.NOT_FINITE, Reason.UNSUPPORTED) and decision.reason is None:
                self.reason, self.detail = None, ""


class Cascade:
    """One run of stages over a set of instances.

    Args:
        instances: what is certified.
        stages: in order.
        room: time and memory.
        sink: receives each verdict at once.
        observer: is told what happens.
        clock: seconds from some origin.
    """

    def __init__(
        self,
        instances: Instances,
        stages: Sequence[Stage],
        room: CascadeLimits,
        sink: Sink,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._instances = instances
        self._stages = tuple(stages)
        self._room = room
        self._sink = sink
        self._observer = observer
        self._clock = clock
        self._knowledge = Knowledge(room.memory, room.device)
        self._open: dict[int, _Progress] = {}
        self._sharing = Sharing()

    def run(self, indices: Sequence[int], sharing: Sharing | None = None) -> None:
        """Bring each of ``indices`` to a verdict, but for those that other processes take over.

        Args:
            indices: of instances without one.
            sharing: with other processes; None: there are none.
        """
        self._open = {index: _Progress() for index in indices}
        self._sharing = sharing or Sharing()
        with full_precision():
            for stage in self._stages:
                self._drop(self._sharing.gone())
                self._stop_late_ones()
                if self._open:
                    self._observer.stage_started(stage.name, len(self._open))
                    self._run_stage(stage)
        for index in list(self._open):
            self._give_up(index)

    def _drop(self, gone: set[int]) -> None:
        for index in gone & self._open.keys():
            del self._open[index]
            self._knowledge.forget(index)

    def _stop_late_ones(self) -> None:
        for index, progress in list(self._open.items()):
            if self._left(index) <= 0:
                progress.reason, progress.detail = Reason.TIMEOUT, ""
                self._give_up(index)

    def _run_stage(self, stage: Stage) -> None:
        """Give every open instance to the stage, in tasks; smaller ones where they fail."""
        if self._room.hardening is not None and self._needs_sharp_errors(stage):
            self._room.hardening.sharpen(self._open)
        size = max(1, self._room.memory // max(stage.bytes_per_instance, 1))
        tasks = StageTasks(self._open, min(size, stage.largest_task or len(self._open)))
        while tasks:
            # of a search, processes that share the images can take those that wait
            some = tasks.next(half=stage.largest_task is None and self._sharing.others)
            chunk = self._begin(some)
            if len(chunk) < len(some):
                self._observer.looked_at(stage.name, len(some) - len(chunk))
            if not chunk:
                continue
            left, failure = self._attempt(stage, chunk)
            if failure is not None and tasks.again(left, failure):
                if len(left) < len(chunk):
                    self._observer.looked_at(stage.name, len(chunk) - len(left))
                release(self._room.device)
                continue
            self._observer.looked_at(stage.name, len(chunk))
            for index in left:
                self._stays_open(stage, index, failure)

    def _needs_sharp_errors(self, stage: Stage) -> bool:
        """Whether a stage searches, or no other one comes after it."""
        return stage.name not in QUICK or stage is self._stages[-1]

    def _begin(self, some: Sequence[int]) -> list[int]:
        """The instances that a task may have: still this process's, and with time left.

        Others may have used up a shared budget since the stage began.
        """
        own = set(self._sharing.begin(some))
        self._drop(set(some) - own)
        return [index for index in some if index in own and self._left(index) > 0]

    def _attempt(self, stage: Stage, chunk: list[int]) -> tuple[list[int], StageFailure | None]:
        """Run a stage on one task.

        Returns:
            The instances without a decision, and the failure, if there was one.
        """
        shares = TimeShares(self._clock, len(chunk))
        left = dict.fromkeys(chunk)
        failure = None
        decisions = self._decisions(stage, chunk, shares)
        while True:
            # Only exceptions of the stage are caught; an error of the ledger ends the run.
            try:
                decision = next(decisions, None)
            except Exception as error:
                failure = StageFailure.of(error)
                break
            if decision is None:
                break
            index = chunk[decision.place]
            del left[index]
            seconds = shares.leave()
            seconds = seconds if decision.seconds is None else decision.seconds
            self._charge(stage, index, seconds, decision.bound)
            self._take(stage, index, decision)
        rest = shares.so_far()
        for index in left:
            self._charge(stage, index, rest)
        return list(left), failure

    def _decisions(self, stage: Stage, chunk: list[int], shares: TimeShares) -> Iterator[Decision]:
        """The stage's decisions, as a generator: all exceptions are raised during iteration."""
        yield from stage.run(self._task(stage, chunk, shares))

    def _task(self, stage: Stage, chunk: list[int], shares: TimeShares) -> Task:
        batch = self._instances.batch(chunk)
        device = self._room.device
        left = [max(self._left(index), LEAST_SECONDS) for index in chunk]
        share = 1.0 if stage is self._stages[-1] else self._room.shares.of(stage.name)
        return Task(
            tuple(chunk),
            batch.box.to(device),
            batch.spec.to(device),
            batch.points,
            share * torch.tensor(left, dtype=torch.float64),
            self._knowledge,
            has_time=lambda: self._has_time(chunk, shares, min(left), share),
            group=self._groups(chunk),
            harden=self._room.hardening,
        )

    def _left(self, index: int) -> float:
        """Seconds that an open instance may still be charged."""
        purse = self._room.purses.get(index)
        if purse is not None:
            return purse.share
        return self._room.timeout - self._open[index].seconds

    def _groups(self, chunk: list[int]) -> torch.Tensor | None:
        """Group numbers of a task's instances, equal for those that share a time budget."""
        if not self._room.purses:
            return None
        owners = [id(self._room.purses.get(index, index)) for index in chunk]
        places = {owner: place for place, owner in enumerate(owners)}
        return torch.tensor([places[owner] for owner in owners])

    def _has_time(self, chunk: list[int], shares: TimeShares, least: float, share: float) -> bool:
        passed = shares.so_far()
        if passed >= least:
            for index in self._open.keys() & set(chunk):
                self._open[index].hurried = True
        return passed < share * least

    def _charge(self, stage: Stage, index: int, seconds: float, bound: float | None = None) -> None:
        self._open[index].charge(stage.name, seconds, bound)
        if index in self._room.purses:
            self._room.purses[index].pay(seconds)

    def _take(self, stage: Stage, index: int, decision: Decision) -> None:
        progress = self._open[index]
        if self._room.hardening is not None:
            decision = self._room.hardening.judged(index, decision)
        if decision.status is Status.UNKNOWN:
            progress.note(stage.name, decision)
            if decision.final or stage is self._stages[-1]:
                self._give_up(index)
            return
        try:
            verdict = Verdict(
                decision.status,
                stage.name,
                progress.seconds,
                bound=progress.bound if decision.bound is None else decision.bound,
                counterexample=decision.counterexample,
                detail=decision.detail,
                claimed_by=decision.claimed_by,
                stages=tuple(progress.stages),
            )
        except ValueError as error:  # a stage that claims a verdict without evidence has failed
            self._stays_open(stage, index, StageFailure.of(error))
        else:
            self._settle(index, verdict)

    def _stays_open(self, stage: Stage, index: int, failure: StageFailure | None) -> None:
        progress = self._open[index]
        progress.stage = stage.name
        if failure is not None:
            progress.reason = failure.reason
            progress.detail = f"{stage.name}: {failure.detail}"
            if failure.trace:
                self._observer.raised(index, stage.name, failure.trace)
        if stage is self._stages[-1]:
            self._give_up(index)

    def _give_up(self, index: int) -> None:
        progress = self._open[index]
        late = progress.hurried or self._left(index) <= 0
        if late and progress.reason in _MAY_CHANGE:
            progress.reason = Reason.TIMEOUT
        verdict = Verdict(
            Status.UNKNOWN,
            progress.stage,
            progress.seconds,
            bound=progress.bound,
            reason=progress.reason or Reason.NOT_DECIDED,
            detail=progress.detail,
            stages=tuple(progress.stages),
        )
        self._settle(index, verdict)

    def _settle(self, index: int, verdict: Verdict) -> None:
        self._sink(index, verdict)
        del self._open[index]
        if index in self._room.purses:
            self._room.purses[index].leave()
        self._knowledge.forget(index)
        self._observer.decided(index, verdict)
