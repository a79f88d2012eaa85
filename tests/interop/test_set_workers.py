"""Sets decided by several workers, and in shards: the results of one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.certify.test_pool import Script
from tests.cli.typed import command
from tests.onnx_networks import operator_file
from verify_pipeline.certify.hand_out import LOSSES, Event, Finished, Lost, Ready
from verify_pipeline.certify.local_workers import LocalCrew
from verify_pipeline.certify.versions import versions
from verify_pipeline.errors import ConfigError, DataError, ProcessError
from verify_pipeline.interop import set_workers
from verify_pipeline.interop.answers import Decided
from verify_pipeline.interop.decide import property_plan
from verify_pipeline.interop.instance_list import Answer, Key, read_instances
from verify_pipeline.interop.set_workers import SetWorkerJob
from verify_pipeline.interop.sets import Result, SetJob, read_results, run_set, write_results

BOX = "(declare-const X_0 Real) (declare-const Y_0 Real) (assert (and (>= X_0 -1) (<= X_0 2)))\n"


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Nine properties of Y_0 = relu(X_0), a torn one, and a file that is no network."""
    (tmp_path / "relu.onnx").write_bytes(operator_file("Relu", ("n", 1)))
    (tmp_path / "none.onnx").write_bytes(b"no network")
    lines = ["none.onnx,0.vnnlib,30", "relu.onnx,broken.vnnlib,30"]
    (tmp_path / "broken.vnnlib").write_text(BOX + "(assert (<= Y_0")
    for number in range(9):
        (tmp_path / f"{number}.vnnlib").write_text(f"{BOX}(assert (>= Y_0 {0.4 * number:.1f}))")
        lines.append(f"relu.onnx,{number}.vnnlib,30")
    path = tmp_path / "instances.csv"
    path.write_text("\n".join(lines))
    return path


def job(folder: Path, workers: int = 1) -> SetJob:
    return SetJob(folder / "out.csv", folder / "found", property_plan, 20, workers=workers)


def answers(results: dict[Key, Result]) -> dict[Key, Answer]:
    return {key: one.answer for key, one in results.items()}


def test_two_processes_find_what_one_finds(listed: Path, tmp_path: Path) -> None:
    instances = read_instances(listed)
    alone = run_set(instances, job(tmp_path / "alone"))
    shared = run_set(instances, job(tmp_path / "shared", 2))
    assert answers(shared) == answers(alone)
    assert list(shared) == list(alone)
    assert {Answer.SAT, Answer.UNSAT, Answer.UNKNOWN} == set(answers(alone).values())
    assert "none.onnx" in shared[instances[0].key].detail
    assert "line 2" in shared[instances[1].key].detail
    names = [
        sorted(p.name for p in (tmp_path / one / "found").iterdir()) for one in ("alone", "shared")
    ]
    assert names[0] == names[1]
    assert len(names[0]) == 6

    def refuse(key: Key, result: Result) -> None:
        pytest.fail("done again")

    assert answers(run_set(instances, job(tmp_path / "shared", 2), refuse)) == answers(alone)


