"""What a part of the benchmark is given, and where it writes what it found."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from accelerating.sizes import Sizes
from verify_pipeline import strict_json
from verify_pipeline.atomic_write import write_whole


@dataclass(frozen=True, eq=False)
class Job:
    """One part's work.

    Attributes:
        device: to measure.
        sizes: of what is measured.
        data: the file of packed images.
        work: folder of checkpoint and network.
        ends: when the part has to be done, on ``time.monotonic``.
    """

    device: torch.device
    sizes: Sizes
    data: Path
    work: Path
    ends: float

    @property
    def left(self) -> float:
        """Seconds that the part has left."""
        return self.ends - time.monotonic()


@dataclass
class Record:
    """What a part found, in a file that is whole after each row.

    Attributes:
        path: of the file.
        rows: of the part's table, by column.
        remarks: sentences below the table.
        seconds: the part took.
        error: that ended it; empty: none.
    """

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    seconds: float = 0.0
    error: str = ""

    def row(self, **values: Any) -> None:
        """Keep a row."""
        self.rows.append(values)
        self.keep()

    def remark(self, sentence: str) -> None:
        """Keep a remark."""
        self.remarks.append(sentence)
        self.keep()

    def keep(self) -> None:
        """Write the file."""
        fields = {k: v for k, v in vars(self).items() if k != "path"}
        write_whole(self.path, json.dumps(fields, indent=1, ensure_ascii=False) + "\n")

    @staticmethod
    def read(path: Path) -> Record:
        """What was kept in a file; an empty record where there is none."""
        if not path.is_file():
            return Record(path)
        return Record(path, **strict_json.parse(path.read_text(encoding="utf-8")))


@contextmanager
def noting_errors(record: Record, **row: Any) -> Iterator[None]:
    """An error inside becomes a row: what comes next can still be measured."""
    try:
        yield
    except Exception as error:
        record.row(**row, error=first_line(error))


def first_line(error: BaseException) -> str:
    """An error's kind and the first line of its message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
