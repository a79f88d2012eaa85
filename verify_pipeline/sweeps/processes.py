"""Runs as processes of their own: one that dies takes no other with it.

A job is a file, ``job.json``, that :mod:`verify_pipeline.sweeps.worker` reads. Its process writes
to a log beside the file, and ends when the process that started it does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.errors import ConfigError

JOB, LOG = "job.json", "log.txt"
"""Names of files in a job's folder."""

POLL = 0.05
"""Seconds between two looks at the processes."""

PATIENCE = 10.0
"""Seconds that a process may take to end when it is told to."""

WORKER = (sys.executable, "-m", "verify_pipeline.sweeps.worker")
"""The program that does a job; the path of its file follows."""

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Machine:
    """Where runs are done.

    Attributes:
        jobs: runs at once; if more than one, each gets one thread.
        data_root: where the data sets are looked for.
        device: ``auto``, ``cpu``, ``cuda``, …

    Raises:
        ConfigError: no job at once.
    """

    jobs: int = 1
    data_root: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ConfigError("--jobs", expected="at least 1", got=str(self.jobs))

    @property
    def options(self) -> dict[str, str | None]:
        """What a job has to know of it."""
        root = None if self.data_root is None else str(self.data_root)
        return {"data_root": root, "device": self.device}


@dataclass(frozen=True)
class RunJob:
    """What one process does.

    Attributes:
        name: as messages show it.
        folder: of its files.
        content: of its ``job.json``.
    """

    name: str
    folder: Path
    content: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """How a job's process ended.

    Attributes:
        job: that it did.
        error: the last line of its log, or the signal that killed it; None: it did all.
        seconds: from its start to its end.
    """

    job: RunJob
    error: str | None
    seconds: float


@dataclass(frozen=True, eq=False)
class _Running:
    job: RunJob
    process: subprocess.Popen[bytes]
    started: float


def run_all(
    next_job: Callable[[], RunJob | None],
    jobs: int,
    started: Callable[[RunJob], None] = lambda job: None,
    program: Sequence[str] = WORKER,
) -> Iterator[Ended]:
    """Run jobs in processes, so many at once, and yield each as it ends.

    If the caller stops (Ctrl-C), the processes are ended.

    Args:
        next_job: the next job, asked for when there is room; None: none now. It is asked again
            after a process has ended, so that what was learned from it can decide.
        jobs: processes at once; if more than one, each gets one thread.
        started: is told of each job that was started.
        program: that does them; it gets the path of a job's file.
    """
    running: list[_Running] = []
    try:
        while True:
            while len(running) < jobs and (job := next_job()) is not None:
                running.append(_start(job, program, one_thread=jobs > 1))
                started(job)
            if not running:
                return
            ended = [each for each in running if each.process.poll() is not None]
            for each in ended:
                running.remove(each)
                yield _end(each)
            if not ended:
                time.sleep(POLL)
    finally:
        _stop(running)


def _start(job: RunJob, program: Sequence[str], one_thread: bool) -> _Running:
    write_whole(job.folder / JOB, f"{json.dumps(job.content, indent=1, ensure_ascii=False)}\n")
    environment = dict(os.environ)
    if one_thread:
        environment |= dict.fromkeys(THREADS, "1")
    with (job.folder / LOG).open("ab") as log:
        process = subprocess.Popen(
            [*program, str(job.folder / JOB)],
            stdin=subprocess.PIPE,  # its end tells the process that this one is gone
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches this process only, which ends the others
        )
    return _Running(job, process, time.monotonic())


def _end(running: _Running) -> Ended:
    if running.process.stdin is not None:
        with suppress(OSError):
            running.process.stdin.close()
    seconds = time.monotonic() - running.started
    code = running.process.returncode
    if code == 0:
        return Ended(running.job, None, seconds)
    said = last_line(running.job.folder / LOG)
    error = f"killed by signal {-code}" if code < 0 else said or f"exit code {code}"
    return Ended(running.job, error, seconds)


def _stop(running: list[_Running]) -> None:
    for each in running:
        with suppress(OSError):
            each.process.terminate()
    for each in running:
        try:
            each.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()
        _end(each)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
