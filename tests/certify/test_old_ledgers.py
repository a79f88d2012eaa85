"""A ledger that version 0.1.0 wrote, as SQL: it opens, keeps its verdicts, and can be continued."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certify.old_ledger import write_version_1
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Entry
from verify_pipeline.certify.tally import summaries, together
from verify_pipeline.errors import LedgerError
from verify_pipeline.problem import Reason, Status, Verdict

OPEN = Verdict(Status.UNKNOWN, "ibp", 0.1, reason=Reason.NOT_DECIDED)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Four images of two pixels: two verified, one attacked, one classified wrongly."""
    return write_version_1(tmp_path / "old.sqlite")


def test_it_opens_and_is_of_unknown_extent(old: Path) -> None:
    with Ledger.existing(old) as ledger:
        (found,) = summaries(ledger)
        (attacked,) = [r for r in found.records if r.stage == "attack"]
        assert ledger.counterexample(found.info.run, attacked).margin == attacked.margin
    assert (found.tally.images, found.tally.proved, found.tally.wrong) == (4, 2, 1)
    assert found.asked is None
    assert found.requested is None
    assert (found.info.outputs, found.info.input_shape) == (None, None)


def test_it_is_brought_up_to_date_once(old: Path) -> None:
    for _ in range(2):
        Ledger.open(old).close()
    with sqlite3.connect(old) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (3,)
        columns = [row[1] for row in raw.execute("PRAGMA table_info(runs)")]
    raw.close()
    assert columns[-4:] == ["outputs", "input_shape", "asked", "notes"]


@pytest.mark.parametrize(
    ("asked", "known"), [(range(2), None), (range(4), 4), (range(6), 6), (range(1, 9), None)]
)
def test_its_extent_is_known_once_all_its_verdicts_were_asked_for_again(
    old: Path, asked: range, known: int | None
) -> None:
    with Ledger.existing(old) as ledger:
        (info,) = ledger.runs()
        ledger.register(info, Extent.of(asked))
        (found,) = summaries(ledger)
    assert found.requested == known
    assert found.missing == (0 if known is None else known - 4)


def test_it_goes_together_with_a_new_one(old: Path, tmp_path: Path) -> None:
    with Ledger.existing(old) as ledger:
        (before,) = summaries(ledger)
    for asked, known in ((range(4), 4), (range(2, 9), None)):
        with Ledger.open(tmp_path / f"{known}.sqlite") as ledger:
            ledger.register(before.info, Extent.of(asked))
            entry = Entry(3, before.records[3].instance, 0, OPEN)
            ledger.append(before.info.run, [entry], 1.0, "")
            (now,) = summaries(ledger)
        for both in (together(before, now, "b"), together(now, before, "b")):
            assert both.requested == known
            assert both.records == before.records


def test_ledgers_of_a_newer_version_are_refused(old: Path) -> None:
    with sqlite3.connect(old) as raw:
        raw.execute("PRAGMA user_version = 4")
    raw.close()
    with pytest.raises(LedgerError, match="up to 3; got 4"):
        Ledger.existing(old)


@pytest.mark.parametrize("write", [Ledger.open, Ledger.existing])
def test_a_full_disk_is_told_and_nothing_is_half_written(
    old: Path, write: Callable[[Path], Ledger]
) -> None:
    with write(old) as ledger:
        (info,) = ledger.runs()
        ledger.register(info, Extent.of(range(4000)))
        pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        entries = [Entry(n, "d" * 32, 0, OPEN) for n in range(4, 4000)]
        with pytest.raises(LedgerError, match=r"full\. Free some space"):
            ledger.append(info.run, entries, 1.0, "")
        assert len(ledger.records(info.run)) == 4
