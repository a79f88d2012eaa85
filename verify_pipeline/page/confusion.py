"""Which class threatens which: counts of pairs of classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from verify_pipeline.certify.records import Record
from verify_pipeline.page.evidence import ClassNames, RunEvidence
from verify_pipeline.problem import Status

LARGEST = 12
"""Classes of a matrix, at most; of more, the pairs are listed."""

LISTED = 15
"""Pairs of a list, at most."""


@dataclass(frozen=True)
class Confusion:
    """Counts of images by their class and another class.

    Attributes:
        caption: what is counted.
        classes: the classes that occur, in order: their numbers and names.
        counts: a row for each class of the images, a column for each other class; empty if there
            are too many classes for a matrix.
        pairs: the most frequent pairs: class, other class, images.
        images: counted in all.
        rest: images of pairs that are not listed.
    """

    caption: str
    classes: tuple[tuple[int, str], ...]
    counts: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[str, str, int], ...]
    images: int
    rest: int

    @property
    def most(self) -> int:
        """The greatest count."""
        return max((count for _, _, count in self.pairs), default=0)


def confusions(evidence: RunEvidence) -> tuple[Confusion, ...]:
    """What falsified images become, and what open images may become; those without images go."""
    records = evidence.summary.records
    falsified = (r for r in records if r.status is Status.FALSIFIED and r.stage != "clean")
    unknown = (r for r in records if r.status is Status.UNKNOWN)
    found = (
        confusion(
            "Open images: the class whose margin has the least CROWN bound",
            _pairs(unknown, evidence.threats),
            evidence.classes,
        ),
        confusion(
            "Falsified images: the class at the counterexample",
            _pairs(falsified, evidence.answers),
            evidence.classes,
        ),
    )
    return tuple(each for each in found if each.images)


def confusion(caption: str, pairs: Iterable[tuple[int, int]], classes: ClassNames) -> Confusion:
    """The counts of pairs: class of the image, other class."""
    counted = Counter(pairs)
    present = sorted({label for pair in counted for label in pair})
    matrix: tuple[tuple[int, ...], ...] = ()
    if len(present) <= LARGEST:
        matrix = tuple(tuple(counted[row, column] for column in present) for row in present)
    frequent = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    listed = tuple((classes.of(a), classes.of(b), n) for (a, b), n in frequent[:LISTED])
    images = sum(counted.values())
    return Confusion(
        caption,
        tuple((label, classes.of(label)) for label in present),
        matrix,
        listed,
        images,
        images - sum(count for _, _, count in listed),
    )


def _pairs(records: Iterable[Record], others: Mapping[int, int]) -> Iterable[tuple[int, int]]:
    return (
        (record.label, others[record.index])
        for record in records
        if record.label is not None and record.index in others
    )
