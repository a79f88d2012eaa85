"""A ledger read as a copy: what stands in it, and that neither file nor folder changes."""

import shutil
from pathlib import Path

import pytest

from tests.certify.old_ledger import write_version_1
from tests.certify.test_ledger import RUN, append, entry
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.tally import summaries
from verify_pipeline.errors import LedgerError


def files(folder: Path) -> dict[str, bytes]:
    """Content by name, but for the index of a log, which is memory that processes share."""
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.suffix[-4:] != "-shm"}


def images(path: Path) -> list[int]:
    before = files(path.parent)
    with Ledger.snapshot(path) as copied:
        found = [record.index for record in copied.records(RUN)]
    assert files(path.parent) == before
    return found


def test_a_closed_ledger(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with Ledger.open(path) as ledger:
        append(ledger, entry(0), entry(1))
    assert images(path) == [0, 1]
    assert sorted(files(tmp_path)) == ["a.sqlite"]


def test_one_that_is_written_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with Ledger.open(path) as ledger:
        append(ledger, entry(0))
        assert images(path) == [0]
        append(ledger, entry(1))
        assert images(path) == [0, 1]


def test_a_copy_whose_last_verdicts_are_in_its_log(tmp_path: Path) -> None:
    path, there = tmp_path / "a.sqlite", tmp_path / "there"
    there.mkdir()
    with Ledger.open(path) as ledger:
        append(ledger, entry(0), entry(1))
        shutil.copy(path, there)
        shutil.copy(tmp_path / "a.sqlite-wal", there)
    assert images(there / "a.sqlite") == [0, 1]
    assert sorted(files(there)) == ["a.sqlite", "a.sqlite-wal"]


def test_one_of_an_older_version_stays_one(tmp_path: Path) -> None:
    path = write_version_1(tmp_path / "old.sqlite")
    before = files(tmp_path)
    with Ledger.snapshot(path) as copied:
        (found,) = summaries(copied)
    assert found.tally.images == 4
    assert files(tmp_path) == before


def test_changes_of_the_copy_stay_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with Ledger.open(path) as ledger:
        append(ledger, entry(0))
    with Ledger.snapshot(path) as copied:
        append(copied, entry(1))
    assert images(path) == [0]


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no data base, but long enough" * 100)
    for name, got in (("gone", "none"), ("text", "file is not a database")):
        with pytest.raises(LedgerError, match=got):
            Ledger.snapshot(tmp_path / name)
