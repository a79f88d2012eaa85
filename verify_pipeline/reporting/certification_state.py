"""How far a certification is: counts, the running stage, its rate, and the time that is left.

Stages run one after the other over all images, so that the rate of one says nothing of the next.
Times are therefore told of the running stage; of the whole run there is an interval only in the
last stage, or where the ledger holds a finished sample of the same run. Where workers take batches
through all stages, stages have counts and charged seconds; rate and time left are of the whole run.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from verify_pipeline.certify.contract import Observer
from verify_pipeline.certify.job_plan import JobPlan
from verify_pipeline.certify.records import Record
from verify_pipeline.certify.stage_verdicts import SEARCHING_STAGES
from verify_pipeline.problem import Status, Verdict
from verify_pipeline.reporting.durations import TimeRange, pace

OUTCOMES = ("verified", "falsified", "wrong", "undecided")
"""What may become of an image, in the order in which counts are told."""

ALL_STAGES = "all stages"
"""The phase of a certification whose stages overlap."""

RECENT = 0.25
"""The rate of a search is that of the last quarter of its time."""


def outcome(verdict: Verdict | Record) -> str:
    """One of :data:`OUTCOMES`; images that the clean check falsifies are misclassified: wrong."""
    if verdict.status is Status.FALSIFIED:
        return "wrong" if verdict.stage == "clean" else "falsified"
    return "verified" if verdict.status is Status.VERIFIED else "undecided"


def counts_text(counts: Counter[str]) -> str:
    """The counts that are not 0: ``40 verified, 3 falsified``."""
    return ", ".join(f"{counts[name]:,} {name}" for name in OUTCOMES if counts[name])


def images_text(images: int) -> str:
    """A number of images: ``1 image``, ``10,000 images``."""
    return f"{images:,} image" if images == 1 else f"{images:,} images"


@dataclass
class StageState:
    """How far one stage is.

    Other threads read it while it changes: all updates are single assignments or appends.

    Attributes:
        name: of the stage.
        images: that it began with.
        clock: seconds from some origin.
        looked_at: images of the tasks that are done.
        counts: its verdicts, by outcome.
        decided_at: the clock's time of each verdict.
        charged: seconds that images were charged for it, all together.
        began: the clock's time of its beginning.
        batch_ended: the clock's time at which the last task was done.
        ended: the clock's time of its end; None: it runs.
    """

    name: str
    images: int
    clock: Callable[[], float]
    looked_at: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    decided_at: list[float] = field(default_factory=list)
    charged: float = 0.0
    began: float = 0.0
    batch_ended: float = 0.0
    ended: float | None = None
    whose: ClassVar[str] = ""
    """Whose seconds they are, where they are not those that passed."""

    def __post_init__(self) -> None:
        self.began = self.batch_ended = self.clock()

    def batch_done(self, images: int) -> None:
        """Count the images of a task that is done."""
        self.batch_ended = self.clock()
        self.looked_at += images

    def count(self, name: str) -> None:
        """Count a verdict by its outcome."""
        self.counts[name] += 1
        self.decided_at.append(self.clock())

    @property
    def done(self) -> int:
        """Images that the stage is done with; those decided in a task that runs are among them."""
        return max(self.looked_at, len(self.decided_at))

    @property
    def seconds(self) -> float:
        """That it has run."""
        return (self.clock() if self.ended is None else self.ended) - self.began

    @property
    def searches(self) -> bool:
        """Whether its images take very different times, hard ones last."""
        return self.name in SEARCHING_STAGES

    def recent(self) -> tuple[int, float]:
        """How many images were done in how many seconds, as the rate is told."""
        seconds = self.seconds
        if self.ended is not None:
            return self.done, seconds
        if not self.searches:
            return self.looked_at, self.batch_ended - self.began
        window = RECENT * seconds
        before = bisect_right(self.decided_at, self.began + seconds - window)
        return len(self.decided_at) - before, window

    @property
    def rate(self) -> str:
        """As text; empty before the first batch is done."""
        images, seconds = self.recent()
        return pace(images, seconds) if images and seconds > 0 else ""

    def left(self, limit: float) -> TimeRange | None:
        """The seconds that are left; None before the first batch is done.

        Args:
            limit: the seconds that images may still take, all together.
        """
        images, seconds = self.recent()
        if self.searches:
            low = (self.images - self.done) * seconds / images if images else 0.0
            return TimeRange(min(low, limit), limit)
        if not images:
            return None
        # of the batch that runs, the clock knows only how long it has run
        since = self.clock() - self.batch_ended
        remaining = (self.images - self.looked_at) * seconds / images
        expected = min(max(remaining - since, seconds / images), remaining, limit)
        return TimeRange(expected, expected)


@dataclass
class OverlappingStage(StageState):
    """A stage to which images come batch by batch: its seconds are those that were charged."""

    whose: ClassVar[str] = " of all workers"

    @property
    def seconds(self) -> float:
        """That its decided images were charged, by all workers together."""
        return self.charged

    def recent(self) -> tuple[int, float]:
        """Nothing: how fast it is depends on when images come to it."""
        return 0, 0.0

    def left(self, limit: float) -> TimeRange | None:
        """None: more images may come to it."""
        return None


@dataclass
class AllStages(StageState):
    """All images of a run whose stages overlap; each is done once it is decided.

    Easy images are decided first, so that their rate is no more than a lower limit of the time.
    """

    @property
    def searches(self) -> bool:
        """Hard images come last."""
        return True


class CertificationState(Observer):
    """Keeps count of a certification; displays and files read it.

    Args:
        clock: seconds from some origin.

    Attributes:
        plan: what is certified; None: it has not begun.
        images: that verdicts are asked for.
        before: of these, how many were decided when it began.
        counts: verdicts since then, by outcome.
        stages: those that have begun, in order.
        whole: all stages as one, if they overlap; else None.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.plan: JobPlan | None = None
        self.images = self.before = 0
        self.counts: Counter[str] = Counter()
        self.stages: list[StageState] = []
        self.whole: AllStages | None = None
        self._began = clock()
        self._charged = 0.0

    def planned(self, plan: JobPlan) -> None:
        """Keep the plan, and count from 0."""
        self.plan, self.stages, self.counts, self.whole = plan, [], Counter(), None

    def started(self, images: int, decided: int) -> None:
        """Keep the numbers."""
        self.images, self.before = images, decided
        self._began, self._charged = self._clock(), 0.0
        if self.plan is not None and self.plan.stages_overlap and images > decided:
            self.whole = AllStages(ALL_STAGES, images - decided, self._clock)

    def stage_started(self, stage: str, images: int) -> None:
        """End the stage before, and begin another; or count images that come to one."""
        if self.whole is None:
            self._end_stages()
            self.stages.append(StageState(stage, images, self._clock))
            return
        known = self.named(stage)
        if known is None:
            self.stages.append(OverlappingStage(stage, images, self._clock))
        else:
            known.images += images

    def decided(self, index: int, verdict: Verdict) -> None:
        """Count the verdict."""
        name = outcome(verdict)
        self.counts[name] += 1
        self._charged += verdict.seconds
        if self.whole is not None:
            self.whole.count(name)
        for result in verdict.stages:
            if (of := self.named(result.stage)) is not None:
                of.charged += result.seconds
        decider = self.named(verdict.stage) or (self.stages[-1] if self.stages else None)
        if decider is not None:
            decider.count(name)

    def looked_at(self, stage: str, images: int) -> None:
        """Count the images."""
        known = self.named(stage)
        if known is not None:
            known.batch_done(images)

    def finished(self) -> None:
        """End what runs."""
        self._end_stages()

    def named(self, stage: str) -> StageState | None:
        """The stage of a name, the last one; None: it has not begun."""
        return next((each for each in reversed(self.stages) if each.name == stage), None)

    @property
    def stage(self) -> StageState | None:
        """The stage that runs, or ran last; all stages as one, if they overlap."""
        return self.whole or (self.stages[-1] if self.stages else None)

    @property
    def open(self) -> int:
        """Images without a verdict."""
        return self.images - self.before - self.counts.total()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._clock() - self._began

    @property
    def limit(self) -> float:
        """Seconds that the open images may still take together, if all use up their time.

        Seconds are charged by share, so those of all images add up to the time that passes.
        """
        allowed = self.open * (0.0 if self.plan is None else self.plan.timeout)
        return max(0.0, allowed - max(0.0, self.seconds - self._charged))

    @property
    def waiting(self) -> tuple[str, ...]:
        """Stages that have not begun."""
        if self.plan is None or self.whole is not None or not self.stages:
            return ()
        names = self.plan.stages
        return names[names.index(self.stages[-1].name) + 1 :]

    def left(self) -> TimeRange | None:
        """Seconds of the whole run that are left; None: not known yet."""
        stage = None if self.stage is None else self.stage.left(self.limit)
        if stage is None:
            return None
        sample = self._by_sample()
        if not self.waiting:
            return stage if sample is None else _both(stage, sample)
        if sample is None:
            return TimeRange(stage.low)
        low = max(stage.low, sample.low)
        return TimeRange(low, max(low, sample.high or 0.0))

    def _by_sample(self) -> TimeRange | None:
        """What is left if images take what those of the ledger's sample took."""
        if self.plan is None or self.plan.sample is None:
            return None
        low, high = self.plan.sample.seconds(self.images - self.before)
        return TimeRange(max(0.0, low - self.seconds), max(0.0, high - self.seconds))

    def _end_stages(self) -> None:
        running = [*self.stages, *([] if self.whole is None else [self.whole])]
        for stage in running:
            if stage.ended is None:
                stage.ended = self._clock()


def _both(first: TimeRange, second: TimeRange) -> TimeRange:
    """What two ranges have in common; the first where they have nothing in common."""
    low = max(first.low, second.low)
    high = min(first.high or 0.0, second.high or 0.0)
    return TimeRange(low, high) if low <= high else first
