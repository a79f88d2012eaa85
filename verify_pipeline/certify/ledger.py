"""The ledger: a SQLite file that gets each verdict as it is decided.

One row per run (network, data set, split, perturbation, specification, settings), image and
instance digest. A decided row is never written again, whoever writes, so a run that was killed goes
on where it stopped and several processes can share a file. The file is in SQLite's write-ahead-log
mode, set once when it is created: readers never wait, and a killed process loses nothing that
:meth:`Ledger.append` returned from. WAL needs a local disk: on a network file system, use one
ledger per machine.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from verify_pipeline.certify.records import (
    RECORD_COLUMNS,
    Entry,
    PackedCounterexample,
    Record,
    Run,
    RunInfo,
    pack,
    record_from_row,
    unpack,
)
from verify_pipeline.errors import LedgerError
from verify_pipeline.problem import OF_TIME, Counterexample, Status

APPLICATION_ID = 0x5650_4C47
SCHEMA_VERSION = 1
BUSY_SECONDS = 120.0

_SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    network TEXT NOT NULL, data_set TEXT NOT NULL, split TEXT NOT NULL,
    perturbation TEXT NOT NULL, specification TEXT NOT NULL, settings_digest TEXT NOT NULL,
    network_name TEXT NOT NULL, epsilon REAL, settings TEXT NOT NULL,
    UNIQUE (network, data_set, split, perturbation, specification, settings_digest)
);
CREATE TABLE verdicts (
    run INTEGER NOT NULL REFERENCES runs (id),
    image INTEGER NOT NULL, instance TEXT NOT NULL, label INTEGER,
    verdict TEXT NOT NULL, reason TEXT, stage TEXT NOT NULL, bound REAL,
    seconds REAL NOT NULL, timeout REAL NOT NULL, attempts INTEGER NOT NULL,
    input BLOB, input_shape TEXT, output BLOB, margin REAL,
    detail TEXT NOT NULL, versions TEXT NOT NULL, decided_at REAL NOT NULL,
    PRIMARY KEY (run, image, instance)
) WITHOUT ROWID;
"""

_RUN_KEY = "network, data_set, split, perturbation, specification, settings_digest"

# A row that is decided stays as it is; an UNKNOWN one gives way to a later attempt.
_APPEND = """
INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, image, instance) DO UPDATE SET
    verdict = excluded.verdict, reason = excluded.reason, stage = excluded.stage,
    bound = excluded.bound, seconds = verdicts.seconds + excluded.seconds,
    timeout = excluded.timeout, attempts = verdicts.attempts + 1,
    input = excluded.input, input_shape = excluded.input_shape, output = excluded.output,
    margin = excluded.margin, detail = excluded.detail, versions = excluded.versions,
    decided_at = excluded.decided_at
WHERE verdicts.verdict = 'unknown'
"""


