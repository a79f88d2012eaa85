"""Several ledgers as one: rows are copied as they are, with their evidence."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from verify_pipeline.certify.checking import Contradictions
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.ledger_file import create, guard
from verify_pipeline.certify.records import Record, Run, RunInfo
from verify_pipeline.errors import ConfigError, LedgerError
from verify_pipeline.problem import Status

_RUN_KEY = "network, data_set, split, perturbation, specification, settings_digest"
_SAME_RUN = " AND ".join(f"old.{name} = new.{name}" for name in _RUN_KEY.split(", "))


@dataclass(frozen=True)
class Merged:
    """A ledger that was put together.

    Attributes:
        path: of its file.
        infos: its runs.
        verdicts: rows in it.
        gaps: of each run, the images between its first and its last one that no ledger has.
        repeated: rows that several ledgers have; of these, one is kept.
        completed: of these, rows that are UNKNOWN in one ledger and decided in a later one.
    """

    path: Path
    infos: tuple[RunInfo, ...]
    verdicts: int
    gaps: tuple[Extent, ...]
    repeated: int = 0
    completed: int = 0

    def __repr__(self) -> str:
        return f"Merged({self.path}: {len(self.infos)} runs, {self.verdicts} verdicts)"


def merge_ledgers(sources: Sequence[Path], path: Path) -> Merged:
    """Put several ledgers together, such as those of shards.

    A run that several of them have becomes one run. Of an image that several of them have, the
    first decided row is kept, or the first one.

    Args:
        sources: ledgers of one network, such as ``certify --shard`` writes.
        path: of the new ledger.

    Raises:
        ConfigError: fewer than two ledgers, one twice, or a file is at ``path`` already.
        LedgerError: a ledger is missing or damaged, they are of several networks, two of them hold
            opposite verdicts, or an image of one run has other pixels in one than in another.
    """
    _check(sources, path)
    held = [_read(source) for source in sources]
    _refuse_several_networks(sources, held)
    overlap = _overlap(sources, held)
    asked: dict[object, Extent] = {}
    for each in (run for runs in held for run in runs):
        asked[each.info.run] = asked.get(each.info.run, Extent(())).union(each.extent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.merging")
    try:
        create(temporary)
        with guard(path), closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            for source in sources:
                _copy(connection, source)
            connection.execute("PRAGMA journal_mode = DELETE")  # one file, which can be moved
        merged = _checked(temporary, path, asked)
        with guard(path):
            os.link(temporary, path)
    finally:
        for leftover in ("", "-wal", "-shm", "-journal"):
            temporary.with_name(temporary.name + leftover).unlink(missing_ok=True)
    return replace(merged, repeated=len(overlap.repeated), completed=len(overlap.completed))


@dataclass(frozen=True)
class _HeldRun:
    """A run of one ledger, with all its rows and images."""

    info: RunInfo
    records: tuple[Record, ...]
    extent: Extent


def _check(sources: Sequence[Path], path: Path) -> None:
    places = [source.resolve() for source in sources]
    if len(sources) < 2 or len(set(places)) < len(places):
        raise ConfigError(
            "ledgers to merge",
            expected="at least two, each once",
            got=", ".join(map(str, sources)) or "none",
        )
    if path.exists():
        raise ConfigError(
            f"--out {path}", expected="a new file", got="one that is there", remedy="Name another."
        )


def _read(source: Path) -> list[_HeldRun]:
    """The runs of a ledger; each row is checked as it is read."""
    with Ledger.existing(source) as ledger:
        return [_held(ledger, info) for info in ledger.runs()]


def _held(ledger: Ledger, info: RunInfo) -> _HeldRun:
    records = tuple(ledger.records(info.run))
    asked = ledger.asked(info.run) or Extent(())
    return _HeldRun(info, records, Extent.of(record.index for record in records).union(asked))


def _refuse_several_networks(sources: Sequence[Path], held: Sequence[Sequence[_HeldRun]]) -> None:
    first: RunInfo | None = None
    for source, runs in zip(sources, held, strict=True):
        for info in (run.info for run in runs):
            first = first or info
            if info.run.network != first.run.network:
                raise LedgerError(
                    f"ledger {source}",
                    expected=f"verdicts of {first.network_name}, {first.run.network[:12]}…",
                    got=f"{info.network_name}, {info.run.network[:12]}…",
                    remedy="Merge the ledgers of one network. Shards of another network need "
                    "another --ledger.",
                )


@dataclass(frozen=True)
class _Overlap:
    """Rows that several ledgers have, by run and image."""

    repeated: frozenset[tuple[Run, int]]
    completed: frozenset[tuple[Run, int]]


def _overlap(sources: Sequence[Path], held: Sequence[Sequence[_HeldRun]]) -> _Overlap:
    """What several ledgers have, once it is known that nothing in it is contradictory."""
    rows: dict[tuple[Run, int], Record] = {}
    repeated, completed = set[tuple[Run, int]](), set[tuple[Run, int]]()
    opposites = Contradictions()
    for source, runs in zip(sources, held, strict=True):
        for info, record in ((run.info, record) for run in runs for record in run.records):
            opposite = opposites.with_verdict(info, record, str(source))
            if opposite is not None:
                raise LedgerError(
                    f"ledger {source}",
                    expected="no verdict that contradicts another one",
                    got=opposite,
                    remedy="Please report it with the network and the image.",
                )
            key = (info.run, record.index)
            before = rows.setdefault(key, record)
            if before is record:
                continue
            if before.instance != record.instance:
                raise LedgerError(
                    f"ledger {source}, image {record.index}",
                    expected="the pixels and the class that it has in a ledger before it",
                    got="others",
                    remedy="Merge ledgers of the same images.",
                )
            repeated.add(key)
            if before.status is Status.UNKNOWN is not record.status:
                completed.add(key)
                rows[key] = record
    return _Overlap(frozenset(repeated), frozenset(completed))


def _copy(connection: sqlite3.Connection, source: Path) -> None:
    """Copy the rows of one ledger; its runs get new numbers."""
    connection.execute("ATTACH ? AS source", (str(source),))
    names = [row[1] for row in connection.execute("PRAGMA table_info(runs)") if row[1] != "id"]
    columns = ", ".join(names)
    rest = [row[1] for row in connection.execute("PRAGMA table_info(verdicts)") if row[1] != "run"]
    listed = ", ".join(rest)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        f"INSERT OR IGNORE INTO main.runs ({columns}) SELECT {columns} FROM source.runs ORDER BY id"
    )
    connection.execute(
        f"INSERT INTO main.verdicts (run, {listed}) "
        f"SELECT new.id, {', '.join(f'each.{name}' for name in rest)} FROM source.verdicts AS each "
        "JOIN source.runs AS old ON old.id = each.run "
        f"JOIN main.runs AS new ON {_SAME_RUN} WHERE true "
        "ON CONFLICT (run, image, instance) DO UPDATE SET "
        f"{', '.join(f'{name} = excluded.{name}' for name in rest)} "
        "WHERE verdicts.verdict = 'unknown' AND excluded.verdict != 'unknown'"
    )
    connection.execute("COMMIT")
    connection.execute("DETACH source")


def _checked(temporary: Path, path: Path, asked: dict[object, Extent]) -> Merged:
    """Say what each run was asked for in all, and read every row once more."""
    with Ledger.existing(temporary) as ledger:
        infos = tuple(ledger.runs())
        for info in infos:
            ledger.register(info, asked[info.run])
        verdicts = sum(len(ledger.records(info.run)) for info in infos)
    return Merged(path, infos, verdicts, tuple(asked[info.run].gaps for info in infos))
