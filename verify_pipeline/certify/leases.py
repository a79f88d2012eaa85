"""Leases: which process certifies which image of a ledger at the moment.

Two tables beside the ledger's own, which programs that do not know them ignore. A lease is no
verdict: nothing that reads verdicts looks at leases. A process that ends gives its leases back;
those of a process that was killed lapse when another one asks for images.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from verify_pipeline.certify.ledger_file import LEASES, guard, transaction
from verify_pipeline.job_process import JobProcess

HEARTBEAT = 20.0
"""Seconds between two signs of life, which only processes on other hosts depend on."""

_OUTER: ContextVar[frozenset[int]] = ContextVar("outer", default=frozenset())
"""Owners of leases whose certifications this thread has begun and not ended: it is in a callback of
the innermost one, which goes on only when the callback returns."""

BUSY_SECONDS = 5.0
"""Seconds that a sign of life waits for another writer; the next one follows anyway."""


@dataclass(frozen=True)
class LeaseKey:
    """What a lease is of: an instance in a run of the ledger.

    Attributes:
        run: number of the run in the ledger.
        image: place of the image.
        instance: digest of the instance.
    """

    run: int
    image: int
    instance: str

    @property
    def values(self) -> tuple[int, int, str]:
        """As SQL's parameters."""
        return self.run, self.image, self.instance


@dataclass(frozen=True)
class Taken:
    """Leases that a process was given.

    Attributes:
        keys: of the instances.
        lapsed: how many of the wanted instances belonged to processes that have ended.
        ended: these processes, for people.
    """

    keys: tuple[LeaseKey, ...]
    lapsed: int = 0
    ended: tuple[str, ...] = ()


