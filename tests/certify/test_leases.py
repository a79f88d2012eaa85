"""Leases of images: each is given to one process, and those of an ended process lapse."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.certify.test_ledger import DIGEST, INFO, RUN, entry
from verify_pipeline import job_process
from verify_pipeline.certify import leases as leases_module
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.leases import LeaseKey, Leases
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.merging import merge_ledgers
from verify_pipeline.certify.tally import summaries
from verify_pipeline.job_process import SILENCE, JobProcess

OWN = JobProcess.own()
GONE = replace(OWN, number=2**22 + 1)  # no process has this number
ELSEWHERE = JobProcess(1, "another-host", "12345")
KEYS = [LeaseKey(1, image, DIGEST) for image in range(8)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with a run."""
    with Ledger.open(tmp_path / "a.sqlite") as ledger:
        ledger.register(INFO, Extent.of(range(8)))
    return tmp_path / "a.sqlite"


@pytest.fixture
def ledgers(path: Path) -> Iterator[list[Ledger]]:
    """Three connections to it."""
    opened = [Ledger.existing(path) for _ in range(3)]
    yield opened
    for each in opened:
        each.close()


def of(ledger: Ledger, process: JobProcess = OWN) -> Leases:
    return Leases(ledger._connection, ledger.path, process)


def images(keys: object) -> list[int]:
    assert isinstance(keys, (list, tuple))
    return [key.image for key in keys]


def test_the_first_gets_all_and_later_ones_half_of_what_is_not_begun(
    ledgers: list[Ledger],
) -> None:
    with of(ledgers[0]) as first, of(ledgers[1]) as second, of(ledgers[2]) as third:
        assert images(first.take(KEYS).keys) == list(range(8))
        assert second.take(KEYS).keys == ()  # before the first task, all are begun
        assert images(first.begin(KEYS[:3])) == [0, 1, 2]
        assert images(second.take(KEYS).keys) == [5, 6, 7]
        assert {key.image for key in second.held()} == {5, 6, 7}
        assert {key.image for key in first.held()} == {0, 1, 2, 3, 4}
        assert images(third.take(KEYS).keys) == [4]
        assert images(first.begin(KEYS)) == [0, 1, 2, 3]
        assert first.others
        assert third.take(KEYS[:4]).keys == ()
        assert third.owners_of(KEYS[:4]) == (f"process {OWN.number}",)
        first.give_back(KEYS[0])
        assert images(third.take(KEYS[:1]).keys) == [0]


def test_what_an_ended_certification_had_is_free(ledgers: list[Ledger]) -> None:
    with of(ledgers[0]) as first, of(ledgers[1]) as second:
        first.take(KEYS)
        with pytest.raises(KeyError), of(ledgers[2]):
            raise KeyError
        assert second.take(KEYS).keys == ()
    with of(ledgers[1]) as second:
        taken = second.take(KEYS)
        assert (images(taken.keys), taken.lapsed, taken.ended) == (list(range(8)), 0, ())
        assert not second.others


def test_leases_of_a_process_that_is_gone_lapse(ledgers: list[Ledger]) -> None:
    killed = of(ledgers[0], GONE).__enter__()
    killed.take(KEYS)
    with of(ledgers[1]) as second:
        assert second.others
        taken = second.take(KEYS[2:])
        assert images(taken.keys) == list(range(2, 8))
        assert (taken.lapsed, taken.ended) == (6, (f"process {GONE.number}",))
        assert not second.others
        assert killed.begin(KEYS) == []  # if it were there after all
    killed._heart.stop()


def test_of_another_host_only_signs_are_seen_by_a_clock_that_never_goes_back(
    ledgers: list[Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(time, "time", lambda: -now)  # goes back
    with of(ledgers[0], ELSEWHERE) as first, of(ledgers[1]) as second:
        first.take(KEYS)
        for _ in range(3):
            assert second.take(KEYS).keys == ()
            now += SILENCE - 1
            first._heart._beat()
        assert second.take(KEYS).keys == ()
        assert second.owners_of(KEYS) == ("process 1 on another-host",)
        now += SILENCE
        taken = second.take(KEYS)
        assert (len(taken.keys), taken.ended) == (8, ("process 1 on another-host",))


def test_leases_are_no_verdicts(ledgers: list[Ledger], path: Path, tmp_path: Path) -> None:
    """Tables, merged ledgers and copies are as without them; the version stays the same."""
    with of(ledgers[0]) as first:
        first.take(KEYS)
        ledgers[1].append(RUN, [entry(0)], 10.0, "torch 0")
        (found,) = summaries(ledgers[1])
        assert (found.tally.images, found.missing) == (1, 7)
        with Ledger.snapshot(path) as copy:
            assert copy.records(RUN) == ledgers[0].records(RUN)
            with copy.leases() as alone:
                assert len(alone.take(KEYS).keys) == 8
                assert not alone.others
        other = tmp_path / "b.sqlite"
        with Ledger.open(other) as ledger:
            ledger.register(INFO, Extent.of([9]))
            ledger.append(RUN, [entry(9)], 10.0, "torch 0")
        with sqlite3.connect(path) as raw:
            assert raw.execute("PRAGMA user_version").fetchone() == (3,)
        raw.close()
    merged = merge_ledgers([path, other], tmp_path / "c.sqlite")
    assert merged.verdicts == 2
    with sqlite3.connect(merged.path) as raw:
        tables = {name for (name,) in raw.execute("SELECT name FROM sqlite_master")}
    raw.close()
    assert {"leases", "owners"} & tables == set()


def test_a_sign_of_life_that_cannot_be_given_is_no_error(
    ledgers: list[Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "HEARTBEAT", 0.001)
    beats = iter([sqlite3.OperationalError("disk I/O error"), None])
    over = threading.Event()

    def beat(heart: object) -> None:
        error = next(beats, None)
        if error is not None:
            raise error
        over.set()

    monkeypatch.setattr(leases_module._Heart, "_beat", beat)
    with of(ledgers[0]) as first:
        assert over.wait(10)
        assert len(first.take(KEYS).keys) == 8


def test_processes_are_named_with_their_host_unless_it_is_this_one() -> None:
    assert replace(OWN, number=7).label == "process 7"
    assert ELSEWHERE.label == "process 1 on another-host"
    assert job_process.SILENCE > leases_module.HEARTBEAT * 3
