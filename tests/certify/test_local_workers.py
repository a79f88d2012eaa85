"""Processes of this machine certify as one process does, also when one of them is killed."""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.certify.test_pool import Told
from tests.cli.typed import command
from verify_pipeline import api
from verify_pipeline.certify.hand_out import CrewJob, Event, Failed, Ready
from verify_pipeline.certify.local_workers import LocalCrew, hired
from verify_pipeline.certify.questions import Question
from verify_pipeline.certify.versions import versions
from verify_pipeline.certify.worker import WorkerJob
from verify_pipeline.errors import ConfigError, NetworkError, ProcessError
from verify_pipeline.problem import Status, Verdict

IMAGES, CLASSES = 60, 3


def pixels() -> Tensor:
    return torch.rand(IMAGES, 1, 4, 4, generator=torch.Generator().manual_seed(1))


def network() -> nn.Module:
    """Random weights, with biases that make all classes equally likely."""
    torch.manual_seed(2)
    last = nn.Linear(24, CLASSES)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), last).eval()
    with torch.no_grad():
        last.bias.sub_(module(pixels()).mean(0))
    return module


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("workers") / "net.onnx"
    api.export_onnx(network(), file, input_shape=(1, 4, 4))
    return file


@pytest.fixture(scope="module")
def images() -> api.ImageSet:
    return api.ImageSet("own", "test", pixels(), network()(pixels()).argmax(1), CLASSES)


SETTINGS = api.CertifySettings(epsilon=0.1, timeout=20)


def verdicts(summary: api.Summary) -> dict[int, Status]:
    return {record.index: record.status for record in summary.records}


def test_two_processes_find_what_one_finds(
    path: Path, images: api.ImageSet, tmp_path: Path
) -> None:
    alone = api.certify(path, images, SETTINGS)
    ledger = tmp_path / "ledger.sqlite"
    shared = api.certify(path, images, SETTINGS, ledger=ledger, jobs=2)
    assert verdicts(shared) == verdicts(alone)
    assert {Status.VERIFIED, Status.FALSIFIED} <= set(verdicts(alone).values())
    assert shared.info == alone.info
    (checked,) = api.recheck_ledger(api.load_network(path), ledger, None, images)
    assert checked.checked
    assert all(each.holds for each in checked.checked)
    again = api.certify(path, images, SETTINGS, ledger=ledger, jobs=2)
    assert again.records == shared.records


class KillsOne(Told):
    """Kills a worker's process once the first verdict is there, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: int | None = None

    def decided(self, index: int, verdict: Verdict) -> None:
        super().decided(index, verdict)
        if self.killed is None:
            self.killed = STARTED[-1]
            os.kill(self.killed, signal.SIGKILL)


STARTED: list[int] = []


def test_a_killed_process_loses_nothing(
    path: Path, images: api.ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = LocalCrew.start

    def noting(self: LocalCrew, worker: int) -> None:
        start(self, worker)
        STARTED.append(self._crew[worker].process.pid)

    monkeypatch.setattr(LocalCrew, "start", noting)
    killer = KillsOne()
    shared = api.certify(path, images, SETTINGS, observer=killer, jobs=2)
    assert killer.killed is not None
    assert {why for _, why in killer.lost} <= {"ended by signal 9"}
    assert verdicts(shared) == verdicts(api.certify(path, images, SETTINGS))
    assert killer.images == killer.done
    assert killer.images["clean"] == killer.verdicts == IMAGES
    for process in STARTED:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_workers_end_with_a_driver_that_is_killed(path: Path, images: api.ImageSet) -> None:
    """The end of the driver closes the connection."""
    job = WorkerJob.of(api.load_network(path), images, SETTINGS, Question(), "cpu")
    crew = LocalCrew(job, 1)
    crew.start(0)
    assert list(crew.events()) == [(0, Ready())]
    worker = crew._crew[0]
    worker.connection.close()
    assert worker.process.wait(60) == 0
    crew.close()


@dataclass(frozen=True)
class Searches(CrewJob):
    """A job whose first units take very long."""

    device: str = "cpu"

    def serve(self, receive: Callable[[], Sequence[int]], send: Callable[[Event], None]) -> None:
        send(Ready())
        receive()
        send(Ready())
        time.sleep(600)


def test_workers_end_in_the_middle_of_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    crew = LocalCrew(Searches(), 1)
    crew.start(0)
    assert list(crew.events()) == [(0, Ready())]
    crew.give(0, [1])
    assert list(crew.events()) == [(0, Ready())]
    worker = crew._crew[0]
    worker.connection.close()
    assert worker.process.wait(60) == 0
    crew.close()


def test_a_worker_of_other_versions_decides_nothing(path: Path, images: api.ImageSet) -> None:
    """The ledger would name the driver's packages for verdicts that others gave."""
    job = WorkerJob.of(api.load_network(path), images, SETTINGS, Question(), "cpu")
    other = replace(job, versions=versions().replace(f"torch {torch.__version__}", "torch 1.0"))
    assert other.versions != job.versions
    told: list[object] = []
    with pytest.raises(ProcessError, match=r"expected torch 1\.0; got torch \d"):
        other.serve(tuple, told.append)
    with hired(other, 1) as crew:
        crew.start(0)
        ((_, event),) = crew.events()
    assert isinstance(event, Failed)
    assert "Install the same versions on all machines" in str(event.error)
    assert not told


