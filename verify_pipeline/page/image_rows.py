"""The table of images, as columns of JSON that the page's script shows in parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from verify_pipeline.certify.records import Record
from verify_pipeline.certify.stage_verdicts import CLAIMING_STAGES
from verify_pipeline.page.evidence import ClassNames, RunEvidence
from verify_pipeline.page.numbers import number_text, rounded, seconds_text
from verify_pipeline.problem import Reason, Status

KINDS = {
    "verified": "✓ verified",
    "tied": "≈ tied as deployed",
    "claimed": "≈ claimed by another tool",
    "open": "? open",
    "falsified": "✗ falsified",
    "wrong": "✗ wrong as it is",
}
"""Kinds of verdicts, and how they are written: by a sign besides the colour."""

NONE = "–"

FIRST = 25
"""Rows of the table before the script runs."""


@dataclass(frozen=True)
class ImageColumn:
    """A column of the table.

    Attributes:
        name: in the JSON.
        heading: for readers.
            choices: texts of which the values are the places; empty: the values are numbers.
    """

    name: str
    heading: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageTable:
    """All images of a run.

    Attributes:
        columns: from left to right.
        values: of each column, by name: numbers, or places in its choices; None: there is none.
    """

    columns: tuple[ImageColumn, ...]
    values: Mapping[str, tuple[float | None, ...]]

    @property
    def images(self) -> int:
        """How many rows there are."""
        return len(self.values["image"])

    @property
    def data(self) -> dict[str, object]:
        """What the script reads."""
        return {
            "columns": [
                {"name": column.name, "choices": list(column.choices)} for column in self.columns
            ],
            "values": {name: list(values) for name, values in self.values.items()},
        }

    @property
    def first_rows(self) -> list[list[str]]:
        """The texts of the first rows, for readers without scripts."""
        return [
            [_text(column, self.values[column.name][place]) for column in self.columns]
            for place in range(min(FIRST, self.images))
        ]


def kind_of(record: Record) -> str:
    """A name of :data:`KINDS`."""
    if record.tied:
        return "tied"
    if record.status is Status.FALSIFIED:
        return "wrong" if record.stage == "clean" else "falsified"
    if record.status is Status.UNKNOWN:
        return "open"
    return "claimed" if record.stage in CLAIMING_STAGES else "verified"


def image_table(evidence: RunEvidence) -> ImageTable:
    """The table of a run's images; a column without any text is left out."""
    records, classes = evidence.summary.records, evidence.classes
    others = {**evidence.threats, **evidence.answers}
    reasons = [NONE if r.reason is None else _words(r.reason) for r in records]
    kinds = [KINDS[kind_of(record)] for record in records]
    stages = [record.stage for record in records]
    columns = [
        _numbers("image", "Image", [record.index for record in records]),
        _classes("label", "Class", [record.label for record in records], classes),
        _words_of("verdict", "Verdict", kinds, KINDS.values()),
        _words_of("stage", "Stage", stages, evidence.summary.stages),
        _words_of("reason", "Reason", reasons, (NONE,)),
        _classes("other", "Other class", [others.get(r.index) for r in records], classes),
        _numbers("bound", "Bound", [rounded(record.bound) for record in records]),
        _numbers("margin", "Margin", [rounded(record.margin) for record in records]),
        _numbers("seconds", "Seconds", [rounded(record.seconds, 3) for record in records]),
    ]
    kept = [each for each in columns if each[0].choices != (NONE,)]
    return ImageTable(
        tuple(column for column, _ in kept), {column.name: values for column, values in kept}
    )


_Filled = tuple[ImageColumn, tuple[float | None, ...]]


def _numbers(name: str, heading: str, values: Iterable[float | None]) -> _Filled:
    return ImageColumn(name, heading), tuple(values)


def _words_of(name: str, heading: str, texts: Sequence[str], order: Iterable[str]) -> _Filled:
    """A column of words, each stored once; they sort in this order, others after them."""
    present = set(texts)
    choices = [text for text in dict.fromkeys([*order, *texts]) if text in present]
    place = {text: number for number, text in enumerate(choices)}
    return ImageColumn(name, heading, tuple(choices)), tuple(place[text] for text in texts)


def _classes(name: str, heading: str, labels: Sequence[int | None], classes: ClassNames) -> _Filled:
    """A column of classes, which sort by their numbers."""
    known = sorted({label for label in labels if label is not None})
    return _words_of(name, heading, [*map(classes.of, labels)], [*map(classes.of, known), NONE])


def _words(reason: Reason) -> str:
    return reason.name.lower().replace("_", " ")


def _text(column: ImageColumn, value: float | None) -> str:
    if value is None:
        return NONE
    if column.choices:
        return column.choices[int(value)]
    if column.name == "image":
        return str(int(value))
    return seconds_text(value) if column.name == "seconds" else number_text(value)
