"""What a certification sets out to do, as its observers are told, and what a sample suggests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.records import Record, RunInfo

LEAST_SAMPLE = 20
"""Images of which a mean says something about other images."""


@dataclass(frozen=True)
class Sample:
    """Seconds of images of a run: of a finished request, or of some that were measured.

    Attributes:
        images: how many; of a request at least :data:`LEAST_SAMPLE`.
        mean: seconds of an image.
        deviation: standard deviation of the seconds of an image.
    """

    images: int
    mean: float
    deviation: float

    @staticmethod
    def of(records: Sequence[Record], asked: Extent | None, timeout: float) -> Sample | None:
        """The sample that a ledger holds of a run; None if it holds none that is unbiased.

        A request that was interrupted is none: easy images get their verdicts first.

        Args:
            records: of the run.
            asked: the images that verdicts were asked for; None: unknown.
            timeout: seconds for each image now; those that were allowed other seconds do not count.
        """
        finished = asked is not None and Extent.of(r.index for r in records).covers(asked)
        alike = all(record.timeout == timeout and record.attempts == 1 for record in records)
        if not finished or not alike or len(records) < LEAST_SAMPLE:
            return None
        return Sample.of_seconds([record.seconds for record in records])

    @staticmethod
    def of_seconds(costs: Sequence[float]) -> Sample:
        """The sample of images that took these seconds; at least two of them."""
        count = len(costs)
        mean = math.fsum(costs) / count
        squares = math.fsum((cost - mean) ** 2 for cost in costs)
        return Sample(count, mean, math.sqrt(squares / (count - 1)))

    @property
    def mean_range(self) -> tuple[float, float]:
        """About the 95 % interval of the mean: two standard errors on both sides."""
        error = 2 * self.deviation / math.sqrt(self.images)
        return max(0.0, self.mean - error), self.mean + error

    def seconds(self, images: int) -> tuple[float, float]:
        """About the 95 % interval of the seconds of other images of the same distribution.

        Two standard errors on both sides, of the mean and of the sum: those of a normal
        distribution, which is rough where a few images take most of the time.
        """
        expected = images * self.mean
        error = 2 * self.deviation * math.sqrt(images + images**2 / self.images)
        return max(0.0, expected - error), expected + error


@dataclass(frozen=True)
class JobPlan:
    """What a certification sets out to do.

    Attributes:
        info: the run that its verdicts belong to.
        stages: names of the stages that images go through, in order.
        timeout: seconds for each image.
        sample: what an earlier request of the same run took; None: there was none.
        stages_overlap: whether workers take batches through the stages, so that several stages go
            on at once; else each stage gets all images at once.
    """

    info: RunInfo
    stages: tuple[str, ...]
    timeout: float
    sample: Sample | None = None
    stages_overlap: bool = False
