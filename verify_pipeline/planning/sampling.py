"""Some open images are certified as they would be, for a given time, to see what they take.

Every image keeps its full deadline, since deadlines decide what is tried. When the time of a round
is over, the cascade's clock leaps ahead: whatever runs finds its deadline passed and ends. An image
that was still open then costs between what it has taken and its deadline.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from verify_pipeline.certify.certifier import Certifier, RunPart
from verify_pipeline.certify.contract import Clock, Observer
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.instances import Instances
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.planning.estimates import Cost, spread_order
from verify_pipeline.planning.machine import accelerator_bytes, peak_bytes, resident_bytes
from verify_pipeline.problem import Verdict

FIRST_ROUND = 16
"""Images of the first round; each later round has at most twice as many as the one before."""

SHARE_OF_ROUND = 0.7
"""Images of a round are expected to take this share of its time, at most."""

LEAST_REST = 0.1
"""No round begins in the last part of the time."""

ROUNDS = 4
"""The first rounds get equal parts of the time, so that one hard image does not take all of it."""

LEAP = 1e7
"""Seconds by which the clock goes ahead each time it is asked after its end."""

Tell = Callable[[int, float], None]
"""Is told after each round how many images were measured, in how many seconds."""


class StoppingClock:
    """A clock that leaps ahead, each time it is asked, once its time is over.

    Args:
        clock: the true one.
    """

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.true = clock
        self.over = False
        self._ends, self._ahead = math.inf, 0.0

    def stop_after(self, seconds: float) -> None:
        """Go on truly, and end so many seconds from now; ``over`` says when it has leapt."""
        self._ends, self.over = self.true() + seconds, False

    def __call__(self) -> float:
        """Seconds from some origin."""
        now = self.true()
        if now >= self._ends:
            self.over = True
            self._ahead += LEAP
        return now + self._ahead


@dataclass(frozen=True, eq=False)
class MeasuredImage:
    """An image of a sample.

    Attributes:
        index: its place in the data set.
        cost: the seconds that it takes.
        verdict: None: the time was over before.
    """

    index: int
    cost: Cost
    verdict: Verdict | None


@dataclass(frozen=True, eq=False)
class Measured:
    """A sample.

    Attributes:
        images: in the order in which they were measured.
        seconds: that measuring took.
        ledger: bytes that their verdicts take in a ledger; of fewer than all images with a verdict.
        held: bytes of this process's memory before.
        peak: bytes of this process's memory at most, since it began.
        accelerator: bytes on an accelerator at most; None: there is none.
    """

    images: tuple[MeasuredImage, ...]
    seconds: float
    ledger: int
    held: int
    peak: int
    accelerator: int | None

    @property
    def costs(self) -> tuple[Cost, ...]:
        """What each image takes."""
        return tuple(each.cost for each in self.images)

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Of images that have one."""
        return tuple(each.verdict for each in self.images if each.verdict is not None)

    @property
    def open(self) -> int:
        """Images without a verdict."""
        return len(self.images) - len(self.verdicts)

    @property
    def row(self) -> float:
        """Bytes of one verdict in a ledger; 0 if there is none."""
        return self.ledger / len(self.verdicts) if self.verdicts else 0.0

    @property
    def stages(self) -> dict[str, tuple[float, ...]]:
        """Seconds of each image with a verdict, 0 where it did not come so far, by stage."""
        names = dict.fromkeys(done.stage for each in self.verdicts for done in each.stages)
        return {
            name: tuple(
                math.fsum(done.seconds for done in each.stages if done.stage == name)
                for each in self.verdicts
            )
            for name in names
        }


def round_seconds(rounds: int, passed: float, seconds: float) -> float:
    """How long the next round may take; 0: there is no time for one.

    Args:
        rounds: that were done.
        passed: seconds that these took.
        seconds: for all rounds.
    """
    left = seconds - passed
    return left / max(ROUNDS - rounds, 1) if left >= LEAST_REST * seconds else 0.0


