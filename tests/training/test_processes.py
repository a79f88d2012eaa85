"""Several processes train one network as one process does."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.documents import ROOT
from tests.training.cases import CHANGES, trained
from verify_pipeline.process_group import ALONE, ProcessGroup

OF_ONE_MACHINE = {
    "GLOO_SOCKET_IFNAME": "lo",  # nobody need know the machine's own name
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
}


def started(
    count: int, arguments: Sequence[object], size: int | None = None, port: int | None = None
) -> list["subprocess.Popen[str]"]:
    """So many processes of a group, each with a variable for its rank, as torchrun has them."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(size or count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        **OF_ONE_MACHINE,
    }
    return [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def ended(processes: Sequence["subprocess.Popen[str]"]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each."""
    said = [process.communicate(timeout=300) for process in processes]
    return [(each.returncode, *told) for each, told in zip(processes, said, strict=True)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    for code, _, error in ended(started(2, ["-m", "tests.training.cases", folder])):
        assert code == 0, error
    return {
        (name, rank): torch.load(folder / f"{name}-{rank}.pt")
        for name in CHANGES
        for rank in range(2)
    }


@pytest.mark.parametrize("name", CHANGES)
def test_two_processes_train_as_one_does(
    name: str, results: dict[tuple[str, int], dict[str, Any]]
) -> None:
    alone = trained(name, ALONE)
    first, second = results[name, 0], results[name, 1]
    assert torch.equal(first["weights"], second["weights"])
    assert (first["weights"] - alone["weights"]).abs().max() < 1e-8
    for mine, theirs in zip(alone["metrics"], first["metrics"], strict=True):
        assert mine.keys() == theirs.keys()
        for key in mine.keys() - {"seconds"}:
            assert theirs[key] == pytest.approx(mine[key], rel=1e-7), key


def test_parts_of_a_batch_cover_it_evenly() -> None:
    for count, size in ((7, 3), (32, 2), (5, 5), (64, 7)):
        parts = [ProcessGroup(rank, size).part(count) for rank in range(size)]
        assert [i for part in parts for i in range(count)[part]] == list(range(count))
        lengths = [part.stop - part.start for part in parts]
        assert max(lengths) - min(lengths) <= 1


def test_a_training_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    script = "import sys; from tests.training.cases import resumed; resumed(sys.argv[1])"
    (code, _, error), _ = ended(started(2, ["-c", script, tmp_path]))  # the first one stops
    assert code == 0, error
    assert json.loads((tmp_path / "checkpoint.json").read_text())["epoch"] == 4
    alone = trained("held-out", ALONE)
    assert (trained("held-out", ALONE, tmp_path)["weights"] - alone["weights"]).abs().max() < 1e-8


TYPED = (
    *("-m", "verify_pipeline", "train", "digits-cc-ibp", "--quiet"),
    *("--set", "train.optimiser.milestones=[]", "--set", "train.epsilon.length=1"),
)


def test_the_command_trains_in_two_processes_and_a_killed_one_loses_an_epoch_at_most(
    tmp_path: Path,
) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "run"
    typed = (*TYPED, "--set", "train.optimiser.epochs=400", "--out", out)
    running = started(2, typed)
    while not (out / "checkpoint.json").is_file():
        assert all(process.poll() is None for process in running)
        time.sleep(0.1)
    running[1].kill()
    (code, _, error), _ = ended(running)
    assert code == 2
    assert error.startswith("error: processes of this training; expected all of them to the end")
    assert "The same command continues" in error
    assert "gloo" not in error  # nobody need see its source, and what it says to its developers
    epoch = json.loads((out / "checkpoint.json").read_text())["epoch"]
    again = started(2, typed)
    while json.loads((out / "checkpoint.json").read_text())["epoch"] <= epoch:
        assert all(process.poll() is None for process in again)
        time.sleep(0.1)
    for process in again:
        process.kill()
    ended(again)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ((*TYPED, "--set", "train.optimiser.epochs=0"), "train.optimiser.epochs"),
        (
            (*TYPED, "--set", "train.optimiser.epochs=3", "--set", "train.optimiser.batch=1"),
            "at most 1, the images of the smallest step",
        ),
        ((*TYPED, "--set", "train.optimiser.epochs=3", "--device", "tpu"), "device 'tpu'"),
    ],
)
def test_a_mistake_is_told_once(typed: tuple[str, ...], told: str, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    first, second = ended(started(2, (*typed, "--out", tmp_path / "run")))
    assert (first[0], second[0]) == (2, 2)
    assert first[2].startswith("error: ")
    assert told in first[2]
    assert second[1:] == ("", "")
    assert not (tmp_path / "run").exists()


def test_processes_that_do_not_meet_are_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ((code, _, error), *_) = ended(started(1, (*TYPED, "--out", tmp_path / "run"), 2, port))
    assert code == 2
    assert error.startswith("error: processes of this training; expected the others")


def test_only_training_is_started_by_torchrun(tmp_path: Path) -> None:
    typed = ("-m", "verify_pipeline", "run", "digits-cc-ibp", "--out", tmp_path / "run")
    for code, _, error in ended(started(2, typed)):
        assert code == 2
        assert error.startswith("error: torchrun; expected the command train; got run")
    assert not (tmp_path / "run").exists()


def test_torchrun_starts_the_command(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = tmp_path / "run"
    typed = (*TYPED, "--set", "train.optimiser.epochs=3", "--out", out)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    done = subprocess.run(
        [sys.executable, *map(str, (*torchrun, *typed))],
        env={**os.environ, **OF_ONE_MACHINE},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "checkpoint.json").read_text())["epoch"] == 3
    assert (out / "recipe.yaml").is_file()