def test_a_killed_process_loses_nothing(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, killed = list[int](), list[int]()
    start = LocalCrew.start

    def noting(self: LocalCrew, worker: int) -> None:
        start(self, worker)
        started.append(self._crew[worker].process.pid)

    def kill_one(key: Key, result: Result) -> None:
        if not killed:
            killed.append(started[-1])
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(LocalCrew, "start", noting)
    instances = read_instances(listed)
    shared = run_set(instances, job(tmp_path / "shared", 2), kill_one)
    assert len(started) == 3
    assert answers(shared) == answers(run_set(instances, job(tmp_path / "alone")))


def test_a_stop_keeps_results_and_the_same_call_goes_on(listed: Path, tmp_path: Path) -> None:
    told: list[Key] = []

    def stop(key: Key, result: Result) -> None:
        told.append(key)
        if len(told) == 3:
            raise KeyboardInterrupt

    instances = read_instances(listed)
    with pytest.raises(KeyboardInterrupt):
        run_set(instances, job(tmp_path, 2), stop)
    assert list(read_results(tmp_path / "out.csv")) == told
    run_set(instances, job(tmp_path, 2), lambda key, _: told.append(key))
    assert sorted(told, key=str) == sorted((one.key for one in instances), key=str)


def test_an_instance_that_ends_its_workers_is_unknown(
    listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def does(worker: int, indices: Sequence[int]) -> list[Event]:
        (index,) = indices  # a property is one unit
        if index == 4:
            return [Lost("ended by signal 9")]
        return [Finished(index, Decided(Answer.UNSAT, 0.5)), Ready()]

    crew = Script(does)
    monkeypatch.setattr(set_workers, "_hire", lambda job, workers: crew.hired())
    found = list(run_set(read_instances(listed), job(tmp_path, 2)).values())
    assert [one.answer for one in found].count(Answer.UNSAT) == 10
    (lost,) = [one for one in found if one.answer is Answer.UNKNOWN]
    assert lost.detail == f"{LOSSES} workers were lost with it, the last one: ended by signal 9"
    assert sum(indices == (4,) for _, indices in crew.given) == LOSSES


def test_a_worker_without_the_files_ends_the_run(listed: Path, tmp_path: Path) -> None:
    gone = replace(read_instances(listed)[0], vnnlib=tmp_path / "gone.vnnlib")
    plans = {30.0: property_plan(30.0)}
    working = SetWorkerJob((gone,), plans, None, "cpu", True, versions())
    told: list[Event] = []
    with pytest.raises(ProcessError, match=r"worker on .*; expected verify_pipeline 0\.0; got"):
        replace(working, versions="verify_pipeline 0.0").serve(tuple, told.append)
    with pytest.raises(DataError, match=r"gone\.vnnlib at a worker; .* share the folder of"):
        working.serve(lambda: (0,), told.append)
    assert not told


def test_no_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--jobs; expected at least 1; got 0"):
        job(tmp_path, 0)


def shards(listed: Path, *parts: str) -> None:
    for part in parts:
        out = listed.with_name("set.csv")
        code, shown, told = command("vnncomp", listed, "--out", out, "--shard", part)
        assert code == 0, told
        assert f"set-{part.replace('/', '-of-')}.csv" in shown


def test_shards_are_merged_by_one_command(listed: Path, tmp_path: Path) -> None:
    shards(listed, "1/3", "2/3", "3/3")
    assert not (tmp_path / "set.csv").exists()
    files = [tmp_path / f"set-{number}-of-3.csv" for number in (3, 1, 2)]
    assert [len(read_results(path)) for path in files] == [3, 4, 4]
    merging = ("vnncomp-merge", listed, *files, "--out", tmp_path / "set.csv")
    code, shown, told = command(*merging)
    assert code == 0, told
    assert shown == f"wrote {tmp_path / 'set.csv'}: results of 11 instances\n"
    merged = read_results(tmp_path / "set.csv")
    instances = read_instances(listed)
    assert list(merged) == [one.key for one in instances]
    assert answers(merged) == answers(run_set(instances, job(tmp_path / "alone")))
    code, _, told = command(*merging)
    assert (code, "expected a new file; got one that is there" in told) == (2, True)


def test_shards_that_do_not_fit_are_refused(listed: Path, tmp_path: Path) -> None:
    keys = [one.key for one in read_instances(listed)]
    done = Result(Answer.UNSAT, 1.0)
    first = write_results(tmp_path / "first.csv", dict.fromkeys(keys[:6], done))
    second = write_results(tmp_path / "second.csv", dict.fromkeys(keys[5:], done))
    third = write_results(tmp_path / "third.csv", dict.fromkeys(keys[7:], done))
    other = write_results(tmp_path / "other.csv", {Key("a.onnx", "b.vnnlib"): done})
    for files, message in (
        ((first, second), f"{second}; expected instances that no file before it has; got 1 that"),
        ((first, first), "got 6 that one has, such as none.onnx 0.vnnlib"),
        (
            (first, third),
            "one for each of the list's 11 instances; got 1 without a result",
        ),
        ((first, other), "expected instances of the list; got 1 others, such as a.onnx b.vnnlib"),
    ):
        code, _, told = command("vnncomp-merge", listed, *files, "--out", tmp_path / "set.csv")
        assert code == 2
        assert message in told
        assert not (tmp_path / "set.csv").exists()


def test_an_instance_that_is_listed_twice_is_in_one_shard(listed: Path, tmp_path: Path) -> None:
    listed.write_text(f"{listed.read_text()}\nrelu.onnx,0.vnnlib,30\n")
    shards(listed, "1/2", "2/2")
    both = [set(read_results(tmp_path / f"set-{number}-of-2.csv")) for number in (1, 2)]
    assert both[0].isdisjoint(both[1])


def test_the_command_with_processes(listed: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.csv"
    code, shown, told = command("vnncomp", listed, "--out", out, "--jobs", 2)
    assert code == 0, told
    assert "sat 6, unsat 3, timeout 0, unknown 2" in shown
    assert told.count("relu.onnx") == 10


@pytest.mark.usefixtures("ray")
def test_the_command_with_a_cluster(listed: Path, tmp_path: Path) -> None:
    out = tmp_path / "set.csv"
    typed = ("vnncomp", listed, "--out", out, "--cluster", "ray")
    code, _, told = command(*typed, "--address", "127.0.0.1:1")
    assert (code, "Ray's cluster at 127.0.0.1:1; expected one that answers" in told) == (2, True)
    code, shown, told = command(*typed, "--jobs", 2)
    assert code == 0, told
    assert "sat 6, unsat 3, timeout 0, unknown 2" in shown
    assert len(list((tmp_path / "counterexamples").iterdir())) == 6
