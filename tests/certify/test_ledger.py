"""The ledger: nothing is lost, nothing is decided twice, nothing foreign is taken for a ledger."""

import os
import signal
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import (
    Attempt,
    Entry,
    PackedCounterexample,
    Run,
    RunInfo,
    instance_digest,
    pack,
    settings_digest,
    unpack,
)
from verify_pipeline.errors import LedgerError
from verify_pipeline.problem import Counterexample, Reason, StageResult, Status, Verdict

SETTINGS = '{"stages": ["clean", "ibp", "attack", "crown"]}'
RUN = Run("a" * 64, "digits", "test", "linf 0.1", "margins", settings_digest(SETTINGS))
INFO = RunInfo(RUN, "tiny", 0.1, SETTINGS, outputs=3, input_shape=(1, 4, 4))
DIGEST = "d" * 32

VERIFIED = Verdict(Status.VERIFIED, "ibp", 0.5, bound=0.25)
TIMEOUT = Verdict(Status.UNKNOWN, "crown", 2.0, bound=-1.0, reason=Reason.TIMEOUT)
OPEN = Verdict(Status.UNKNOWN, "crown", 2.0, reason=Reason.NOT_DECIDED)


def falsified() -> Verdict:
    point = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))
    output = torch.tensor([0.1, 0.3, -1e-30])
    return Verdict(
        Status.FALSIFIED, "attack", 0.1, counterexample=Counterexample(point, output, -0.2)
    )


def entry(index: int, verdict: Verdict = VERIFIED, digest: str = DIGEST) -> Entry:
    return Entry(index, digest, 0, verdict)


def append(ledger: Ledger, *entries: Entry, timeout: float = 10.0) -> int:
    ledger.register(INFO, Extent.of(entry.index for entry in entries))
    return ledger.append(RUN, entries, timeout, "torch 0")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "a.ledger") as opened:
        yield opened


def test_what_is_written_is_read_back(ledger: Ledger) -> None:
    verdict = falsified()
    assert append(ledger, entry(4, verdict), entry(2), entry(3, TIMEOUT)) == 3
    two, three, four = ledger.records(RUN)
    assert (two.index, two.status, two.bound, two.label) == (2, Status.VERIFIED, 0.25, 0)
    assert (three.reason, three.timeout, three.bound) == (Reason.TIMEOUT, 10.0, -1.0)
    assert (four.stage, four.margin, four.versions) == ("attack", -0.2, "torch 0")
    again = ledger.counterexample(RUN, four)
    assert verdict.counterexample is not None
    assert torch.equal(again.input, verdict.counterexample.input)
    assert torch.equal(again.output, verdict.counterexample.output)
    assert ledger.runs() == [INFO]
    assert ledger.tried(RUN) == {
        (2, DIGEST): Attempt(True, False, 10.0, 1),
        (3, DIGEST): Attempt(False, True, 10.0, 1),
        (4, DIGEST): Attempt(True, False, 10.0, 1),
    }
    assert ledger.tried(replace(RUN, split="train")) == {}


def test_outputs_are_kept_in_the_precision_that_they_have() -> None:
    """Float32 as bare bytes, which every ledger has had; float64 with a mark before it."""
    point = torch.tensor([[0.5, 0.25]])
    for output, length in ((torch.tensor([0.1, 0.3]), 8), (torch.tensor([0.1, 0.3]).double(), 17)):
        packed = pack(Counterexample(point, output, -0.2))
        assert len(packed.output) == length
        again = unpack(packed)
        assert again.output.dtype == output.dtype
        assert torch.equal(again.output, output)
        assert torch.equal(again.input, point)
    bare = PackedCounterexample(packed.input, "1,2", struct.pack("<2f", 1.5, -2), -0.2)
    assert unpack(bare).output.tolist() == [1.5, -2]
    for broken in (packed.output[:-2], packed.output[:-4], b"e" + packed.output[1:]):
        with pytest.raises(LedgerError, match="damage"):
            unpack(replace(bare, output=broken))


def test_a_decided_row_stays_as_it_is(ledger: Ledger) -> None:
    append(ledger, entry(1))
    later = Verdict(Status.VERIFIED, "crown", 9.0, bound=0.5)
    assert append(ledger, entry(1, later), entry(1, OPEN)) == 0
    (record,) = ledger.records(RUN)
    assert (record.stage, record.attempts) == ("ibp", 1)


