"""``sweep``, ``tune`` and ``front`` as they are typed; the runs are processes of their own."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.cli.bad_input import RECIPE
from tests.cli.test_watching import documented
from tests.cli.typed import command
from verify_pipeline.sweeps import tuner
from verify_pipeline.sweeps.processes import Ended, RunJob

GRID = ("--grid", "train.optimiser.learning_rate=1e-3,1e300")

HELD_OUT = ("--set", "train.data.validation=1437")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    pytest.importorskip("sklearn")
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_a_sweep_lists_what_failed_and_tabulates_the_rest(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, shown, told = command("sweep", recipe, *GRID, "--out", out, "--dry-run")
    assert code == 0, told
    assert shown.splitlines() == [
        "2 runs, 2 to do",
        "open    learning_rate=1e-3_seed=0",
        "open    learning_rate=1e300_seed=0",
    ]
    assert not out.exists()
    code, shown, told = command("sweep", recipe, *GRID, "--out", out, "--jobs", 2)
    assert code == 2
    assert "2 runs, none is done yet, 2 at once" in told
    assert "failed: learning_rate=1e300_seed=0: error: training of mlp" in told
    assert "the same command tries them again" in told
    assert "IBP" in shown
    assert f"wrote {out / 'runs.csv'}" in shown
    frame = pd.read_csv(out / "runs.csv")
    assert frame["state"].tolist() == ["done", "failed"]
    log = (out / "learning_rate=1e300_seed=0" / "log.txt").read_text()
    assert log.splitlines()[-1].startswith("error: training of mlp; expected finite numbers")
    code, shown, told = command("front", f"IBP={out}", "--out", tmp_path / "fronts")
    assert code == 0, told
    assert "IBP" in shown
    assert "Chosen on test" in " ".join(shown.split())
    assert len(pd.read_csv(tmp_path / "fronts-points.csv")) == 1


def events(text: str) -> list[dict[str, Any]]:
    """The objects of lines of JSON, which have neither NaN nor infinity."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_json_of_a_sweep_and_of_its_front(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, shown, told = command("sweep", recipe, *GRID, "--out", out, "--json")
    assert code == 2
    assert "planned" not in told
    assert "failed: learning_rate=1e300_seed=0" in told
    found = events(shown)
    names = [event["event"] for event in found]
    assert names == [
        "planned",
        *("run started", "run ended", "expected"),
        *("run started", "run ended"),
        *("result", "result"),
        "wrote",
    ]
    known = documented("Sweeps, tunings and fronts")
    told_of = {(each["event"], None): {*each} - {"event", "time"} for each in found}
    del told_of["result", None]
    assert told_of | {("note", None): {"text"}} == known
    assert (found[0]["what"], found[0]["total"], found[0]["done"]) == ("runs", 2, 0)
    assert found[2]["error"] is None
    assert "expected finite numbers" in found[5]["error"]
    done, failed = found[6:8]
    assert (done["state"], done["images"], done["data_set"]) == ("done", 2, "digits")
    assert (failed["state"], failed["verified"]) == ("failed", None)
    assert str(out / "runs.csv") in found[8]["files"]
    code, shown, _ = command("front", f"IBP={out}", "--json")
    assert code == 0
    method, *notes = events(shown)
    assert (method["event"], method["method"], method["hypervolume_std"]) == ("method", "IBP", None)
    assert [note["event"] for note in notes] == ["note", "note"]
    assert "2 images of digits" in notes[0]["text"]


