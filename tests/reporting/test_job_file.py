"""A job's file: written whole, read again, and whether its job still runs."""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from verify_pipeline import job_process
from verify_pipeline.certify.records import Run
from verify_pipeline.errors import ConfigError
from verify_pipeline.job_process import SILENCE, JobProcess
from verify_pipeline.reporting import job_file
from verify_pipeline.reporting.job_file import (
    JobNote,
    JobWriter,
    certification_file,
    ledgers_with_jobs,
    read_note,
)

RUN = Run("0" * 64, "mnist", "test", "linf 0.1", "margins", "1")
ELSEWHERE = JobProcess(1, "another-host", "12345")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = certification_file(tmp_path / "ledger.sqlite", RUN)
    assert ledgers_with_jobs(tmp_path) == set()
    assert read_note(path) is None
    note = JobNote.begun("certify")
    writer = JobWriter(path, note)
    writer.write(phase="crown", done=3, of=5, left=(1.0, None), line="ε")
    found = read_note(path)
    assert found is not None
    assert replace(found, updated=0.0) == replace(
        note, updated=0.0, phase="crown", done=3, of=5, left=(1.0, None), line="ε"
    )
    assert found.runs
    writer.write(ending="stopped")
    ended = read_note(path)
    assert ended is not None
    assert (ended.phase, ended.runs) == ("crown", False)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert ledgers_with_jobs(tmp_path) == {tmp_path / "ledger.sqlite"}
    writer.remove()
    assert not path.exists()


def test_each_run_of_a_ledger_has_its_file(tmp_path: Path) -> None:
    other = replace(RUN, perturbation="linf 0.2")
    first, second = (certification_file(tmp_path / "a", run) for run in (RUN, other))
    assert first != second


def test_nothing_is_written_while_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, wall = time.monotonic(), time.time()
    monkeypatch.setattr(job_file.time, "monotonic", lambda: now)
    monkeypatch.setattr(job_file.time, "time", lambda: wall)
    path = tmp_path / "job.json"
    writer = JobWriter(path, JobNote.begun("train"))
    writer.write(done=1)
    path.unlink()
    writer.write(done=1)
    assert not path.exists()
    now += job_file.HEARTBEAT
    wall -= 3600.0  # the wall clock goes back
    writer.write(done=1)  # still there
    found = read_note(path)
    assert found is not None
    assert found.updated == wall
    assert found.runs


def test_a_sign_from_the_future_is_none_of_now() -> None:
    note = replace(JobNote.begun("certify"), process=ELSEWHERE)
    assert replace(note, updated=time.time() + SILENCE / 2).runs
    assert not replace(note, updated=time.time() + 2 * SILENCE).runs
    # on this host, the process itself is asked
    assert replace(JobNote.begun("certify"), updated=time.time() + 2 * SILENCE).runs


def test_a_place_that_cannot_be_written_stops_no_job(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    JobWriter(tmp_path / "file" / "job.json", JobNote.begun("train")).write(done=1)


def test_a_process_that_is_gone_does_not_run() -> None:
    own = JobProcess.own()
    assert own.runs(silent=1e9)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        other = replace(own, number=child.pid, born=job_process._born(child.pid))
        assert other.runs(silent=1e9)
        child.kill()
    assert not other.runs(silent=0.0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
def test_another_process_with_the_same_number_is_not_taken_for_it() -> None:
    assert not replace(JobProcess.own(), born="1").runs(silent=0.0)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
def test_a_process_that_nobody_has_waited_for_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert job_process._born(child.pid) is None
    child.wait()


def test_of_another_host_only_signs_are_seen() -> None:
    assert ELSEWHERE.runs(silent=SILENCE - 1)
    assert not ELSEWHERE.runs(silent=SILENCE)


def test_the_first_of_several_processes_writes(tmp_path: Path) -> None:
    path = tmp_path / "job.json"
    first = replace(JobNote.begun("certify"), process=ELSEWHERE, line="first")
    path.write_text(json.dumps(asdict(first)), encoding="utf-8")
    writer = JobWriter(path, JobNote.begun("certify"))
    writer.write(line="second")
    writer.remove()
    assert read_note(path) == first
    path.write_text(json.dumps(asdict(replace(first, ending="stopped"))), encoding="utf-8")
    writer.write(line="third")
    found = read_note(path)
    assert found is not None
    assert found.line == "third"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"job": "certify"}', "\x00\x00"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"job\.json; expected the file of a job"):
        read_note(path)
    JobWriter(path, JobNote.begun("train")).write(done=1)  # a job replaces it
    assert read_note(path) is not None