def test_an_opposite_verdict_is_an_error_and_changes_nothing(ledger: Ledger) -> None:
    append(ledger, entry(1))
    with pytest.raises(LedgerError, match=r"image 1.*verified.*falsified"):
        append(ledger, entry(5), entry(1, falsified()))
    assert [record.index for record in ledger.records(RUN)] == [1]


def test_an_unknown_row_gives_way_and_its_seconds_add_up(ledger: Ledger) -> None:
    append(ledger, entry(1, TIMEOUT))
    assert append(ledger, entry(1, VERIFIED), timeout=20.0) == 1
    (record,) = ledger.records(RUN)
    assert (record.status, record.seconds, record.attempts) == (Status.VERIFIED, 2.5, 2)
    assert (record.reason, record.timeout) == (None, 20.0)


def test_open_indices(ledger: Ledger) -> None:
    append(ledger, entry(0), entry(1, TIMEOUT), entry(2, OPEN), entry(3, falsified()))
    wanted = dict.fromkeys(range(5), DIGEST)
    assert ledger.open_indices(RUN, wanted, timeout=10.0) == [4]
    assert ledger.open_indices(RUN, wanted, timeout=10.5) == [1, 4]
    assert ledger.open_indices(RUN, wanted, timeout=5.0, retry=True) == [1, 2, 4]
    # More time may help an image that was given up, and nothing else.
    hopeless = Verdict(Status.UNKNOWN, "crown", 2.0, reason=Reason.GIVEN_UP)
    append(ledger, entry(4, hopeless))
    assert ledger.open_indices(RUN, wanted, timeout=10.0) == []
    assert ledger.open_indices(RUN, wanted, timeout=10.5) == [1, 4]
    # An image of the same name and index but other pixels is another instance.
    assert ledger.open_indices(RUN, {0: "other"}, timeout=10.0) == [0]


def test_other_settings_are_another_run(ledger: Ledger) -> None:
    append(ledger, entry(0))
    other = replace(RUN, settings="t" * 16)
    assert ledger.records(other) == []
    assert ledger.open_indices(other, {0: DIGEST}, 10.0) == [0]


def test_a_ledger_is_in_wal_mode_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.ledger"
    with Ledger.open(path) as ledger:
        append(ledger, entry(0))
    assert [file.name for file in path.parent.iterdir()] == ["a.ledger"]
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_ledger_in_memory_is_one_too() -> None:
    with Ledger.in_memory() as ledger:
        append(ledger, entry(0))
        assert len(ledger.records(RUN)) == 1


def write_foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()


def write_newer(path: Path) -> None:
    Ledger.open(path).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def write_truncated(path: Path) -> None:
    with Ledger.open(path) as ledger:
        append(ledger, *(entry(n, falsified()) for n in range(200)))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_overwritten(path: Path) -> None:
    with Ledger.open(path) as ledger:
        append(ledger, *(entry(n, falsified()) for n in range(200)))
    content = bytearray(path.read_bytes())
    content[4096:12288] = b"\xff" * 8192
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (
            lambda path: path.write_bytes(b"not a data base at all, but long enough" * 40),
            "undamaged",
        ),
        (
            lambda path: path.write_bytes(b""),
            "an empty file. Name another file, or delete this one",
        ),
        (write_foreign, "another SQLite file"),
        (write_newer, "schema version"),
        (write_truncated, "undamaged"),
        (write_overwritten, "undamaged"),
    ],
)
def test_a_foreign_or_damaged_file_is_refused(
    tmp_path: Path, write: Callable[[Path], object], said: str
) -> None:
    path = tmp_path / "a.ledger"
    write(path)
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=said) as caught:
        Ledger.open(path)
    assert "a.ledger" in str(caught.value)
    assert path.read_bytes() == before


def test_a_missing_or_impossible_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="got none"):
        Ledger.existing(tmp_path / "none.ledger")
    with pytest.raises(LedgerError, match="a folder"):
        Ledger.open(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError):
        Ledger.open(tmp_path / "file" / "a.ledger")


def test_a_damaged_counterexample_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    append(ledger, entry(0, falsified()))
    (record,) = ledger.records(RUN)
    connection = sqlite3.connect(tmp_path / "a.ledger")
    connection.execute("UPDATE verdicts SET input = x'00'")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match=r"run 1, image 0; .*damage"):
        ledger.records(RUN)
    with pytest.raises(LedgerError, match="damage"):
        ledger.counterexample(RUN, record)
    append(ledger, entry(1))
    with pytest.raises(LedgerError, match="none in the ledger"):
        ledger.counterexample(RUN, replace(record, index=1))


