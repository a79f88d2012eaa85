"""VNN-COMP's sets: the list of instances, and reference verdicts."""

from __future__ import annotations

import csv
import enum
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from verify_pipeline.certify.shards import Shard
from verify_pipeline.errors import DataError


class Answer(enum.Enum):
    """VNN-COMP's answers: a counterexample exists, none exists, or why it is undecided."""

    SAT = "sat"
    UNSAT = "unsat"
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Key:
    """Names of an instance's files, normalised.

    Attributes:
        onnx: of the network, without ``./`` and ``.gz``.
        vnnlib: of the property, likewise.
    """

    onnx: str
    vnnlib: str

    @staticmethod
    def of(onnx: str, vnnlib: str) -> Key:
        """The key of names as they stand in a list."""
        return Key(
            *(str(PurePosixPath(name.strip())).removesuffix(".gz") for name in (onnx, vnnlib))
        )


@dataclass(frozen=True)
class SetInstance:
    """One line of an instances.csv.

    Attributes:
        key: the names.
        onnx: the network's file, which is there.
        vnnlib: the property's file, which is there.
        timeout: seconds, > 0.
    """

    key: Key
    onnx: Path
    vnnlib: Path
    timeout: float


@dataclass(frozen=True)
class Reference:
    """A reference verdict of an instance.

    Attributes:
        answer: sat, unsat, or unknown.
        checked: whether, of a ``sat``, somebody re-ran a counterexample.
    """

    answer: Answer
    checked: bool


REFERENCES = {
    "sat": Reference(Answer.SAT, True),
    "sat-unchecked": Reference(Answer.SAT, False),
    "unsat": Reference(Answer.UNSAT, False),
    "unknown": Reference(Answer.UNKNOWN, False),
}


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, with their lines.

    Raises:
        DataError: the file cannot be read, or is not CSV.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, row
    except OSError as error:
        raise DataError(
            f"file {path}", expected="a file that can be read", got=error.strerror or str(error)
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"file {path}", expected="CSV in UTF-8", got=str(error)) from None


def read_instances(path: Path) -> tuple[SetInstance, ...]:
    """The instances of a set: lines ``onnx,vnnlib,timeout``, files relative to the list's folder.

    A file may be there with or without the ``.gz`` that the list gives or leaves out.

    Raises:
        DataError: the list cannot be read or is not of this form, or a file is not there.
    """
    found = []
    for line, row in rows_of(path):
        if len(row) != 3:
            raise DataError(
                f"{path.name}, line {line}", expected="onnx,vnnlib,timeout", got=str(row)
            )
        onnx, vnnlib = (_existing(path, line, name.strip()) for name in row[:2])
        found.append(
            SetInstance(Key.of(row[0], row[1]), onnx, vnnlib, _seconds(path, line, row[2]))
        )
    if not found:
        raise DataError(f"file {path}", expected="lines onnx,vnnlib,timeout", got="none")
    return tuple(found)


def part_of(instances: Sequence[SetInstance], shard: Shard) -> tuple[SetInstance, ...]:
    """The instances of a shard; one that the list has twice counts once.

    Raises:
        ConfigError: fewer instances than shards.
    """
    once = tuple({one.key: one for one in instances}.values())
    return tuple(once[place] for place in shard.of_indices(range(len(once))))


def read_reference(path: Path) -> dict[Key, Reference]:
    """Known verdicts: a CSV file with columns onnx, vnnlib and verdict; others are not read.

    Raises:
        DataError: the file cannot be read, or is not of this form.
    """
    rows = list(rows_of(path))
    header = rows[0][1] if rows else []
    columns = ("onnx", "vnnlib", "verdict")
    if not set(columns) <= set(header):
        raise DataError(f"file {path}", expected=f"columns {', '.join(columns)}", got=str(header))
    found = {}
    for line, row in rows[1:]:
        named = dict(zip(header, row, strict=False))
        onnx, vnnlib, verdict = (named.get(column, "").strip() for column in columns)
        if verdict not in REFERENCES:
            raise DataError(
                f"{path.name}, line {line}", expected=f"one of {', '.join(REFERENCES)}", got=verdict
            )
        found[Key.of(onnx, vnnlib)] = REFERENCES[verdict]
    return found


def _existing(list_path: Path, line: int, name: str) -> Path:
    """The file that a list names, whichever of its two names it has."""
    plain = name.removesuffix(".gz")
    candidates = [list_path.parent / one for one in dict.fromkeys((name, plain, f"{plain}.gz"))]
    try:
        return next(one for one in candidates if one.is_file())
    except (StopIteration, ValueError, OSError):
        raise DataError(
            f"{list_path.name}, line {line}", expected="a file beside the list", got=name
        ) from None


def _seconds(path: Path, line: int, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise DataError(f"{path.name}, line {line}", expected="seconds > 0", got=text)
    return seconds