def test_mistakes_are_told_before_a_process_starts(path: Path, images: api.ImageSet) -> None:
    with pytest.raises(ConfigError, match="--jobs; expected at least 1; got 0"):
        api.certify(path, images, SETTINGS, jobs=0)
    with pytest.raises(ConfigError, match="a network in memory"):
        api.certify(network(), images, SETTINGS, jobs=2)
    asking = replace(SETTINGS, stages=("clean", "abcrown"))
    with pytest.raises(ConfigError, match="one process for the stage abcrown"):
        api.certify(path, images, asking, jobs=2)


def test_a_file_that_is_replaced_meanwhile_is_noticed(images: api.ImageSet, tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    api.export_onnx(network(), file, input_shape=(1, 4, 4))
    loaded = api.load_network(file)
    with torch.no_grad():
        other = network()
        next(other.parameters()).mul_(2)
    api.export_onnx(other, file, input_shape=(1, 4, 4))
    with pytest.raises(NetworkError, match="Do not replace the file"):
        api.certify(loaded, images, SETTINGS, jobs=2)


def test_the_command_shares_a_ledger_between_processes(path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", pixels()[:20].numpy())
    np.save(tmp_path / "y.npy", network()(pixels()[:20]).argmax(1).numpy())
    typed = ["certify", path, "--images", tmp_path / "x.npy", "--labels", tmp_path / "y.npy"]
    typed += ["--epsilon", "0.05", "--ledger", tmp_path / "own.sqlite", "--jobs"]
    code, output, error = command(*typed, "2")
    assert code == 0, error
    assert "20" in output
    assert "clean: 20 images in " in error
    assert "of all workers" in error
    code, output, error = command(*typed[:-1], "--jobs", "2", "--ledger", tmp_path / "b", "--json")
    assert (code, error) == (0, "")
    events = [json.loads(line) for line in output.splitlines()]
    assert events[0]["stages_overlap"]
    assert events[0]["stages"][0] == "clean"
    batches = {each["stage"]: each for each in events if each["event"] == "batch"}
    finished, tally = events[-1], Counter(e["stage"] for e in events if e["event"] == "verdict")
    assert (batches["clean"]["images"], batches["clean"]["done"]) == (20, 20)
    assert batches["ibp"]["images"] == 20 - finished["wrong"]
    assert all(each["done"] == each["images"] for each in batches.values())
    assert sum(tally.values()) == 20
    code, _, error = command(*typed, "0")
    assert (code, "--jobs" in error) == (2, True)
