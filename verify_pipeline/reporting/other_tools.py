"""Verdicts of other tools on the same images, read from CSV files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import DataError
from verify_pipeline.markdown import one_line
from verify_pipeline.problem import Status

WORDS = {
    Status.VERIFIED: ("verified", "safe", "unsat", "holds", "robust"),
    Status.FALSIFIED: ("falsified", "unsafe", "sat", "violated"),
    Status.UNKNOWN: ("unknown", "timeout", "undecided", "error", "skip", "memout"),
}
"""What tools call a verdict; what follows a hyphen (``safe-incomplete``) is not looked at."""

_PLACE = re.compile("[0-9]{1,18}")
_STATUS = {word: status for status, words in WORDS.items() for word in words}
_SHOWN = 10


@dataclass(frozen=True, eq=False)
class OtherVerdicts:
    """What another tool says.

    Attributes:
        name: of the tool; the column's heading.
        verdicts: by the network's name and the image's place in the data set. The name is empty
            where the file has no column ``network``: then it is of whatever is tabulated.
    """

    name: str
    verdicts: Mapping[tuple[str, int], Status]

    def of(self, summary: Summary) -> dict[int, Status]:
        """Its verdicts on the images of a run.

        Raises:
            DataError: it has none.
        """
        names = ("", summary.info.network_name)
        images = [record.index for record in summary.records]
        found = {
            image: self.verdicts[name, image]
            for name in names
            for image in images
            if (name, image) in self.verdicts
        }
        if images and not found:
            raise DataError(
                f"verdicts of {self.name}",
                expected=f"some on the images of {summary.info.network_name}",
                got="none",
                remedy="Its column network must name the file, and image the place in the set.",
            )
        return found

    def verified(self, summary: Summary) -> int:
        """How many images of a run it verifies."""
        return sum(status is Status.VERIFIED for status in self.of(summary).values())


def read_other_verdicts(name: str, path: Path) -> OtherVerdicts:
    """Verdicts from a CSV file with the columns ``image``, ``verdict`` and perhaps ``network``.

    Args:
        name: of the tool.
        path: of the file; its verdicts are words of :data:`WORDS`.

    Raises:
        DataError: the file cannot be read, or holds something else.
    """
    if not name.strip() or path == Path():
        raise DataError("verdicts of another tool", expected="NAME=FILE", got=f"{name}={path}")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(
            f"verdicts of {name}", expected=f"a CSV file at {path}", got=str(error)
        ) from None
    if not {"image", "verdict"} <= set(frame.columns):
        raise DataError(
            f"verdicts of {name}",
            expected="columns image and verdict, and network where there are several",
            got=", ".join(frame.columns),
        )
    networks = frame["network"] if "network" in frame else [""] * len(frame)
    found: dict[tuple[str, int], Status] = {}
    for line, row in enumerate(zip(networks, frame["image"], frame["verdict"], strict=True), 2):
        network, image, verdict = row
        status = _STATUS.get(verdict.strip().lower().partition("-")[0])
        if status is None or not _PLACE.fullmatch(image.strip()):
            raise DataError(
                f"verdicts of {name}, line {line}",
                expected="an image's place, and one of "
                + ", ".join(word for words in WORDS.values() for word in words),
                got=f"{image!r}, {verdict!r}",
            )
        if found.setdefault((network.strip(), int(image)), status) is not status:
            raise DataError(
                f"verdicts of {name}, line {line}",
                expected=f"one verdict on image {image}",
                got="another one than before",
            )
    return OtherVerdicts(one_line(name), found)


def check_meant(summaries: Sequence[Summary], others: Iterable[OtherVerdicts]) -> None:
    """Refuse verdicts that may be of several runs: a file says neither ε nor settings.

    Raises:
        DataError: two runs would get the same verdicts.
    """
    for other in others:
        meant: dict[str, int] = {}
        for name in {name for name, _ in other.verdicts}:
            meant[name] = sum(name in ("", summary.info.network_name) for summary in summaries)
        if any(count > 1 for count in meant.values()):
            raise DataError(
                f"verdicts of {other.name}",
                expected="verdicts that are of one run each",
                got="several runs that they may be of",
                remedy="Give its file a column network, and tabulate one ε at a time.",
            )


def agreement(summaries: Iterable[Summary], others: Sequence[OtherVerdicts]) -> list[str]:
    """Notes on images without a verdict of another tool, and on opposite verdicts."""
    told = []
    for summary in summaries:
        file = one_line(summary.info.network_name)
        for other in others:
            theirs = other.of(summary)
            missing = len(summary.records) - len(theirs)
            if missing:
                told.append(f"{other.name} has no verdict on {missing} images of {file}.")
            decided = (Status.VERIFIED, Status.FALSIFIED)
            opposite = [
                str(record.index)
                for record in summary.records
                if record.status in decided
                and theirs.get(record.index) in decided
                and theirs[record.index] is not record.status
            ]
            if opposite:
                more = "" if len(opposite) <= _SHOWN else f" and {len(opposite) - _SHOWN} more"
                told.append(
                    f"{other.name} contradicts this package on {file}, image "
                    f"{', '.join(opposite[:_SHOWN])}{more}: one of the two is wrong."
                )
    return told
