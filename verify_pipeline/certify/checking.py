"""Whether ledgers are whole: the file, every row's evidence, extents, and contradictions."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger_file import copy_in_memory, guard
from verify_pipeline.certify.records import Record, RunInfo
from verify_pipeline.certify.rows import (
    RUN_COLUMNS,
    VERDICT_COLUMNS,
    RowReader,
    UnfoundedError,
    read_run,
)
from verify_pipeline.errors import LedgerError
from verify_pipeline.problem import Status

DAMAGES = 20
"""Damages of a file that SQLite lists, at most."""

Instance = tuple[str, ...]
"""What a verdict is about: network, set, split, box, specification, digest of the instance."""


@dataclass(frozen=True)
class LedgerCheck:
    """What was found in one ledger.

    Attributes:
        path: of its file.
        runs: how many it has.
        verdicts: rows that have their evidence.
        missing: images that its runs were asked for and that have no row; None: some run does not
            say what it was asked for, as in ledgers of older versions.
        problems: what is wrong, one sentence each.
    """

    path: Path
    runs: int = 0
    verdicts: int = 0
    missing: int | None = 0
    problems: tuple[str, ...] = ()


@dataclass
class Contradictions:
    """Finds opposite verdicts of one instance, whatever the settings of their runs.

    Attributes:
        known: the first decided verdict of each instance, and where it is.
    """

    known: dict[Instance, tuple[Status, str]] = field(default_factory=dict)

    def with_verdict(self, info: RunInfo, record: Record, place: str) -> str | None:
        """Add a verdict; returns a sentence if it contradicts one before.

        A tie is verified before the network's end and may be falsified behind it: no contradiction.

        Args:
            info: its run.
            record: the verdict.
            place: for the sentence, such as the name of the ledger.
        """
        if record.status is Status.UNKNOWN or record.tied:
            return None
        run = info.run
        asked = (run.network, run.data_set, run.split, run.perturbation, run.specification)
        status, where = self.known.setdefault((*asked, record.instance), (record.status, place))
        if status is record.status:
            return None
        return (
            f"image {record.index} ({run.data_set} {run.split}, {run.perturbation}) is "
            f"{status.value} in {where} and {record.status.value} in {place}: one of the two is "
            "wrong"
        )


def check_ledgers(paths: Sequence[Path]) -> list[LedgerCheck]:
    """Check ledgers, each by itself and all together; no file is created or changed."""
    together = Contradictions()
    return [_checked(path, together) for path in paths]


def _checked(path: Path, together: Contradictions) -> LedgerCheck:
    try:
        with closing(copy_in_memory(path)) as connection, guard(path):
            return _Rows(connection, path, together).check()
    except LedgerError as error:
        return LedgerCheck(path, problems=(str(error),))


class _Rows:
    """The rows of one ledger."""

    def __init__(
        self, connection: sqlite3.Connection, path: Path, together: Contradictions
    ) -> None:
        self._connection, self._path, self._together = connection, path, together

    def check(self) -> LedgerCheck:
        """All of them."""
        problems = list(self._of_file())
        rows = self._connection.execute(
            f"SELECT id, asked, {RUN_COLUMNS} FROM runs ORDER BY id"
        ).fetchall()
        verdicts, missing = 0, 0
        is_known = True
        for number, asked, *described in rows:
            try:
                info = read_run(described)
            except UnfoundedError as error:
                problems.append(f"run {number}: {error}")
                continue
            records = list(self._records(number, info, problems))
            verdicts += len(records)
            extent = self._extent(number, asked, problems)
            have = Extent.of(record.index for record in records)
            if extent is None:
                is_known = False
            elif not extent.covers(have):
                problems.append(f"run {number}: verdicts of images that it was not asked for")
            else:
                missing += len(extent) - len(have)
        found = missing if is_known else None
        return LedgerCheck(self._path, len(rows), verdicts, found, tuple(problems))

    def _of_file(self) -> Iterator[str]:
        for (damage,) in self._connection.execute(f"PRAGMA integrity_check({DAMAGES})"):
            if damage != "ok":
                yield f"the file is damaged: {damage}"
        (orphans,) = self._connection.execute(
            "SELECT count(*) FROM verdicts WHERE run NOT IN (SELECT id FROM runs)"
        ).fetchone()
        if orphans:
            yield f"{orphans} verdicts of a run that is not in the ledger"

    def _records(self, number: int, info: RunInfo, problems: list[str]) -> Iterator[Record]:
        """The rows that have their evidence; what others lack becomes a problem."""
        reader = RowReader(info)
        rows = self._connection.execute(
            f"SELECT {VERDICT_COLUMNS} FROM verdicts WHERE run = ? ORDER BY image", (number,)
        )
        for row in rows:
            try:
                record = reader.read(row)
            except UnfoundedError as error:
                problems.append(f"run {number}, image {row[0]}: {error}")
                continue
            opposite = self._together.with_verdict(info, record, str(self._path))
            if opposite is not None:
                problems.append(opposite)
            yield record

    def _extent(self, number: int, text: object, problems: list[str]) -> Extent | None:
        try:
            return None if text is None else Extent.parse(str(text))
        except ValueError as error:
            problems.append(f"run {number}: {error}")
            return None
