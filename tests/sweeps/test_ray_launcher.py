"""Processes on the nodes of a cluster: as on this machine, also when a worker is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.sweeps.test_processes import PROGRAM, alive, jobs_of
from verify_pipeline.ray_cluster import THREADS, Cluster
from verify_pipeline.sweeps.processes import LOG, Ended, RunJob, run_all
from verify_pipeline.sweeps.ray_processes import ATTEMPTS, RayLauncher, launching_by_ray

TWO = Cluster(workers=2)

LOSE_THE_WORKER = "os.kill(os.getppid(), signal.SIGKILL); time.sleep(60)"
"""The parent of a run's process is the worker of Ray that started it."""


@pytest.fixture(scope="module")
def launcher(ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayLauncher]:
    with launching_by_ray(TWO, tmp_path_factory.mktemp("shared"), "cpu", PROGRAM) as made:
        yield made


def run(launcher: RayLauncher, folder: Path, codes: Sequence[str]) -> dict[str, Ended]:
    return {each.job.name: each for each in run_all(jobs_of(folder, codes), launcher)}


def test_runs_end_as_on_this_machine(launcher: RayLauncher, tmp_path: Path) -> None:
    show = f"print(sorted({{os.environ[name] for name in {THREADS}}}), os.getcwd())"
    codes = ["sys.exit('the reason')", "os.kill(os.getpid(), signal.SIGKILL)", show]
    ended = run(launcher, tmp_path, codes)
    assert [ended[name].error for name in "012"] == ["the reason", "killed by signal 9", None]
    assert all(each.seconds > 0 for each in ended.values())
    assert (tmp_path / "2" / LOG).read_text().splitlines()[-1] == f"['1'] {Path.cwd()}"


def test_a_run_whose_worker_is_lost_is_done_by_another(
    launcher: RayLauncher, tmp_path: Path
) -> None:
    once = (
        f"if not (path.parent / 'lost').exists(): (path.parent / 'lost').touch(); {LOSE_THE_WORKER}"
    )
    ended = run(launcher, tmp_path, [once, LOSE_THE_WORKER, "pass"])
    assert (ended["0"].error, ended["2"].error) == (None, None)
    assert (tmp_path / "0" / LOG).read_text().count("a worker was lost") == 1
    error = ended["1"].error
    assert error is not None
    assert error.startswith(f"{ATTEMPTS} workers were lost with it, the last one: ")
    assert (tmp_path / "1" / LOG).read_text().count("began") == ATTEMPTS == 3


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_stop_ends_the_runs_and_others_may_follow(launcher: RayLauncher, tmp_path: Path) -> None:
    pid = tmp_path / "0" / "pid"

    def stop(job: RunJob) -> None:
        while not pid.exists() or not pid.read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt

    code = "(path.parent / 'pid').write_text(str(os.getpid())); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        list(run_all(jobs_of(tmp_path, [code]), launcher, stop))
    ends = time.monotonic() + 20
    while alive(int(pid.read_text())) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not alive(int(pid.read_text()))
    assert run(launcher, tmp_path / "next", ["pass"])["0"].error is None