class Leases:
    """The leases of one certification; use it as a context manager.

    Args:
        connection: to the ledger.
        path: of the ledger, for messages.
        process: that certifies; None: this one.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path | None,
        process: JobProcess | None = None,
    ) -> None:
        self._connection, self._path = connection, path
        self._process = process or JobProcess.own()
        self._owner = secrets.randbits(62)
        self._signs: dict[int, tuple[int, float]] = {}
        self._entered: Token[frozenset[int]] | None = None
        self._heart = _Heart(_file_of(connection), self._owner)

    def __enter__(self) -> Self:
        with guard(self._path), transaction(self._connection):
            for statement in LEASES:
                self._connection.execute(statement)
        self._heart.start()
        self._entered = _OUTER.set(_OUTER.get() | {self._owner})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._entered is not None
        _OUTER.reset(self._entered)
        self._heart.stop()
        # what cannot be given back on a full disk lapses when this process has ended
        with suppress(sqlite3.Error), transaction(self._connection):
            self._connection.execute("DELETE FROM leases WHERE owner = ?", (self._owner,))
            self._connection.execute("DELETE FROM owners WHERE id = ?", (self._owner,))

    def take(self, wanted: Sequence[LeaseKey]) -> Taken:
        """Lease instances: those that are free, or half of what another process has not begun.

        All that is given counts as begun until :meth:`begin` is called. Several processes may call
        this at once; each instance is given to one of them.

        Args:
            wanted: instances without a verdict.
        """
        with guard(self._path), transaction(self._connection):
            ended, lapsed = self._lapse(wanted)
            self._connection.execute(
                "INSERT OR IGNORE INTO owners VALUES (?, ?, ?, ?, 0)",
                (self._owner, self._process.number, self._process.host, self._process.born),
            )
            owners = self._owners(wanted)
            free = [key for key in wanted if owners.get(key, self._owner) == self._owner]
            given = free or self._half_of_others(wanted, owners)
            self._connection.executemany(
                "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, 1)",
                [(*key.values, self._owner) for key in given],
            )
        return Taken(tuple(given), lapsed, ended)

    def begin(self, keys: Iterable[LeaseKey]) -> list[LeaseKey]:
        """Mark instances as begun, and all others of this process as not begun.

        Returns:
            Those that are still leased to this process.
        """
        with guard(self._path), transaction(self._connection):
            self._connection.execute(
                "UPDATE leases SET begun = 0 WHERE owner = ? AND begun = 1", (self._owner,)
            )
            mark = (
                "UPDATE leases SET begun = 1"
                " WHERE run = ? AND image = ? AND instance = ? AND owner = ?"
            )
            return [
                key
                for key in keys
                if self._connection.execute(mark, (*key.values, self._owner)).rowcount == 1
            ]

    def held(self) -> set[LeaseKey]:
        """The instances that are leased to this process."""
        with guard(self._path):
            rows = self._connection.execute(
                "SELECT run, image, instance FROM leases WHERE owner = ?", (self._owner,)
            ).fetchall()
        return {LeaseKey(*row) for row in rows}

    def give_back(self, key: LeaseKey) -> None:
        """End the lease of an instance, which has its verdict."""
        with guard(self._path):
            self._connection.execute(
                "DELETE FROM leases WHERE run = ? AND image = ? AND instance = ? AND owner = ?",
                (*key.values, self._owner),
            )

    def owners_of(self, keys: Sequence[LeaseKey]) -> tuple[str, ...]:
        """The processes that instances are leased to, for people."""
        with guard(self._path):
            owners = set(self._owners(keys).values())
            return tuple(
                sorted(each.label for number, each, _ in self._processes() if number in owners)
            )

    def are_of_callers(self, keys: Sequence[LeaseKey]) -> bool:
        """Whether instances are leased to a certification from whose callback this one was called.

        It cannot go on before this one has ended, so that waiting for it would never end.
        """
        callers = _OUTER.get() - {self._owner}
        if not callers:
            return False
        with guard(self._path):
            return not callers.isdisjoint(self._owners(keys).values())

    @property
    def others(self) -> bool:
        """Whether other processes certify into the ledger."""
        with guard(self._path):
            (count,) = self._connection.execute(
                "SELECT count(*) FROM owners WHERE id != ?", (self._owner,)
            ).fetchone()
        return bool(count)

    def _lapse(self, wanted: Sequence[LeaseKey]) -> tuple[tuple[str, ...], int]:
        """Remove the leases of processes that have ended: who they are, and what they had."""
        before = self._owners(wanted)
        ended, lapsed = [], 0
        for number, process, beats in self._processes():
            if number == self._owner or process.runs(self._silent(number, beats)):
                continue
            had = sum(owner == number for owner in before.values())
            self._connection.execute("DELETE FROM leases WHERE owner = ?", (number,))
            self._connection.execute("DELETE FROM owners WHERE id = ?", (number,))
            if had:
                ended.append(process.label)
                lapsed += had
        return tuple(sorted(ended)), lapsed

    def _silent(self, owner: int, beats: int) -> float:
        """Seconds since this process first saw the last sign of another one, by its own clock."""
        now = time.monotonic()
        seen, since = self._signs.get(owner, (beats, now))
        self._signs[owner] = (beats, since if seen == beats else now)
        return now - self._signs[owner][1]

    def _processes(self) -> list[tuple[int, JobProcess, int]]:
        rows = self._connection.execute("SELECT id, number, host, born, beats FROM owners")
        return [(number, JobProcess(*row), beats) for number, *row, beats in rows.fetchall()]

    def _owners(self, keys: Iterable[LeaseKey]) -> dict[LeaseKey, int]:
        """Who has the instances that are leased."""
        chosen = set(keys)
        found: dict[LeaseKey, int] = {}
        for run in {key.run for key in chosen}:
            rows = self._connection.execute(
                "SELECT run, image, instance, owner FROM leases WHERE run = ?", (run,)
            )
            found |= {key: row[3] for row in rows if (key := LeaseKey(*row[:3])) in chosen}
        return found

    def _half_of_others(
        self, wanted: Sequence[LeaseKey], owners: dict[LeaseKey, int]
    ) -> list[LeaseKey]:
        """Half of the instances of the process that has most that it has not begun; its last."""
        rows = self._connection.execute("SELECT run, image, instance FROM leases WHERE begun = 0")
        idle = {LeaseKey(*row) for row in rows}
        waiting: dict[int, list[LeaseKey]] = {}
        for key in wanted:
            if key in idle:
                waiting.setdefault(owners[key], []).append(key)
        most = max(waiting.values(), key=len, default=[])
        return most[len(most) // 2 :]


class _Heart:
    """Tells other hosts every few seconds that an owner of leases is still there.

    A thread with a connection of its own, since a step of a search may take minutes.
    """

    def __init__(self, file: Path | None, owner: int) -> None:
        self._file, self._owner = file, owner
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin; a ledger in memory has no other hosts."""
        if self._file is not None:
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(HEARTBEAT):
            with suppress(sqlite3.Error):
                self._beat()

    def _beat(self) -> None:
        assert self._file is not None
        opened = sqlite3.connect(self._file, timeout=BUSY_SECONDS, isolation_level=None)
        with closing(opened) as connection:
            connection.execute("UPDATE owners SET beats = beats + 1 WHERE id = ?", (self._owner,))


def _file_of(connection: sqlite3.Connection) -> Path | None:
    """The file of a connection; None: it is in memory."""
    files = {name: file for _, name, file in connection.execute("PRAGMA database_list")}
    return Path(files["main"]) if files["main"] else None