class Ledger:
    """An open ledger. Make one with :meth:`open`, :meth:`existing` or :meth:`in_memory`.

    A ledger belongs to the process and thread that opened it; each process opens its own.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._connection = connection
        self.path = path

    @classmethod
    def open(cls, path: Path) -> Self:
        """The ledger at ``path``, created if there is none.

        Raises:
            LedgerError: the place cannot be written, or another file is there.
        """
        if not path.exists():
            _create(path)
        return cls.existing(path)

    @classmethod
    def existing(cls, path: Path) -> Self:
        """The ledger at ``path``.

        Raises:
            LedgerError: there is none, or the file is foreign, damaged or of another version.
        """
        if not path.exists():
            raise LedgerError(
                f"ledger {path}", expected="a file", got="none", remedy="Certify something first."
            )
        if not path.is_file():
            raise LedgerError(f"ledger {path}", expected="a file", got="a folder or a device")
        with _guard(path):
            connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                _check(connection, path)
                connection.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                connection.close()
                raise
        return cls(connection, path)

    @classmethod
    def in_memory(cls) -> Self:
        """A ledger that ends with the process, for use as a library and while training."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        _lay_out(connection)
        return cls(connection, None)

    def close(self) -> None:
        """Close the file; the ledger cannot be used any more."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def register(self, info: RunInfo) -> None:
        """Note a run, once; one that is there stays as it is."""
        with _guard(self.path):
            self._connection.execute(
                f"INSERT OR IGNORE INTO runs ({_RUN_KEY}, network_name, epsilon, settings)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*_key(info.run), info.network_name, info.epsilon, info.settings),
            )

    def runs(self) -> list[RunInfo]:
        """Every run, in the order in which they were first registered."""
        with _guard(self.path):
            rows = self._connection.execute(
                f"SELECT {_RUN_KEY}, network_name, epsilon, settings FROM runs ORDER BY id"
            ).fetchall()
        return [RunInfo(Run(*row[:6]), row[6], row[7], row[8]) for row in rows]

    def append(self, run: Run, entries: Sequence[Entry], timeout: float, versions: str) -> int:
        """Write verdicts, all or none; durable against a killed process when it returns.

        Args:
            run: a registered run.
            entries: of images; one whose row is decided already changes nothing.
            timeout: seconds that each image was allowed.
            versions: of the packages that decided.

        Returns:
            How many rows were written; the others had been decided before.

        Raises:
            LedgerError: a row holds the opposite verdict (one of the two is a soundness bug), or
                the file cannot be written.
        """
        run_id = self._run_id(run)
        written = 0
        with _guard(self.path), self._transaction():
            for entry in entries:
                row = _row(run_id, entry, timeout, versions)
                if self._connection.execute(_APPEND, row).rowcount > 0:
                    written += 1
                else:
                    self._refuse_contradiction(run_id, entry)
        return written

    def open_indices(
        self, run: Run, instances: Mapping[int, str], timeout: float, retry: bool = False
    ) -> list[int]:
        """Which images of ``instances`` (index to digest) are still to be worked on, in order.

        Those are the images without a row, those that ran out of fewer seconds than ``timeout`` or
        were given up for want of so many, and with ``retry`` every UNKNOWN one.
        """
        done = {
            (record.index, record.instance)
            for record in self.records(run)
            if record.status is not Status.UNKNOWN
            or not (retry or (record.reason in OF_TIME and record.timeout < timeout))
        }
        return [i for i, digest in sorted(instances.items()) if (i, digest) not in done]

    def records(self, run: Run) -> list[Record]:
        """Every row of a run, by image, then by age; none for a run that is not registered."""
        with _guard(self.path):
            rows = self._connection.execute(
                f"SELECT {RECORD_COLUMNS} FROM verdicts WHERE run = ({_SELECT_RUN})"
                " ORDER BY image, decided_at",
                _key(run),
            ).fetchall()
        return [record_from_row(row) for row in rows]

    def counterexample(self, run: Run, record: Record) -> Counterexample:
        """The counterexample of a FALSIFIED row.

        Raises:
            LedgerError: the row has none, or it is damaged.
        """
        with _guard(self.path):
            row = self._connection.execute(
                "SELECT input, input_shape, output, margin FROM verdicts"
                f" WHERE run = ({_SELECT_RUN}) AND image = ? AND instance = ?",
                (*_key(run), record.index, record.instance),
            ).fetchone()
        if row is None or row[0] is None:
            raise LedgerError(f"counterexample of image {record.index}", got="none in the ledger")
        return unpack(PackedCounterexample(*row))

    def _run_id(self, run: Run) -> int:
        with _guard(self.path):
            row = self._connection.execute(_SELECT_RUN, _key(run)).fetchone()
        if row is None:
            raise ValueError(f"{run} has to be registered before verdicts are appended")
        return int(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _refuse_contradiction(self, run_id: int, entry: Entry) -> None:
        (before,) = self._connection.execute(
            "SELECT verdict FROM verdicts WHERE run = ? AND image = ? AND instance = ?",
            (run_id, entry.index, entry.instance),
        ).fetchone()
        now = entry.verdict.status
        if now is not Status.UNKNOWN and now.value != before:
            raise LedgerError(
                f"image {entry.index}",
                expected=f"the verdict that the ledger holds, {before}",
                got=now.value,
                remedy="One of the two is wrong: please report it with the network and the image.",
            )


_SELECT_RUN = (
    "SELECT id FROM runs WHERE network = ? AND data_set = ? AND split = ? AND perturbation = ?"
    " AND specification = ? AND settings_digest = ?"
)


def _key(run: Run) -> tuple[str, ...]:
    return (
        run.network,
        run.data_set,
        run.split,
        run.perturbation,
        run.specification,
        run.settings,
    )


def _row(run_id: int, entry: Entry, timeout: float, versions: str) -> tuple[Any, ...]:
    verdict = entry.verdict
    evidence: tuple[Any, ...] = (None, None, None, None)
    if verdict.counterexample is not None:
        packed = pack(verdict.counterexample)
        evidence = (packed.input, packed.shape, packed.output, packed.margin)
    return (
        run_id,
        entry.index,
        entry.instance,
        entry.label,
        verdict.status.value,
        verdict.reason.name if verdict.reason else None,
        verdict.stage,
        verdict.bound,
        verdict.seconds,
        timeout,
        *evidence,
        verdict.detail,
        versions,
        time.time(),
    )


def _lay_out(connection: sqlite3.Connection) -> None:
    connection.executescript(_SCHEMA)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _create(path: Path) -> None:
    """Make an empty ledger beside ``path`` and link it there; another process may be first."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with _guard(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            _lay_out(connection)
        finally:
            connection.close()
        try:
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is not a sound ledger of this version."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise LedgerError(
            f"ledger {path}",
            expected="a ledger written by verify-pipeline",
            got="another SQLite file",
            remedy="Name another file.",
        )
    if version != SCHEMA_VERSION:
        raise LedgerError(
            f"ledger {path}",
            expected=f"schema version {SCHEMA_VERSION}",
            got=str(version),
            remedy="Use the version of verify-pipeline that wrote it, or start a new ledger.",
        )
    (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise sqlite3.DatabaseError(state)


@contextmanager
def _guard(path: Path | None) -> Iterator[None]:
    """SQLite's and the file system's errors as a :class:`LedgerError` that names the file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise LedgerError(
            f"ledger {path}", expected="a file that can be read and written", got=str(error)
        ) from error
    except sqlite3.DatabaseError as error:
        raise LedgerError(
            f"ledger {path}",
            expected="an undamaged ledger",
            got=str(error),
            remedy="Restore it from a copy, or name another file to start anew.",
        ) from error
    except OSError as error:
        raise LedgerError(
            f"ledger {path}",
            expected="a place that can be written",
            got=error.strerror or str(error),
        ) from error
