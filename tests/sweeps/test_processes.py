"""The pool of processes: deaths, errors, threads, and an end with the one who started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from verify_pipeline.errors import ConfigError
from verify_pipeline.ray_cluster import THREADS
from verify_pipeline.sweeps.machine import Machine
from verify_pipeline.sweeps.processes import (
    LOG,
    Ended,
    LocalLauncher,
    RunJob,
    last_line,
    run_all,
)

DO = """
import json, os, signal, sys, time
from pathlib import Path
path = Path(sys.argv[1])
job = json.loads(path.read_text())
print("began", flush=True)
exec(job["code"])
"""
PROGRAM = (sys.executable, "-c", DO)


def jobs_of(folder: Path, codes: Sequence[str]) -> Callable[[], RunJob | None]:
    left: Iterator[RunJob] = iter(
        RunJob(str(place), folder / str(place), {"code": code}) for place, code in enumerate(codes)
    )
    return lambda: next(left, None)


def launcher(jobs: int = 1) -> LocalLauncher:
    return LocalLauncher(jobs, 1 if jobs > 1 else None, PROGRAM)


def run(folder: Path, codes: Sequence[str], jobs: int = 1) -> dict[str, Ended]:
    found = run_all(jobs_of(folder, codes), launcher(jobs))
    return {ended.job.name: ended for ended in found}


def test_one_that_dies_takes_no_other_with_it(tmp_path: Path) -> None:
    codes = [
        "os.kill(os.getpid(), signal.SIGKILL)",
        "sys.exit('the reason')",
        "raise ValueError('a bug')",
        "os._exit(3)",
        "pass",
    ]
    ended = run(tmp_path, codes, jobs=3)
    assert {name: each.error for name, each in ended.items()} == {
        "0": "killed by signal 9",
        "1": "the reason",
        "2": "ValueError: a bug",
        "3": "began",
        "4": None,
    }
    assert all(each.seconds > 0 for each in ended.values())


def test_several_get_one_thread_each_and_one_gets_what_there_is(tmp_path: Path) -> None:
    show = f"print([os.environ.get(name) for name in {THREADS}])"
    names = dict.fromkeys(THREADS, "7")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in names.items():
            patch.setenv(name, value)
        run(tmp_path / "one", [show], jobs=1)
        run(tmp_path / "two", [show], jobs=2)
    assert last_line(tmp_path / "one" / "0" / LOG) == "['7', '7', '7']"
    assert last_line(tmp_path / "two" / "0" / LOG) == "['1', '1', '1']"


def test_a_process_has_a_session_of_its_own_so_that_ctrl_c_passes_it_by(tmp_path: Path) -> None:
    run(tmp_path, ["print(os.getsid(0) == os.getpid())"])
    assert last_line(tmp_path / "0" / LOG) == "True"


def test_no_more_processes_than_asked_for(tmp_path: Path) -> None:
    alive: list[str] = []
    most = 0

    def started(job: RunJob) -> None:
        nonlocal most
        alive.append(job.name)
        most = max(most, len(alive))

    for ended in run_all(jobs_of(tmp_path, ["pass"] * 5), launcher(2), started):
        alive.remove(ended.job.name)
    assert most == 2


def test_a_later_job_is_asked_for_after_an_earlier_one_has_ended(tmp_path: Path) -> None:
    known: list[str] = []

    def next_job() -> RunJob | None:
        if len(known) == 2:
            return None
        return RunJob("x", tmp_path / "x", {"code": f"print({len(known)})"})

    for _ in run_all(next_job, launcher()):
        known.append(last_line(tmp_path / "x" / LOG))
    assert known == ["0", "1"]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_stop_ends_the_processes(tmp_path: Path) -> None:
    code = "Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    code = code.replace("'pid'", repr(str(tmp_path / "pid")))

    def stop(job: RunJob) -> None:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(run_all(jobs_of(tmp_path, [code]), launcher(), stop))
    assert not alive(int((tmp_path / "pid").read_text()))


PARENT = """
import sys
from pathlib import Path
from verify_pipeline.sweeps.processes import LocalLauncher, RunJob, run_all
folder = Path(sys.argv[1])
jobs = iter([RunJob("a", folder, {})])
child = (sys.executable, "-c", sys.argv[2])
launcher = LocalLauncher(1, program=child)
list(run_all(lambda: next(jobs, None), launcher, lambda job: print("started", flush=True)))
"""
CHILD = """
import os, sys, threading, time
from pathlib import Path
from verify_pipeline.sweeps import worker
worker.do = lambda job: (
    (Path(sys.argv[1]).parent / "pid").write_text(str(os.getpid())), time.sleep(60)
)
worker.main(Path(sys.argv[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_processes_end_with_the_one_who_started_them(tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", PARENT, str(tmp_path), CHILD]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as parent:
        pid = tmp_path / "pid"
        while not pid.exists() or not pid.read_text():
            time.sleep(0.02)
        child = int(pid.read_text())
        assert alive(child)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    for _ in range(500):
        if not alive(child):
            break
        time.sleep(0.02)
    assert not alive(child)


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a\nlast \xff line \n\n \n")
    assert last_line(tmp_path / "log") == "last � line"
    (tmp_path / "log").write_bytes(b"")
    assert last_line(tmp_path / "log") == ""
    assert last_line(tmp_path / "none") == ""


def test_no_job_at_once_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--jobs; expected at least 1; got 0"):
        Machine(0)
