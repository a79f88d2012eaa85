"""Ledgers of shards as one ledger: rows are copied as they are, with their evidence."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.ledger_file import create, guard
from verify_pipeline.certify.records import RunInfo
from verify_pipeline.errors import ConfigError, LedgerError

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
    """

    path: Path
    infos: tuple[RunInfo, ...]
    verdicts: int
    gaps: tuple[Extent, ...]

    def __repr__(self) -> str:
        return f"Merged({self.path}: {len(self.infos)} runs, {self.verdicts} verdicts)"


def merge_ledgers(sources: Sequence[Path], path: Path) -> Merged:
    """Put the ledgers of shards together.

    Args:
        sources: ledgers of one network, such as ``certify --shard`` writes. A run that several of
            them have becomes one run; each image is in one of them.
        path: of the new ledger.

    Raises:
        ConfigError: fewer than two ledgers, one twice, or a file is at ``path`` already.
        LedgerError: a ledger is missing or damaged, they are of several networks, or two of them
            have an image of one run.
    """
    _check(sources, path)
    held = [_read(source) for source in sources]
    _refuse_several_networks(sources, held)
    asked = _asked(sources, held)
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
    return merged


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


def _read(source: Path) -> list[tuple[RunInfo, Extent]]:
    """The runs of a ledger with all their images; each row is checked as it is read."""
    with Ledger.existing(source) as ledger:
        return [
            (info, _images(ledger, info).union(ledger.asked(info.run) or Extent(())))
            for info in ledger.runs()
        ]


def _images(ledger: Ledger, info: RunInfo) -> Extent:
    return Extent.of(record.index for record in ledger.records(info.run))


def _refuse_several_networks(
    sources: Sequence[Path], held: Sequence[Sequence[tuple[RunInfo, Extent]]]
) -> None:
    first: RunInfo | None = None
    for source, runs in zip(sources, held, strict=True):
        for info, _ in runs:
            first = first or info
            if info.run.network != first.run.network:
                raise LedgerError(
                    f"ledger {source}",
                    expected=f"verdicts of {first.network_name}, {first.run.network[:12]}…",
                    got=f"{info.network_name}, {info.run.network[:12]}…",
                    remedy="Merge the ledgers of one network; table takes several ledgers.",
                )


def _asked(
    sources: Sequence[Path], held: Sequence[Sequence[tuple[RunInfo, Extent]]]
) -> dict[object, Extent]:
    """The images of each run in all ledgers together."""
    asked: dict[object, Extent] = {}
    for source, runs in zip(sources, held, strict=True):
        for info, extent in runs:
            before = asked.get(info.run, Extent(()))
            together = before.union(extent)
            if len(together) < len(before) + len(extent):
                raise LedgerError(
                    f"ledger {source}",
                    expected="images that no ledger before it has",
                    got=f"{len(before) + len(extent) - len(together)} that one has",
                    remedy="Shards i/n of one n do not overlap.",
                )
            asked[info.run] = together
    return asked


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
        f"JOIN main.runs AS new ON {_SAME_RUN}"
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
