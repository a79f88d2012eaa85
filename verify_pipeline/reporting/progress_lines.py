"""A certification's progress as lines: one a stage, one a minute, and what it may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from verify_pipeline.reporting.certification_state import (
    CertificationState,
    StageState,
    counts_text,
    images_text,
)
from verify_pipeline.reporting.durations import duration, pace

MINUTE = 60.0
"""Seconds without a line after which one is told."""

WORTH_TELLING = 10.0
"""Seconds that a stage needs to have left for them to be told after its first batch."""


class ProgressLines(CertificationState):
    """Tells the progress of a certification in lines.

    Args:
        tell: gets each line.
        clock: seconds from some origin.
    """

    def __init__(
        self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(clock)
        self._give = tell
        self._last = clock()

    def started(self, images: int, decided: int) -> None:
        """Tell how many images are decided already, if there are any."""
        super().started(images, decided)
        self._last = self._clock()
        if decided:
            self._tell(already_line(images, decided))

    def stage_started(self, stage: str, images: int) -> None:
        """Tell what the stage before did, if stages do not overlap."""
        before = None if self.whole is not None else self.stage
        super().stage_started(stage, images)
        if before is not None:
            self._tell(stage_line(before))

    def looked_at(self, stage: str, images: int) -> None:
        """Tell what the stage and the whole run may take, after the first of several batches."""
        super().looked_at(stage, images)
        for line in expected_lines(self, images):
            self._tell(line)

    def waits_for(self, images: int, owners: Sequence[str]) -> None:
        """Tell who is waited for."""
        self._end_stages()
        self._tell(waiting_line(images, owners))

    def took_over(self, images: int, owners: Sequence[str]) -> None:
        """Tell whose images they were."""
        self._tell(took_over_line(images, owners))

    def lost_worker(self, images: int, why: str) -> None:
        """Tell that a worker was lost."""
        self._tell(lost_line(images, why))

    def finished(self) -> None:
        """Tell what the last stage did; of stages that overlap, what each of them did."""
        super().finished()
        for stage in self.stages if self.whole is not None else self.stages[-1:]:
            self._tell(stage_line(stage))

    def tick(self) -> None:
        """Tell how far it is if nothing was told for a minute."""
        stage = self.stage
        if stage is None or stage.ended is not None or self._clock() - self._last < MINUTE:
            return
        self._tell(progress_line(self, stage))

    def _tell(self, line: str) -> None:
        self._last = self._clock()
        self._give(line)


def already_line(images: int, decided: int) -> str:
    """How many images have a verdict before anything is done."""
    return f"{decided:,} of {images:,} images are decided already."


def waiting_line(images: int, owners: Sequence[str]) -> str:
    """Which images other processes certify, and what this one does meanwhile."""
    if len(owners) == 1:
        who, then = f"{owners[0]} certifies", "it ends before, this command certifies them"
    else:
        who = f"{', '.join(owners)} certify"
        then = "one ends before, this command certifies its images"
    return f"waiting for {images_text(images)} that {who}; if {then}"


def took_over_line(images: int, owners: Sequence[str]) -> str:
    """Whose images are certified here now."""
    since = "it has" if len(owners) == 1 else "they have"
    return f"{images_text(images)} of {', '.join(owners)} are certified here, since {since} ended"


def lost_line(images: int, why: str) -> str:
    """Why a worker was lost, and what becomes of its images."""
    given = f"; others get its {images_text(images)}" if images else ""
    return f"a worker was lost ({why}) and is started again{given}"


def stage_line(stage: StageState) -> str:
    """What a stage did: ``ibp: 9,803 images in 3.2 s (3,063/s): 812 verified``."""
    seconds = stage.seconds
    rate = f" ({pace(stage.images, seconds)})" if seconds > 0 else ""
    counts = counts_text(stage.counts) or "none decided"
    took = f"{duration(seconds)}{stage.whose}{rate}"
    return f"{stage.name}: {images_text(stage.images)} in {took}: {counts}"


def progress_line(state: CertificationState, stage: StageState) -> str:
    """How far the running stage and the whole are."""
    parts = [f"{stage.done:,} of {images_text(stage.images)}"]
    if stage.rate:
        parts.append(stage.rate)
    if stage.counts.total():
        parts.append(counts_text(stage.counts))
    line = f"{stage.name}: {', '.join(parts)}; time left: {left_text(state)}"
    if state.whole is None:
        return line
    stages = ", ".join(f"{each.name} {each.done:,}/{each.images:,}" for each in state.stages)
    return f"{line} ({stages})"


def left_text(state: CertificationState) -> str:
    """The time that is left: of the whole run where it is known, else of the stage that runs."""
    stage, whole = state.stage, state.left()
    if stage is None or whole is None:
        return "not known before the first batch"
    if not state.waiting:
        return whole.text
    if whole.high is not None:
        return f"{whole.text}, by a sample"
    of_stage = stage.left(state.limit) or whole
    return f"{of_stage.text} of {stage.name}; later stages not known yet"


def expected_lines(state: CertificationState, batch: int) -> Iterator[str]:
    """What the stage and the whole run are expected to take, after the stage's first batch.

    The rate of a cheap stage says nothing of the stages behind it. The whole is told in the last
    stage, or where the ledger holds a finished sample of the same run.

    Args:
        state: after a batch.
        batch: images of this batch.
    """
    stage, whole = state.stage, state.left()
    if stage is None or whole is None or not stage.looked_at == batch < stage.images:
        return
    if len(state.stages) == 1:
        images = images_text(state.images - state.before)
        sample = None if state.plan is None else state.plan.sample
        if not state.waiting:
            yield f"expected: {whole.text} for {images}"
        elif sample is not None:
            yield (
                f"expected: {whole.text} for {images}, if none is harder than the "
                f"{sample.images:,} that were certified before"
            )
        else:
            yield (
                f"expected: not known yet for {images}, as stages differ; each stage tells its own "
                "time after its first batch"
            )
    elif (left := stage.left(state.limit)) is not None and left.low >= WORTH_TELLING:
        yield f"{stage.name}: {left.text} expected for {images_text(stage.images)}"
