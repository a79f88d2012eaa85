"""What a run's verdicts add up to, as counts; every percentage of a table comes from here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Record, RunInfo
from verify_pipeline.problem import Status

BOUNDING_STAGES = ("ibp", "crown", "alpha-crown", "branch-and-bound")

CLAIMING_STAGES = ("abcrown",)
"""What they verify rests on the word of another tool, not on a bound of ours in float64."""


@dataclass(frozen=True)
class Summary:
    """What a ledger holds of one run, or of some of its images.

    Attributes:
        info: the run.
        records: the verdicts, by image, one each.
        replaced: how many verdicts of the run are left out because they are of images that stood
            at these places of the data set before.
        remarks: sentences on what a reader should check before believing the numbers.
    """

    info: RunInfo
    records: tuple[Record, ...]
    replaced: int = 0
    remarks: tuple[str, ...] = ()

    @cached_property
    def tally(self) -> Tally:
        """The verdicts' counts."""
        return Tally.of(self.records)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that the run's settings ask for, in order."""
        return tuple(json.loads(self.info.settings).get("stages", ()))


def summaries(ledger: Ledger) -> list[Summary]:
    """Every run of a ledger that has a verdict, in the order in which they were started.

    A run has several rows for an image where the data set's image was replaced by another one: the
    latest counts.
    """
    found = (_newest(info, ledger.records(info.run)) for info in ledger.runs())
    return [summary for summary in found if summary.records]


def _newest(info: RunInfo, rows: Sequence[Record]) -> Summary:
    """The summary of the rows of a run, those of an image by age."""
    latest = {row.index: row for row in rows}
    return Summary(info, tuple(latest.values()), len(rows) - len(latest))


@dataclass(frozen=True)
class Tally:
    """Counts of images.

    Attributes:
        images: with any verdict.
        wrong: FALSIFIED by the clean check: classified wrongly as they are.
        verified: VERIFIED, by stage; without the tied ones.
        falsified: FALSIFIED, by stage; without the wrong ones.
        unknown: UNKNOWN, by reason's name.
        seconds: charged to all images together.
        tied: VERIFIED of the network before its end, where the file itself was seen to tie.
    """

    images: int
    wrong: int
    verified: dict[str, int]
    falsified: dict[str, int]
    unknown: dict[str, int]
    seconds: float
    tied: int = 0

    @staticmethod
    def of(records: Iterable[Record]) -> Tally:
        """The counts of some rows of one run."""
        verified: Counter[str] = Counter()
        falsified: Counter[str] = Counter()
        unknown: Counter[str] = Counter()
        images, tied, seconds = 0, 0, 0.0
        for record in records:
            images += 1
            seconds += record.seconds
            if record.tied:
                tied += 1
            elif record.status is Status.VERIFIED:
                verified[record.stage] += 1
            elif record.status is Status.FALSIFIED:
                falsified[record.stage] += 1
            elif record.reason is not None:
                unknown[record.reason.name] += 1
        wrong = falsified.pop("clean", 0)
        counts = (dict(verified), dict(falsified), dict(unknown))
        return Tally(images, wrong, *counts, seconds, tied)

    @property
    def right(self) -> int:
        """Images classified rightly: standard accuracy's count."""
        return self.images - self.wrong

    @property
    def withstood(self) -> int:
        """Images classified rightly that the attack stage did not break; attack-robust accuracy."""
        return self.right - self.falsified.get("attack", 0)

    @property
    def not_broken(self) -> int:
        """Images that no stage falsified and that do not tie: an upper bound of the robust ones."""
        return self.right - sum(self.falsified.values()) - self.tied

    @property
    def proved(self) -> int:
        """Images VERIFIED by a stage of this package: verified accuracy's count."""
        return sum(n for stage, n in self.verified.items() if stage not in CLAIMING_STAGES)

    @property
    def claimed(self) -> int:
        """Images VERIFIED on the word of another tool alone."""
        return sum(self.verified.values()) - self.proved

    @property
    def undecided(self) -> int:
        """Images that are UNKNOWN."""
        return sum(self.unknown.values())

    def proved_up_to(self, stage: str) -> int:
        """Images VERIFIED by ``stage`` or a bounding stage that is weaker.

        Each stage is given only what the weaker ones left open, and is at least as strong.
        """
        weaker = BOUNDING_STAGES[: BOUNDING_STAGES.index(stage) + 1]
        return sum(self.verified.get(name, 0) for name in weaker)
