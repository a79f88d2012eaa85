"""Locks between processes that end with their process, however it ends.

A lock is an exclusive transaction of SQLite on a file that holds nothing: the operating system
frees it when the process dies, so that no lock can be stale. Like the ledger, it needs a local
disk, or a network file system with working locks.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from verify_pipeline.errors import StudyError


class FileLock:
    """An exclusive lock; use it as a context manager, or :meth:`acquire` and :meth:`release`.

    Args:
        path: of the lock's file; made if it is not there, and left there.
        seconds: that another process's lock is waited for.
        remedy: what a user can do where another process holds it.
    """

    def __init__(self, path: Path, seconds: float = 0.0, remedy: str | None = None) -> None:
        self._path, self._seconds, self._remedy = path, seconds, remedy
        self._connection: sqlite3.Connection | None = None

    def acquire(self) -> bool:
        """Take the lock.

        Returns:
            True.

        Raises:
            StudyError: another process holds it, or the file cannot be used as a lock.
        """
        connection = None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, timeout=self._seconds, isolation_level=None, check_same_thread=False
            )
            connection.execute("BEGIN EXCLUSIVE")
        except (sqlite3.Error, OSError) as error:
            if connection is not None:
                connection.close()
            raise self._refused(error) from None
        self._connection = connection
        return True

    def acquire_if_free(self) -> bool:
        """Take the lock; False where another process holds it, or the file is no lock."""
        try:
            return self.acquire()
        except StudyError:
            return False

    def release(self) -> None:
        """Free the lock; nothing happens where it is not held."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _refused(self, error: Exception) -> StudyError:
        if "locked" in str(error):
            waited = f" for {self._seconds:g} s" if self._seconds else ""
            return StudyError(
                f"folder {self._path.parent}",
                expected="no other command that works there",
                got=f"one that holds {self._path.name}{waited}",
                remedy=self._remedy,
            )
        return StudyError(
            f"lock {self._path}", expected="a file that can be locked", got=str(error)
        )


def is_held(path: Path) -> bool:
    """Whether some process holds the lock of this file."""
    if not path.is_file():
        return False
    lock = FileLock(path)
    free = lock.acquire_if_free()
    lock.release()
    return not free