def round_size(last: int, measured: int, passed: float, available: float) -> int:
    """How many images the next round has; 0: none is expected to fit.

    Args:
        last: images of the round before; 0: there was none.
        measured: images of all rounds.
        passed: seconds that these took.
        available: seconds of the next round.
    """
    if not last:
        return FIRST_ROUND
    return min(2 * last, int(SHARE_OF_ROUND * available * measured / max(passed, 1e-9)))


def measure(
    certifier: Certifier,
    instances: Instances,
    open_: Sequence[int],
    seconds: float,
    clock: StoppingClock,
    tell: Tell,
) -> Measured:
    """Certify some of the open images, in rounds that grow until the time is used.

    Args:
        certifier: that uses this very clock.
        instances: the images with their boxes.
        open_: images without a verdict, at least one.
        seconds: for measuring; a step that began before may end after it.
        clock: ends everything.
        tell: after each round.
    """
    waiting = [open_[place] for place in spread_order(len(open_))]
    held, began = resident_bytes(), clock.true()
    found: list[MeasuredImage] = []
    rounds, last, passed = 0, 0, 0.0
    with Ledger.in_memory() as book:
        book.register(certifier.info, Extent.of(open_))
        empty = book.bytes
        while waiting:
            available = round_seconds(rounds, passed, seconds)
            rounds, last = rounds + 1, round_size(last, len(found), passed, available)
            if not last:
                break
            chosen, waiting = waiting[:last], waiting[last:]
            clock.stop_after(available)
            found += _round(certifier, instances, chosen, book, clock)
            passed = clock.true() - began
            tell(len(found), passed)
        # the system's greatest size may lag behind the present one
        memory = (held, max(held, peak_bytes()), accelerator_bytes(certifier.device))
        return Measured(tuple(found), passed, book.bytes - empty, *memory)


def _round(
    certifier: Certifier,
    instances: Instances,
    chosen: Sequence[int],
    book: Ledger,
    clock: StoppingClock,
) -> list[MeasuredImage]:
    """Certify images together; their costs add up to the time that passes."""
    indices = tuple(sorted(chosen))
    part = RunPart(certifier.info, indices, Extent.of(indices))
    recorder, began = _Recorder(clock), clock.true()
    with suppress(_TimeIsUpError):
        certifier.certify(instances, [part], book, recorder)
    known = recorder.verdicts
    charged = math.fsum(verdict.seconds for verdict in known.values())
    rest = max(0.0, clock.true() - began - charged)  # charged to nobody, or to open images
    without = len(chosen) - len(known)
    share = rest / (without or len(chosen))
    found = []
    for index in chosen:
        verdict = known.get(index)
        if verdict is None:
            cost = Cost(share, max(share, certifier.plan.timeout))
        else:
            spent = verdict.seconds + (0.0 if without else share)
            cost = Cost(spent, spent)
        found.append(MeasuredImage(index, cost, verdict))
    return found


class _TimeIsUpError(Exception):
    """Measuring ends."""


class _Recorder(Observer):
    """Keeps verdicts that fell in time, and ends the cascade afterwards."""

    def __init__(self, clock: StoppingClock) -> None:
        self._clock = clock
        self.verdicts: dict[int, Verdict] = {}

    def stage_started(self, stage: str, images: int) -> None:
        """Between two stages the cascade can end."""
        self._end_late()

    def looked_at(self, stage: str, images: int) -> None:
        """Between two tasks, too."""
        self._end_late()

    def decided(self, index: int, verdict: Verdict) -> None:
        """Keep it, unless the clock has leapt: its seconds are not true then."""
        if self._clock.over:
            raise _TimeIsUpError
        self.verdicts[index] = verdict

    def _end_late(self) -> None:
        self._clock()
        if self._clock.over:
            raise _TimeIsUpError