def test_digests_tell_instances_apart() -> None:
    image = torch.rand(1, 2, 2)
    assert instance_digest(image, torch.tensor(1)) == instance_digest(image, torch.tensor(1))
    assert instance_digest(image, torch.tensor(1)) != instance_digest(image, torch.tensor(2))
    assert instance_digest(image) != instance_digest(image.reshape(1, 4))


WRITER = """
import sys, pathlib
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Entry, Run, RunInfo, settings_digest
from verify_pipeline.problem import Status, Verdict

path, who, count = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
settings = '{"stages": ["clean", "ibp", "attack", "crown"]}'
run = Run("a" * 64, "digits", "test", "linf 0.1", "margins", settings_digest(settings))
ledger = Ledger.open(path)
ledger.register(RunInfo(run, "tiny", 0.1, settings, 3, (1, 4, 4)), Extent.of(range(count)))
for index in range(count):
    verdict = Verdict(Status.VERIFIED, "ibp", 1.0, bound=1.0, detail=who)
    written = ledger.append(run, [Entry(index, "d" * 32, 0, verdict)], 10.0, "none")
    print(index, written, flush=True)
"""


def writer(path: Path, who: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), who, str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_processes_write_one_is_killed_and_each_image_is_decided_once(tmp_path: Path) -> None:
    path, count = tmp_path / "a.ledger", 400
    with writer(path, "survivor", count) as survivor, writer(path, "victim", count) as victim:
        assert victim.stdout is not None
        reported = [victim.stdout.readline() for _ in range(50)]
        victim.send_signal(signal.SIGKILL)
        reported += victim.stdout.read().splitlines()
        output, _ = survivor.communicate()
    assert survivor.returncode == 0
    written = {
        who: {int(line.split()[0]) for line in lines if line.rstrip().endswith(" 1")}
        for who, lines in (("survivor", output.splitlines()), ("victim", reported))
    }
    with Ledger.existing(path) as ledger:
        records = ledger.records(RUN)
        assert [record.index for record in records] == list(range(count))
        for record in records:
            # The victim may have written a row that it could not report any more.
            assert record.detail == (
                "survivor" if record.index in written["survivor"] else "victim"
            )
        assert written["victim"] <= {r.index for r in records if r.detail == "victim"}
        assert append(ledger, entry(count)) == 1


def test_what_the_stages_did_and_what_the_file_notes_is_kept(tmp_path: Path) -> None:
    stages = (StageResult("ibp", 0.25, -1.5), StageResult("crown", 0.5, None))
    verdict = Verdict(Status.UNKNOWN, "crown", 0.75, reason=Reason.NOT_DECIDED, stages=stages)
    info = replace(INFO, notes={"loss": "cc-ibp", "seed": "3"})
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        ledger.register(info, Extent.of(range(1)))
        ledger.append(RUN, [Entry(0, DIGEST, 1, verdict)], 1.0, "")
        (record,) = ledger.records(RUN)
        (read,) = ledger.runs()
    assert record.stages == stages
    assert read.notes == {"loss": "cc-ibp", "seed": "3"}


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("stages", '[["ibp", -1, null]]'),
        ("stages", '[["sorcery", 1, null]]'),
        ("stages", '[["ibp", 1]]'),
        ("stages", "no JSON"),
        ("stages", "[[[], 1, null]]"),
        ("stages", '[["ibp", NaN, null]]'),
        ("stages", "[" * 100_000),
        ("notes", "[]"),
        ("notes", '{"seed": 3}'),
    ],
)
def test_what_no_stage_did_is_refused(tmp_path: Path, column: str, text: str) -> None:
    verdict = Verdict(Status.UNKNOWN, "ibp", 0.75, reason=Reason.NOT_DECIDED)
    with Ledger.open(tmp_path / "l.sqlite") as ledger:
        ledger.register(INFO, Extent.of(range(1)))
        ledger.append(RUN, [Entry(0, DIGEST, 1, verdict)], 1.0, "")
        table = "runs" if column == "notes" else "verdicts"
        ledger._connection.execute(f"UPDATE {table} SET {column} = ?", (text,))
        with pytest.raises(LedgerError, match="expected"):
            ledger.records(RUN)
