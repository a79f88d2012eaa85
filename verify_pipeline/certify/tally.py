"""Counts of a run's verdicts, from which every percentage of a table is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from verify_pipeline import strict_json
from verify_pipeline.certify.extents import Extent, asked_again
from verify_pipeline.certify.frames import as_frame
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Record, RunInfo
from verify_pipeline.certify.stage_verdicts import BOUNDING_STAGES, CLAIMING_STAGES
from verify_pipeline.errors import LedgerError
from verify_pipeline.problem import Status


@dataclass(frozen=True)
class Summary:
    """One run's verdicts in a ledger, or those of some of its images.

    Attributes:
        info: the run.
        records: the verdicts, by image, one each.
        replaced: how many verdicts of the run are left out because they are of images that stood
            at these places of the data set before.
        remarks: sentences on what a reader should check before believing the numbers.
        asked: the images that verdicts were asked for; None: unknown, as in ledgers of older
            versions.
        deployed: the run that asks the same of the file's evaluation in an arithmetic; None: it is
            not known.
    """

    info: RunInfo
    records: tuple[Record, ...]
    replaced: int = 0
    remarks: tuple[str, ...] = ()
    asked: Extent | None = None
    deployed: Summary | None = None

    def __repr__(self) -> str:
        run, tally = self.info.run, self.tally
        return (
            f"Summary({self.info.network_name} on {run.data_set} {run.split}, "
            f"{run.perturbation}: {tally.images} images, {tally.right} right, "
            f"{tally.proved} verified, {tally.undecided} undecided)"
        )

    def to_frame(self) -> pd.DataFrame:
        """The verdicts as a table, one row for each image, in order.

        Columns:
            * ``image``: its place in the data set, counted from 0.
            * ``label``: the right class; missing where the question is not about classes.
            * ``verdict``: ``verified``, ``falsified`` or ``unknown``.
            * ``stage``: that decided it, or tried last.
            * ``reason``: of an unknown, such as ``timeout`` (a name of ``Reason``); else empty.
            * ``bound``: the best lower bound of the least margin; NaN if there is none.
            * ``margin``: at the counterexample, <= 0; NaN if there is none.
            * ``seconds``: charged to the image over all attempts.
            * ``attempts``: how often it was tried.
            * ``counterexample``: short SHA-256 of its pixels; empty if there is none.
            * ``tied``: whether it is verified before the network's end only, where the file itself
              ties.
            * ``detail``: more for a reader.
            * ``versions``: of the packages that decided it.
        """
        return as_frame(self.records)

    @cached_property
    def tally(self) -> Tally:
        """The verdicts' counts."""
        return Tally.of(self.records)

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that the run's settings ask for, in order."""
        return tuple(strict_json.parse(self.info.settings).get("stages", ()))

    @cached_property
    def decided(self) -> Extent:
        """The images that have a verdict, an UNKNOWN one too."""
        return Extent.of(record.index for record in self.records)

    @cached_property
    def requested(self) -> int | None:
        """How many images verdicts were asked for; None: unknown."""
        return None if self.asked is None else len(self.asked.union(self.decided))

    @property
    def missing(self) -> int:
        """How many images have no verdict yet, as far as is known."""
        return 0 if self.requested is None else self.requested - len(self.records)

    @property
    def complete(self) -> bool:
        """Whether every image that was asked for is known to have a verdict."""
        return self.requested is not None and not self.missing


def summaries(ledger: Ledger) -> list[Summary]:
    """Every run of a ledger, in the order in which they were started.

    A run without verdicts is omitted unless its requested images are known. If the data set's image
    at an index was replaced, the run has several rows for it, and the latest counts.

    Raises:
        LedgerError: this package cannot have written some row.
    """
    found = []
    for info in ledger.runs():
        records, replaced = _newest(ledger.records(info.run))
        asked = ledger.asked(info.run)
        if records or asked is not None:
            found.append(Summary(info, records, replaced, asked=asked))
    return found


def together(first: Summary, second: Summary, source: str) -> Summary:
    """Merge the verdicts of two ledgers on one run.

    For an image in both, a decided verdict replaces an UNKNOWN one; otherwise the later counts.

    Args:
        first: of one ledger, or of several already.
        second: of another ledger.
        source: how an error names the second ledger.

    Raises:
        LedgerError: one verifies an image and the other falsifies it.
    """
    chosen = {(record.index, record.instance): record for record in first.records}
    for record in second.records:
        key = record.index, record.instance
        chosen[key] = _better(chosen[key], record, source) if key in chosen else record
    records, replaced = _newest(
        sorted(chosen.values(), key=lambda record: (record.index, record.decided_at))
    )
    if first.asked is None or second.asked is None:
        known, other = (first, second) if first.asked is not None else (second, first)
        now = known.asked
        asked = None if now is None else asked_again(None, other.decided, now)
    else:
        asked = first.asked.union(second.asked)
    replaced += max(first.replaced, second.replaced)
    return Summary(first.info, records, replaced, asked=asked)


def _better(first: Record, second: Record, source: str) -> Record:
    """Which of two verdicts on one instance counts."""
    open_ = [record.status is Status.UNKNOWN for record in (first, second)]
    if not any(open_) and first.status is not second.status:
        raise LedgerError(
            f"{source}, image {first.index}",
            expected=f"the verdict of the ledgers before it, {first.status.value}",
            got=second.status.value,
            remedy="One of the two is wrong: please report it with the network and the image.",
        )
    if open_[0] == open_[1]:
        return max(first, second, key=lambda record: record.decided_at)
    return second if open_[0] else first


def _newest(rows: Sequence[Record]) -> tuple[tuple[Record, ...], int]:
    """The rows that count, one for each image, of rows by image and age; how many are left out."""
    latest = {row.index: row for row in rows}
    return tuple(latest.values()), len(rows) - len(latest)


@dataclass(frozen=True)
class Tally:
    """Counts of images.

    Attributes:
        images: with any verdict, an UNKNOWN one too.
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
        """Images VERIFIED by another tool's claim alone."""
        return sum(self.verified.values()) - self.proved

    @property
    def undecided(self) -> int:
        """Images that are UNKNOWN."""
        return sum(self.unknown.values())

    def proved_up_to(self, stage: str) -> int:
        """Images VERIFIED by ``stage`` or a bounding stage that is weaker.

        Each stage gets only images that weaker ones left open, and is at least as strong.
        """
        weaker = BOUNDING_STAGES[: BOUNDING_STAGES.index(stage) + 1]
        return sum(self.verified.get(name, 0) for name in weaker)
