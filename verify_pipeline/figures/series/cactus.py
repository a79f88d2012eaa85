"""Instances decided against seconds, the curve of verification competitions."""

from __future__ import annotations

from dataclasses import dataclass

from verify_pipeline.certify.tally import Summary
from verify_pipeline.problem import Status


@dataclass(frozen=True)
class CactusCurve:
    """How many images a run decides within a time for each image.

    Attributes:
        label: of the run.
        seconds: of each decided image, ascending.
        images: that there are to decide: all but those classified wrongly as they are.
    """

    label: str
    seconds: tuple[float, ...]
    images: int

    def decided_within(self, seconds: float) -> int:
        """Images decided in at most so many seconds each."""
        return sum(each <= seconds for each in self.seconds)


def cactus_curve(summary: Summary, label: str) -> CactusCurve:
    """The curve of one run.

    Images that the network classifies wrongly as they are need no verifier and do not count.
    Images without a verdict yet count as not decided.
    """
    decided = [
        record.seconds
        for record in summary.records
        if record.status is not Status.UNKNOWN and record.stage != "clean"
    ]
    return CactusCurve(label, tuple(sorted(decided)), summary.tally.right + summary.missing)
