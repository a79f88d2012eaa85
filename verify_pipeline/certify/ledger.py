"""The ledger: a SQLite file that stores each verdict as soon as it is decided.

One row per run (network, data set, split, perturbation, specification, settings), image and
instance digest. No process overwrites a decided row, so a killed run continues where it stopped,
and several processes can share a file (``leases.py``). SQLite's write-ahead log (WAL) lets readers
never wait, and a killed process loses nothing once :meth:`Ledger.append` has returned. WAL needs a
local disk: on a network file system, use one ledger per machine.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from verify_pipeline.certify.extents import Extent, asked_again
from verify_pipeline.certify.leases import Leases
from verify_pipeline.certify.ledger_file import (
    connect,
    copy_in_memory,
    create,
    guard,
    lay_out,
    transaction,
)
from verify_pipeline.certify.records import (
    Attempt,
    Entry,
    PackedCounterexample,
    Record,
    Run,
    RunInfo,
    unpack,
)
from verify_pipeline.certify.rows import (
    RUN_COLUMNS,
    VERDICT_COLUMNS,
    RowReader,
    UnfoundedError,
    read_run,
    values_of,
)
from verify_pipeline.errors import LedgerError
from verify_pipeline.problem import OF_TIME, Counterexample, Status

# A row that is decided stays as it is; an UNKNOWN one gives way to a later attempt.
_APPEND = """
INSERT INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, image, instance) DO UPDATE SET
    verdict = excluded.verdict, reason = excluded.reason, stage = excluded.stage,
    bound = excluded.bound, seconds = verdicts.seconds + excluded.seconds,
    timeout = excluded.timeout, attempts = verdicts.attempts + 1,
    input = excluded.input, input_shape = excluded.input_shape, output = excluded.output,
    margin = excluded.margin, detail = excluded.detail, versions = excluded.versions,
    decided_at = excluded.decided_at, stages = excluded.stages
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
            create(path)
        return cls.existing(path)

    @classmethod
    def existing(cls, path: Path) -> Self:
        """The ledger at ``path``; one of an older version is brought up to date.

        Raises:
            LedgerError: there is none, or the file is foreign, damaged or of a newer version.
        """
        return cls(connect(path), path)

    @classmethod
    def in_memory(cls) -> Self:
        """A ledger in memory, for use as a library and during training."""
        connection = sqlite3.connect(":memory:", isolation_level=None)
        lay_out(connection)
        return cls(connection, None)

    @classmethod
    def snapshot(cls, path: Path) -> Self:
        """A copy in memory of the ledger at ``path``; no file is created or changed.

        Raises:
            LedgerError: there is none, or the file is foreign, damaged or of a newer version.
        """
        return cls(copy_in_memory(path), path)

    @property
    def bytes(self) -> int:
        """Size of its pages."""
        (pages,) = self._connection.execute("PRAGMA page_count").fetchone()
        (size,) = self._connection.execute("PRAGMA page_size").fetchone()
        return int(pages) * int(size)

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

    def register(self, info: RunInfo, asked: Extent) -> None:
        """Register a run and add to the images that it was asked for.

        Args:
            info: of the run; a known run keeps its name.
            asked: images that are to get a verdict now.
        """
        shape = None if info.input_shape is None else ",".join(map(str, info.input_shape))
        with guard(self.path), transaction(self._connection):
            row = self._connection.execute(_SELECT_RUN, _key(info.run)).fetchone()
            if row is None:
                values = (*_key(info.run), info.network_name, info.epsilon, info.settings)
                known = (info.outputs, shape, _json(dict(info.notes)), asked.text)
                self._connection.execute(_REGISTER, (*values, *known))
                return
            decided = self._connection.execute(
                "SELECT DISTINCT image FROM verdicts WHERE run = ?", row
            )
            extent = asked_again(
                self.asked(info.run), Extent.of(int(image) for (image,) in decided), asked
            )
            text = None if extent is None else extent.text
            self._connection.execute(
                "UPDATE runs SET asked = ?, outputs = ?, input_shape = ?, notes = ? WHERE id = ?",
                (text, info.outputs, shape, _json(dict(info.notes)), *row),
            )

    def runs(self) -> list[RunInfo]:
        """Every run, in the order in which they were first registered.

        Raises:
            LedgerError: this package cannot have written some run.
        """
        with guard(self.path):
            rows = self._connection.execute(
                f"SELECT id, {RUN_COLUMNS} FROM runs ORDER BY id"
            ).fetchall()
        found = []
        for number, *row in rows:
            with self._naming(number, "runs"):
                found.append(read_run(row))
        return found

    def asked(self, run: Run) -> Extent | None:
        """The images that a run was asked for; None: unknown, as in ledgers of older versions.

        Raises:
            LedgerError: the ledger's entry is invalid.
        """
        with guard(self.path):
            row = self._connection.execute(
                f"SELECT id, asked FROM runs WHERE id = ({_SELECT_RUN})", _key(run)
            ).fetchone()
        if row is None or row[1] is None:
            return None
        with self._naming(row[0], "runs"):
            try:
                return Extent.parse(row[1])
            except (ValueError, TypeError):
                raise UnfoundedError("the places of images that were asked for", row[1]) from None

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
        run_id = self.number_of(run)
        written = 0
        with guard(self.path), transaction(self._connection):
            for entry in entries:
                row = values_of(run_id, entry, timeout, versions)
                if self._connection.execute(_APPEND, row).rowcount > 0:
                    written += 1
                else:
                    self._refuse_contradiction(run_id, entry)
        return written

    def open_indices(
        self, run: Run, instances: Mapping[int, str], timeout: float, retry: bool = False
    ) -> list[int]:
        """The images of ``instances`` (index to digest) that still need work, in order.

        Those are the images without a row, the images that ran out of time or were given up with
        fewer seconds than ``timeout``, and with ``retry`` every UNKNOWN image.
        """
        done = {
            (record.index, record.instance)
            for record in self.records(run)
            if record.status is not Status.UNKNOWN
            or not (retry or (record.reason in OF_TIME and record.timeout < timeout))
        }
        return [i for i, digest in sorted(instances.items()) if (i, digest) not in done]

    def records(self, run: Run) -> list[Record]:
        """Every row of a run, by image, then by age; none for a run that is not registered.

        Raises:
            LedgerError: a row lacks the evidence of its verdict; the message names file, run and
                image.
        """
        with guard(self.path):
            found = self._connection.execute(
                f"SELECT id, {RUN_COLUMNS} FROM runs WHERE id = ({_SELECT_RUN})", _key(run)
            ).fetchone()
            if found is None:
                return []
            number, *described = found
            rows = self._connection.execute(
                f"SELECT {VERDICT_COLUMNS} FROM verdicts WHERE run = ? ORDER BY image, decided_at",
                (number,),
            ).fetchall()
        with self._naming(number, "runs"):
            reader = RowReader(read_run(described))
        records = []
        for row in rows:
            with self._naming(number, "verdicts", row[0]):
                records.append(reader.read(row))
        return records

    def tried(self, run: Run) -> dict[tuple[int, str], Attempt]:
        """The last attempt of every row, by image and digest; its evidence is not read."""
        with guard(self.path):
            rows = self._connection.execute(
                "SELECT image, instance, verdict, reason, timeout, attempts FROM verdicts"
                f" WHERE run = ({_SELECT_RUN})",
                _key(run),
            ).fetchall()
        return {(image, instance): Attempt.of(*rest) for image, instance, *rest in rows}

    def leases(self) -> Leases:
        """For a certification that other processes may share; see ``leases.py``."""
        return Leases(self._connection, self.path)

    def counterexample(self, run: Run, record: Record) -> Counterexample:
        """The counterexample of a FALSIFIED row.

        Raises:
            LedgerError: the row has none, or it is damaged.
        """
        with guard(self.path):
            row = self._connection.execute(
                "SELECT input, input_shape, output, margin FROM verdicts"
                f" WHERE run = ({_SELECT_RUN}) AND image = ? AND instance = ?",
                (*_key(run), record.index, record.instance),
            ).fetchone()
        if row is None or row[0] is None:
            raise LedgerError(f"counterexample of image {record.index}", got="none in the ledger")
        return unpack(PackedCounterexample(*row))

    def number_of(self, run: Run) -> int:
        """The number that a registered run has in this file."""
        with guard(self.path):
            row = self._connection.execute(_SELECT_RUN, _key(run)).fetchone()
        if row is None:
            raise ValueError(f"{run} has to be registered first")
        return int(row[0])

    @contextmanager
    def _naming(self, run: int, table: str, image: object = None) -> Iterator[None]:
        """Turn an invalid row into an error that says where it is and what to do."""
        place = f"run {run}" if image is None else f"run {run}, image {image}"
        try:
            yield
        except UnfoundedError as error:
            raise LedgerError(
                f"ledger {self.path}, {place}",
                expected=error.expected,
                got=error.got,
                remedy="This row was edited, or comes from another version. Restore the ledger "
                f"from a copy, or delete the row from its table {table} and certify again.",
            ) from None

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
_REGISTER = f"INSERT INTO runs ({RUN_COLUMNS}, asked) VALUES ({', '.join('?' * 13)})"


def _key(run: Run) -> tuple[str, ...]:
    return (
        run.network,
        run.data_set,
        run.split,
        run.perturbation,
        run.specification,
        run.settings,
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
