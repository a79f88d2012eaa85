"""`status` from another process: of jobs that run, ended, were killed, or never started."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.bad_input import RECIPE
from tests.cli.typed import command
from tests.documents import ROOT
from verify_pipeline import pipeline, reports
from verify_pipeline.run_folders import LEDGER
from verify_pipeline.training import Silent

pytest.importorskip("sklearn")

PATIENCE = 120.0
"""Seconds for another process to come so far; it imports torch first."""

SLOW_CERTIFICATION = """
import sys, time
from pathlib import Path
from verify_pipeline import api

class Waits(api.CertifyObserver):
    def decided(self, index, verdict):
        self.count = getattr(self, "count", 0) + 1
        if self.count == 2:
            time.sleep(600)

images = api.load_images("digits", "test")
settings = api.CertifySettings(epsilon=0.03125, indices=":20", stages=["clean", "ibp"])
ledger, jobs = Path(sys.argv[2]), int(sys.argv[3])
api.certify(sys.argv[1], images, settings, ledger=ledger, observer=Waits(), jobs=jobs)
"""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two images, with its recipe beside it."""
    folder = tmp_path_factory.mktemp("status")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    code, _, err = command("run", recipe, "--out", folder / "run")
    assert code == 0, err
    return folder / "run"


@pytest.fixture
def process() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts Python in other processes, which end with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        words = [sys.executable, *map(str, arguments)]
        one = subprocess.Popen(
            words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()
        one.wait()


def rows(place: Path) -> dict[str, dict[str, str]]:
    """What `status` shows, by job and first word."""
    code, out, err = command("status", place)
    assert code == 0, err
    found: dict[str, dict[str, str]] = {}
    of_job: dict[str, str] = {}
    for line in out.splitlines():
        if line.startswith("  "):
            of_job[line[2:14].strip()] = line[14:]
        else:
            of_job = found.setdefault(line, {})
    return found


def fields(place: Path) -> dict[str, Any]:
    code, out, err = command("status", place, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def until(place: Path, job: str, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The status of a job, once it has come so far."""
    ends, now = time.monotonic() + PATIENCE, None
    while time.monotonic() < ends:
        if not place.exists():  # the job has written nothing yet
            time.sleep(0.2)
            continue
        found = fields(place)
        now = found["training"] if job == "training" else found["certifications"][0]
        if now is not None and reached(now):
            return dict(now)
        time.sleep(0.2)
    raise AssertionError(f"still {now}")


def test_a_finished_run(done: Path) -> None:
    shown = rows(done)
    assert shown["training"]["state"] == "finished"
    assert shown["training"]["done"] == "2 of 2 epochs"
    assert shown["training"]["last line"].startswith("epoch 2/2  clean ")
    assert shown["certification"].pop("state").startswith("finished, ")
    assert shown["certification"]["network"] == "tiny"
    assert shown["certification"]["question"] == "digits test, ε = 0.03125"
    assert shown["certification"]["done"] == "2 of 2 images"
    assert shown["certification"]["open"] == "0"
    assert shown["certification"]["last line"].startswith("image ")
    (summary,) = reports.read_ledgers([done / LEDGER])
    assert shown["certification"]["verified"] == str(summary.tally.proved)
    assert shown["certification"]["wrong"] == str(summary.tally.wrong)
    alone = rows(done / LEDGER)["certification"]
    assert alone.pop("state").startswith("finished, ")
    assert alone == shown["certification"]
    assert not list(done.glob("*job.json"))


def test_the_counts_are_those_of_the_table(done: Path) -> None:
    (found,) = fields(done)["certifications"]
    (summary,) = reports.read_ledgers([done / LEDGER])
    assert (found["requested"], found["done"], found["open"]) == (2, 2, 0)
    names = ("verified", "falsified", "wrong", "undecided", "claimed", "tied")
    assert sum(found[name] for name in names) == summary.tally.images


def test_a_ledger_alone_says_whether_it_is_finished(done: Path, tmp_path: Path) -> None:
    """As after a copy to another machine."""
    path = tmp_path / "copy.sqlite"
    shutil.copy(done / LEDGER, path)
    assert rows(path)["certification"]["state"].startswith("finished, ")
    with sqlite3.connect(path) as book:
        book.execute("DELETE FROM verdicts WHERE image = 1")
    book.close()
    shown = rows(path)["certification"]
    assert shown["state"] == "stopped; the command that began it continues it"
    assert (shown["done"], shown["open"]) == ("1 of 2 images", "1")


def test_a_job_that_never_started(tmp_path: Path) -> None:
    never = {"state": "never started"}
    assert rows(tmp_path)["training"] == never
    assert rows(tmp_path)["certification"] == never | {"ledger": str(tmp_path / LEDGER)}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("made", [False, True])
def test_where_no_job_can_be_is_an_error(tmp_path: Path, made: bool) -> None:
    place = tmp_path / "typo"
    if made:
        place.mkdir()
        (place / "letter.txt").write_text("dear")
    code, out, err = command("status", place)
    assert (code, out) == (2, "")
    assert "expected a ledger, or the folder of a run" in err
    assert ("neither a checkpoint nor a ledger" if made else "nothing there") in err


def test_ledgers_of_other_names_are_found_in_a_folder(done: Path, tmp_path: Path) -> None:
    shutil.copy(done / LEDGER, tmp_path / "first.sqlite")
    shutil.copy(done / LEDGER, tmp_path / "second.sqlite")
    with sqlite3.connect(tmp_path / "foreign.sqlite") as book:
        book.execute("CREATE TABLE a (b)")
    book.close()
    code, out, err = command("status", tmp_path)
    assert code == 0, err
    assert out.count("finished") == 2


def test_a_foreign_file_is_refused(done: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "foreign.sqlite") as book:
        book.execute("CREATE TABLE a (b)")
    book.close()
    for path, got in (
        (done / "tiny.onnx", "another kind of file"),
        (done / "table.csv", "another kind of file"),
        (tmp_path / "foreign.sqlite", "another SQLite file"),
    ):
        code, out, err = command("status", path)
        assert (code, out) == (2, "")
        assert f"got {got}" in err


def test_a_training_that_runs_and_is_killed(
    done: Path, tmp_path: Path, process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    out = tmp_path / "run"
    epochs = ("--set", "train.optimiser.epochs=100000")
    recipe = done.parent / "tiny.yaml"
    job = process("-m", "verify_pipeline", "train", recipe, "--out", out, *epochs, "--quiet")
    now = until(out, "training", lambda each: each["done"] >= 2 and each["state"] == "running")
    assert now["process"] == job.pid
    assert now["epochs"] == 100000
    assert now["phase"].endswith("/100000")
    shown = rows(out)
    assert shown["training"]["state"].startswith(f"running (process {job.pid} on ")
    assert shown["training"]["time left"]
    assert shown["certification"]["state"] == "never started"
    job.send_signal(signal.SIGKILL)
    job.wait()
    after = rows(out)["training"]
    assert after["state"].startswith(f"killed (process {job.pid} on ")
    assert f"continue with: verify-pipeline train {recipe} --out {out}" in after["state"]
    assert "rate" not in after


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_certification_that_runs_and_is_killed(
    done: Path, tmp_path: Path, process: Callable[..., subprocess.Popen[bytes]], jobs: int
) -> None:
    script, ledger = tmp_path / "slow.py", tmp_path / "ledger.sqlite"
    script.write_text(SLOW_CERTIFICATION, encoding="utf-8")
    job = process(script, done / "tiny.onnx", ledger, jobs)
    now = until(ledger, "certification", lambda each: each.get("phase_done", 0) >= 2)
    assert now["phase"] == ("clean" if jobs == 1 else "all stages")
    stages = now["stages"]
    assert stages[0]["stage"] == "clean"
    assert all(2 <= each["images"] <= 20 and each["done"] <= each["images"] for each in stages)
    names = ("verified", "falsified", "wrong", "undecided")
    assert sum(each[name] for each in stages for name in names) == 2
    assert now["state"] == "running"
    assert (now["requested"], now["done"], now["open"]) == (20, 2, 18)
    assert sum(now[name] for name in names) == 2
    shown = rows(ledger)["certification"]
    assert shown["state"].startswith(f"running (process {job.pid} on ")
    assert shown["phase"].startswith(f"{now['phase']}: 2 of ")
    assert {"rate", "time left"} <= shown.keys()
    assert shown["stages"].startswith(f"clean {stages[0]['done']}/{stages[0]['images']}")
    job.send_signal(signal.SIGKILL)
    job.wait()
    after = fields(tmp_path)["certifications"][0]
    assert (after["state"], after["done"], after["open"]) == ("killed", 2, 18)
    same = ("--stages", "clean,ibp", "--indices", 20)
    code, _, err = command("certify", done / "tiny.onnx", "--ledger", ledger, *same)
    assert code == 0
    assert "2 of 20 images are decided already" in err
    assert rows(ledger)["certification"]["state"].startswith("finished, ")
    assert not list(tmp_path.glob("*job.json"))


class Interrupting(Silent):
    """Ctrl-C, or an error, after the first epoch."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def epoch_done(self, metrics: dict[str, Any]) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "told"),
    [(KeyboardInterrupt(), "stopped ("), (OSError("the disk is full"), "failed (")],
)
def test_a_training_that_ended_before_its_end(
    done: Path, tmp_path: Path, error: BaseException, told: str
) -> None:
    recipe = pipeline.load_recipe(done.parent / "tiny.yaml")
    with pytest.raises(type(error)):
        pipeline.train(recipe, tmp_path, device="cpu", observer=Interrupting(error))
    state = rows(tmp_path)["training"]["state"]
    assert state.startswith(told)
    assert "continue with: " in state
    assert str(error) in state
