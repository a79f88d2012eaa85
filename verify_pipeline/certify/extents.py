"""The images that a run was asked for, so that an interrupted run does not look finished."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

_SPAN = r"\d{1,18}(?::\d{1,18})?"
_TEXT = re.compile(rf"{_SPAN}(?:,{_SPAN})*")


@dataclass(frozen=True)
class Extent:
    """A set of images of a data set, by their places.

    Attributes:
        spans: ``(a, b)`` for the images from a to b - 1; ascending, not empty, with gaps between.
    """

    spans: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        ordered = all(before[1] < after[0] for before, after in pairwise(self.spans))
        if not ordered or any(not 0 <= start < stop for start, stop in self.spans):
            raise ValueError(f"spans out of order: {self.spans}")

    @staticmethod
    def of(indices: Iterable[int]) -> Extent:
        """The set of these places."""
        return Extent(_joined((index, index + 1) for index in indices))

    @staticmethod
    def parse(text: str) -> Extent:
        """The set that :attr:`text` writes.

        Raises:
            ValueError: it is no such text.
        """
        if not _TEXT.fullmatch(text):
            raise ValueError(f"no places of images: {text[:80]!r}")
        numbers = [[int(number) for number in span.split(":")] for span in text.split(",")]
        return Extent(tuple((span[0], span[1] if span[1:] else span[0] + 1) for span in numbers))

    @property
    def text(self) -> str:
        """The set as ``0:60,70,80:90``."""
        return ",".join(
            str(start) if stop == start + 1 else f"{start}:{stop}" for start, stop in self.spans
        )

    def __len__(self) -> int:
        return sum(stop - start for start, stop in self.spans)

    @property
    def gaps(self) -> Extent:
        """The images between the first and the last one that are not in the set."""
        return Extent(tuple((before[1], after[0]) for before, after in pairwise(self.spans)))

    def union(self, other: Extent) -> Extent:
        """The images of both sets."""
        return Extent(_joined((*self.spans, *other.spans)))

    def covers(self, other: Extent) -> bool:
        """Whether every image of the other set is in this one."""
        return self.union(other) == self


def asked_again(before: Extent | None, decided: Extent, now: Extent) -> Extent | None:
    """All images that a run was asked for, after another request.

    Args:
        before: asked for until now; None: unknown, as in ledgers of older versions.
        decided: images that have a verdict.
        now: asked for now.

    Returns:
        None if it stays unknown: if ``now`` omits an image that has a verdict, earlier requests
        contained more images, and their number is unknown.
    """
    if before is not None:
        return before.union(now)
    return now if now.covers(decided) else None


def _joined(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Spans in order, those that overlap or touch as one."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(stop, found[-1][1]))
        else:
            found.append((start, stop))
    return tuple(found)
