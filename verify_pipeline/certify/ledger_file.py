"""A ledger's file: its schema, its creation, its migration, and the files that are refused."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from verify_pipeline.errors import LedgerError

APPLICATION_ID = 0x5650_4C47
SCHEMA_VERSION = 3
BUSY_SECONDS = 120.0

_SCHEMA = """
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    network TEXT NOT NULL, data_set TEXT NOT NULL, split TEXT NOT NULL,
    perturbation TEXT NOT NULL, specification TEXT NOT NULL, settings_digest TEXT NOT NULL,
    network_name TEXT NOT NULL, epsilon REAL, settings TEXT NOT NULL,
    outputs INTEGER, input_shape TEXT, asked TEXT, notes TEXT,
    UNIQUE (network, data_set, split, perturbation, specification, settings_digest)
);
CREATE TABLE verdicts (
    run INTEGER NOT NULL REFERENCES runs (id),
    image INTEGER NOT NULL, instance TEXT NOT NULL, label INTEGER,
    verdict TEXT NOT NULL, reason TEXT, stage TEXT NOT NULL, bound REAL,
    seconds REAL NOT NULL, timeout REAL NOT NULL, attempts INTEGER NOT NULL,
    input BLOB, input_shape TEXT, output BLOB, margin REAL,
    detail TEXT NOT NULL, versions TEXT NOT NULL, decided_at REAL NOT NULL, stages TEXT,
    PRIMARY KEY (run, image, instance)
) WITHOUT ROWID;
"""

LEASES = (
    "CREATE TABLE IF NOT EXISTS leases (run INTEGER NOT NULL, image INTEGER NOT NULL,"
    " instance TEXT NOT NULL, owner INTEGER NOT NULL, begun INTEGER NOT NULL,"
    " PRIMARY KEY (run, image, instance)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS owners (id INTEGER PRIMARY KEY, number INTEGER NOT NULL,"
    " host TEXT NOT NULL, born TEXT, beats INTEGER NOT NULL)",
)
"""Tables of ``leases.py``, made when they are first needed. They are no part of the version, since
programs that know nothing of them read and continue a ledger all the same."""

_ADDED: dict[int, dict[str, tuple[str, ...]]] = {
    2: {"runs": ("outputs INTEGER", "input_shape TEXT", "asked TEXT")},
    3: {"runs": ("notes TEXT",), "verdicts": ("stages TEXT",)},
}
"""What each version of the schema added; NULL in older rows, meaning unknown."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection to the ledger at ``path``, migrated to this version's schema.

    Raises:
        LedgerError: there is none, or the file is foreign, damaged or of a newer version.
    """
    _refuse_no_file(path)
    with guard(path):
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _check(connection, path)
            _update(connection)
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
    return connection


def copy_in_memory(path: Path) -> sqlite3.Connection:
    """A copy of the ledger at ``path`` in memory, migrated to this version's schema.

    The ledger and its folder stay as they are, also if another process writes it meanwhile.

    Raises:
        LedgerError: there is none, or the file is foreign, damaged or of a newer version.
    """
    _refuse_no_file(path)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with guard(path), _readable(path) as source:
            _check(source, path)
            source.backup(connection)
            _update(connection)
            for table in ("leases", "owners"):  # nobody shares the copy
                connection.execute(f"DROP TABLE IF EXISTS {table}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _readable(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that creates no file beside the ledger.

    SQLite makes files of its own beside a ledger in write-ahead mode, also for reading, unless it
    is told that nobody writes: that holds where no log is there. A log whose index is missing, as
    of a copy, is read as a copy.
    """
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    written = log.exists() and log.stat().st_size > 0
    if written and not index.exists():
        with tempfile.TemporaryDirectory() as folder:
            for each in (path, log):
                shutil.copy(each, folder)
            with closing(_read_only(Path(folder, path.name), "")) as connection:
                yield connection
        return
    with closing(_read_only(path, "" if written else "&immutable=1")) as connection:
        yield connection


def _read_only(path: Path, more: str) -> sqlite3.Connection:
    address = f"{path.absolute().as_uri()}?mode=ro{more}"
    return sqlite3.connect(address, timeout=BUSY_SECONDS, isolation_level=None, uri=True)


def _refuse_no_file(path: Path) -> None:
    if not path.exists():
        raise LedgerError(
            f"ledger {path}", expected="a file", got="none", remedy="Certify something first."
        )
    if not path.is_file():
        raise LedgerError(f"ledger {path}", expected="a file", got="a folder or a device")
    if path.stat().st_size == 0:
        raise LedgerError(
            f"ledger {path}",
            expected="a ledger written by verify-pipeline",
            got="an empty file",
            remedy="Name another file, or delete this one to start a new ledger.",
        )


def lay_out(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty ledger."""
    connection.executescript(_SCHEMA)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def create(path: Path) -> None:
    """Create an empty ledger at ``path``; another process may be first.

    Raises:
        LedgerError: the place cannot be written; nothing is left there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    with guard(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.unlink(missing_ok=True)
            connection = sqlite3.connect(temporary, isolation_level=None)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                lay_out(connection)
            finally:
                connection.close()
            with suppress(FileExistsError):
                os.link(temporary, path)
        finally:
            for leftover in ("", "-wal", "-shm"):  # a full disk leaves SQLite's own files, too
                temporary.with_name(temporary.name + leftover).unlink(missing_ok=True)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction: everything written inside is kept, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself takes back what a full disk ended
            connection.execute("ROLLBACK")
        raise


@contextmanager
def guard(path: Path | None) -> Iterator[None]:
    """Turn errors of SQLite and the file system into a :class:`LedgerError` that names the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _told(error, path) from error
    except OSError as error:
        raise LedgerError(
            f"ledger {path}",
            expected="a place that can be written",
            got=error.strerror or str(error),
        ) from error


def _told(error: sqlite3.DatabaseError, path: Path | None) -> LedgerError:
    """SQLite's error as a :class:`LedgerError`: the file cannot be used now, or is damaged."""
    # errors of Python's own, such as text that is not UTF-8, have no code of SQLite's
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.OperationalError) and code is not None:
        full = code == sqlite3.SQLITE_FULL
        return LedgerError(
            f"ledger {path}",
            expected="a file that can be read and written",
            got=str(error),
            remedy="Free some space; the same command continues then." if full else None,
        )
    return LedgerError(
        f"ledger {path}",
        expected="an undamaged ledger",
        got=str(error),
        remedy="Restore it from a copy, or name another file to start anew.",
    )


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a file that is not an undamaged ledger of this version or an older one."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    version = _version(connection)
    if application != APPLICATION_ID:
        raise LedgerError(
            f"ledger {path}",
            expected="a ledger written by verify-pipeline",
            got="another SQLite file",
            remedy="Name another file.",
        )
    if not 1 <= version <= SCHEMA_VERSION:
        raise LedgerError(
            f"ledger {path}",
            expected=f"a schema version up to {SCHEMA_VERSION}",
            got=str(version),
            remedy="Use the version of verify-pipeline that wrote it, or start a new ledger.",
        )
    (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if state != "ok":
        raise sqlite3.DatabaseError(state)


def _update(connection: sqlite3.Connection) -> None:
    """Add the columns that an older ledger lacks; another process may be first."""
    if _version(connection) == SCHEMA_VERSION:
        return
    with transaction(connection):
        before = _version(connection)
        for version in range(before + 1, SCHEMA_VERSION + 1):
            for table, columns in _ADDED[version].items():
                for column in columns:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")
            connection.execute(f"PRAGMA user_version = {version}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
