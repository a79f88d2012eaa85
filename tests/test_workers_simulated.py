"""`benchmarks/workers_simulated.py`: predictions by hand, and ledgers that it refuses."""

import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import workers_simulated as script

from tests.cli.typed import command, write_network
from tests.documents import ROOT

COSTS = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def test_predictions_by_hand() -> None:
    """Two workers end after 21 s, two shards after 20 s, as in test_simulated_workers.py."""
    one, jobs = script.Way("one process", 1, 40.0), script.Way("--jobs 2", 2, 30.0)
    shards = script.Way("2 shards, merged", 2, 30.0)
    assert script.predicted(COSTS, one, 4.0) == 40.0
    assert script.predicted(COSTS, jobs, 4.0) == 4 + 4 + 21
    assert script.predicted(COSTS, shards, 4.0) == 4 + 20 + 4
    frame = script.compared(COSTS, [one, jobs], 4.0)
    assert frame["ratio"].tolist() == pytest.approx([1.0, 29 / 30])


def test_costs_are_those_of_the_machine_that_was_measured() -> None:
    """Twice as slow: 4 + 72 s by one process, 4 + 4 + 42 s by two."""
    ways = [script.Way("one process", 1, 76.0), script.Way("--jobs 2", 2, 50.0)]
    assert script.compared(COSTS, ways, 4.0)["predicted"].tolist() == pytest.approx([76.0, 50.0])


def test_measured_ways_are_read() -> None:
    typed, read = script.measured_ways(["1=30.5", "2=20", f"{ROOT}/results/workers-cifar10.csv"])
    assert typed == [script.Way("one process", 1, 30.5), script.Way("--jobs 2", 2, 20.0)]
    assert [(way.name, way.workers) for way in read] == [
        ("one process, one thread", 1),
        ("--jobs 2", 2),
        ("2 shards, merged", 2),
    ]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 24 images."""
    folder = tmp_path_factory.mktemp("simulated")
    pixels = np.zeros((24, 1, 1, 2), np.float32)
    pixels[:, 0, 0, 0] = 1.0
    np.save(folder / "images.npy", pixels)
    np.save(folder / "labels.npy", np.zeros(24, np.int64))
    network = write_network(folder / "two.onnx", np.eye(2))
    own = ("--images", folder / "images.npy", "--labels", folder / "labels.npy")
    code, _, err = command("certify", network, *own, "--epsilon", 0.1, "--stages", "clean,ibp")
    assert code == 0, err
    return folder / "ledger.sqlite"


def test_a_small_ledger(
    ledger: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "simulated"
    typed = ["--ledger", str(ledger), "--images", "1000", "--measured", "2=3", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["workers_simulated.py", *typed])
    script.main()
    frame = script.pd.read_csv(out.with_suffix(".csv"))
    assert frame["workers"].tolist() == [1, 2, 4, 8, 16, 64]
    assert (frame["hours_low"] <= frame["hours_high"]).all()
    assert frame["hours_low"].is_monotonic_decreasing
    text = out.with_suffix(".md").read_text(encoding="utf-8")
    assert "24 images in the ledger" in text
    assert "| --jobs 2 |" in text
    assert capsys.readouterr().out.strip() == text.strip()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DELETE FROM verdicts WHERE image = 3", "expected a finished run"),
        ("DELETE FROM verdicts; UPDATE runs SET asked = '0:9'", "expected a finished run"),
        ("UPDATE verdicts SET bound = -1", "expected a finite bound"),
        ("DELETE FROM verdicts WHERE image > 9; UPDATE runs SET asked = '0:10'", "at least 20"),
    ],
)
def test_ledgers_that_say_nothing_are_refused(
    ledger: Path,
    tmp_path: Path,
    change: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "ledger.sqlite"
    copy.write_bytes(ledger.read_bytes())
    with sqlite3.connect(copy) as book:
        book.executescript(change)
    book.close()
    typed = ["--ledger", str(copy), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["workers_simulated.py", *typed])
    with pytest.raises(SystemExit, match=r"^2$"):
        script.main()
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("--measured", "gone.csv"), "--measured; expected N=SECONDS or the CSV file"),
        (("--measured", "2=soon"), "--measured; expected N=SECONDS or the CSV file"),
        (("--measured", "two=3"), "--measured; expected N=SECONDS or the CSV file"),
        (("--images", "0"), "--images; expected at least 1; got 0"),
        (("--start", "nan"), "--start; expected seconds from 0; got nan"),
    ],
)
def test_mistakes_are_told(
    ledger: Path,
    tmp_path: Path,
    typed: tuple[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = [*typed, "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["workers_simulated.py", "--ledger", str(ledger), *out])
    with pytest.raises(SystemExit, match=r"^2$"):
        script.main()
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))