def test_quiet_prints_the_result_alone(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, shown, told = command("sweep", recipe, "--out", out, "--quiet")
    assert (code, told) == (0, "")
    assert "IBP" in shown
    assert "wrote" not in shown
    written = tmp_path / "fronts"
    code, shown, told = command("front", f"IBP={out}", "--quiet", "--out", written)
    assert (code, told) == (0, "")
    assert "IBP" in shown
    assert "wrote" not in shown
    assert written.with_suffix(".md").exists()


@pytest.mark.parametrize("name", ["sweep", "tune"])
def test_a_plan_is_not_json(recipe: Path, tmp_path: Path, name: str) -> None:
    asked = (name, recipe, "--out", tmp_path / "out", "--json")
    code, _, told = command(*asked, "--dry-run")
    assert code == 2
    assert "--dry-run and --json; expected one of them; got both" in told
    code, _, told = command(*asked, "--quiet")
    assert code == 2
    assert "--quiet and --json; expected one of them; got both" in told


def test_a_stopped_sweep_is_continued_by_the_same_command(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    typed = ["sweep", str(recipe), "--out", str(out)]
    arguments = [sys.executable, "-m", "verify_pipeline", *typed]
    # a shell lets what it runs in the background ignore Ctrl-C, and the tests' own children, too
    hears = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, preexec_fn=hears
    ) as process:
        while not (out / "seed=0" / "log.txt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate()
    assert process.returncode == 130
    assert "stopped; continue with the same command" in told
    assert not (out / "seed=0" / "state.json").exists()
    code, _, told = command(*typed)
    assert code == 0, told
    assert pd.read_csv(out / "runs.csv")["state"].tolist() == ["done"]


def test_a_tuning_by_hand(recipe: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    space = tmp_path / "space.yaml"
    space.write_text("parameters: {train.optimiser.l1: {low: 1e-8, high: 1e-4, log: true}}")
    out = tmp_path / "out"
    typed = ("tune", recipe, "--space", space, "--out", out, "--trials", 1)
    held_out = ("--set", "train.data.validation=20")
    code, shown, told = command(*typed, "--dry-run")
    assert code == 0, told
    assert "train.optimiser.l1: 1e-08 to 0.0001, logarithmic" in shown
    assert "287 of its 1437 training images are held out" in shown
    assert not out.exists()
    code, shown, told = command(*typed, *held_out)
    assert code == 0, told
    assert f"front: 1 of 1 trials, {out / 'report.md'}" in shown
    assert "done     trial=0000" in told
    code, shown, told = command(*typed, *held_out, "--json")
    assert (code, told) == (0, "")
    planned, result, wrote = events(shown)
    assert (planned["what"], planned["total"], planned["done"]) == ("trials", 1, 1)
    assert (result["trial"], result["state"], result["test_images"]) == (0, "complete", 2)
    assert str(out / "report.md") in wrote["files"]
    code, _, told = command("recipes", out / "front" / "trial-0000.yaml")
    assert code == 0, told
    code, _, told = command(*typed, "--set", "train.data.validation=10")
    assert code == 2
    assert "the set that it was begun with, train.data.validation=20" in told


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("sweep", "digits-cc-ibp", "--grid", "train.loss.alpha"), "--grid; expected KEY=VALUE"),
        (("sweep", "digits-cc-ibp", "--grid", "train.loss.alpha=2,3"), "2 errors"),
        (("sweep", "digits-cc-ibp", "--seeds", "0"), "--seeds; expected at least 1; got 0"),
        (("sweep", "digits-cc-ibp", "--jobs", "0"), "--jobs; expected at least 1; got 0"),
        (("sweep", "no-such"), "recipe 'no-such'"),
        (("tune", "digits-cc-ibp", "--trials", "0"), "--trials; expected at least 1; got 0"),
        (("tune", "digits-cc-ibp", "--objectives", "speed"), "--objectives; expected some of"),
        (("tune", "digits-cc-ibp", "--estimate", "guess"), "--estimate; expected one of"),
        (("tune", "digits-cc-ibp", "--space", "no.yaml"), "no such file"),
        (("tune", "digits-cc-ibp", "--timeout", "-1"), "--timeout; expected finite seconds > 0"),
        (("tune", "digits-cc-ibp", "--jobs", "0"), "--jobs; expected at least 1; got 0"),
        (("tune", "digits-cc-ibp", "--device", "tpu"), "device"),
        (("sweep", "digits-cc-ibp", "--device", "tpu"), "device"),
        (("sweep", "digits-cc-ibp", *HELD_OUT), "fewer than the 1437 training images of digits"),
        (("tune", "digits-cc-ibp", *HELD_OUT), "fewer than the 1437 training images of digits"),
        (("sweep", "digits-cc-ibp", "--set", "certify.indices=361"), "at most 360 images"),
    ],
)
@pytest.mark.parametrize("also", [(), ("--dry-run",)])
def test_mistakes_are_told_and_nothing_is_written(
    tmp_path: Path, typed: tuple[str, ...], also: tuple[str, ...], message: str
) -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("optuna")
    code, _, told = command(*typed, *also, "--out", tmp_path / "out")
    assert code == 2
    assert message in told
    assert told.count("error: ") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["sweep", "tune"])
@pytest.mark.parametrize("also", [(), ("--dry-run",)])
def test_a_file_in_place_of_the_folder_is_told(
    recipe: Path, tmp_path: Path, name: str, also: tuple[str, ...]
) -> None:
    pytest.importorskip("optuna")
    code, _, told = command(name, recipe, *also, "--out", recipe)
    assert code == 2
    assert f"expected a folder that can be written; got {recipe} is a file" in told


def test_a_dry_run_needs_optuna_as_the_tuning_does(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, told = command("tune", recipe, "--dry-run", "--out", tmp_path / "out")
    assert code == 2
    assert "optuna is not installed" in told


def test_fronts_of_nothing_are_told(tmp_path: Path) -> None:
    code, _, told = command("front", tmp_path)
    assert code == 2
    assert "expected a sweep (sweep.json) or a tuning (tune.json)" in told
    for wrong in ("a,b", "0,100", "-1,0", "0", "0,0,0", "nan,0", ""):
        code, _, told = command("front", tmp_path, "--reference", wrong)
        assert code == 2
        assert f"--reference; expected two numbers from 0 to below 100, in %; got '{wrong}'" in told


def test_a_tuning_without_a_complete_trial_says_why(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")

    def nothing(
        next_job: Callable[[], RunJob | None], jobs: int, started: object
    ) -> Iterator[Ended]:
        while (job := next_job()) is not None:
            yield Ended(job, "killed by signal 9", 1.0)

    monkeypatch.setattr(tuner, "run_all", nothing)
    code, shown, told = command("tune", recipe, "--trials", 2, "--out", tmp_path / "out")
    assert code == 2
    assert "failed   trial=0001  1 s; killed by signal 9" in told
    assert "no trial is complete; the last one failed: killed by signal 9" in told
    assert "front: 0 of 2 trials" in shown
