"""Sweeps and tunings on a cluster: the tables of one machine, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.typed import command
from verify_pipeline.sweeps.processes import LOG


@pytest.mark.usefixtures("ray")
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a folder of one process")
def test_a_folder_that_workers_cannot_see_is_refused(recipe: Path, tmp_path: Path) -> None:
    """The number of an open folder means that folder in this process alone."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    out = f"/proc/self/fd/{descriptor}/out"
    before = sorted(tmp_path.iterdir())
    code, _, told = command("sweep", recipe, "--out", out, "--cluster", "ray")
    os.close(descriptor)
    assert code == 2
    assert f"folder {out} at node " in told
    assert "expected what is written there on this machine; got " in told
    assert "All nodes have to share --out" in told
    assert sorted(tmp_path.iterdir()) == before


def kill_the_worker_of(job: str, killed: list[int]) -> None:
    """Kill the worker of Ray that started a job's process, once that process is there."""
    while not killed:
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if (place / "cmdline").read_bytes().rstrip(b"\0").endswith(job.encode()):
                    parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                    os.kill(parent, signal.SIGKILL)
                    killed.append(parent)
                    return
            except OSError:
                continue
        time.sleep(0.02)


VERDICTS = ["run", "state", "images", "standard", "verified", "settings"]


@pytest.mark.usefixtures("ray")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_sweep_with_a_lost_worker_has_the_table_of_one_machine(
    recipe: Path, tmp_path: Path
) -> None:
    out, killed = tmp_path / "ray", list[int]()
    typed = ("sweep", recipe, "--grid", "train.loss.alpha=0.1,1", "--out")
    lost = out / "alpha=1_seed=0"
    killer = threading.Thread(
        target=kill_the_worker_of, args=(f"{lost}/job.json", killed), daemon=True
    )
    killer.start()
    code, shown, told = command(*typed, out, "--cluster", "ray", "--jobs", 2, "--json")
    assert code == 0, told
    assert len(killed) == 1
    assert "a worker was lost" in (lost / LOG).read_text()
    names = [json.loads(line)["event"] for line in shown.splitlines()]  # and nothing of Ray's
    assert names[-3:] == ["result", "result", "wrote"]
    code, _, told = command(*typed, tmp_path / "alone")
    assert code == 0, told
    shared, alone = (pd.read_csv(tmp_path / name / "runs.csv") for name in ("ray", "alone"))
    assert shared[VERDICTS].equals(alone[VERDICTS])


@pytest.mark.usefixtures("ray")
def test_a_tuning_on_a_cluster(recipe: Path, space: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    out = tmp_path / "tune"
    by = ("--cluster", "ray", "--jobs", 1, "--cores", 2)
    code, _, told = command("tune", recipe, "--space", space, "--trials", 1, "--out", out, *by)
    assert code == 0, told
    assert "done     trial=0000" in told
    assert pd.read_csv(out / "trials.csv")["state"].tolist() == ["complete"]
    assert len(pd.read_csv(out / "front.csv")) == 1


@pytest.mark.parametrize("name", ["sweep", "tune"])
@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (("--address", "auto"), "--address; expected --cluster ray with it; got auto"),
        (("--cores", "2"), "--cores; expected --cluster ray with it; got 2"),
        (("--cluster", "ray", "--jobs", "0"), "--jobs; expected at least 1; got 0"),
        (("--cluster", "ray", "--cores", "0"), "--cores; expected at least 1; got 0"),
        (("--cluster", "slurm"), "'slurm' is not"),
        (
            ("--cluster", "ray", "--address", "127.0.0.1:1"),
            "Ray's cluster at 127.0.0.1:1; expected one that answers",
        ),
    ],
)
def test_mistakes_about_the_cluster_are_told_and_nothing_is_written(
    recipe: Path, tmp_path: Path, name: str, typed: tuple[str, ...], message: str
) -> None:
    pytest.importorskip("optuna")
    if "--address" in typed and "--cluster" in typed:
        pytest.importorskip("ray")
    code, _, told = command(name, recipe, *typed, "--out", tmp_path / "out")
    assert code == 2
    assert message in told
    assert not (tmp_path / "out").exists()
