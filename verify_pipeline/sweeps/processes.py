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
from typing import Any, Protocol

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.ray_cluster import THREADS

JOB, LOG = "job.json", "log.txt"
"""Names of files in a job's folder."""

POLL = 0.05
"""Seconds between two looks at the processes."""

PATIENCE = 10.0
"""Seconds that a process may take to end when it is told to."""

WORKER = (sys.executable, "-m", "verify_pipeline.sweeps.worker")
"""The program that does a job; the path of its file follows."""


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


class Launcher(Protocol):
    """Starts the processes of jobs, wherever they run, and tells how each ended."""

    @property
    def jobs(self) -> int:
        """How many run at once."""
        ...

    def start(self, job: RunJob) -> None:
        """Start a job's process."""
        ...

    def ended(self) -> Sequence[Ended]:
        """The jobs that have ended since this was asked last; waits a moment if none has."""
        ...

    def stop(self) -> None:
        """End all processes that run; others may be started afterwards."""
        ...


def run_all(
    next_job: Callable[[], RunJob | None],
    launcher: Launcher,
    started: Callable[[RunJob], None] = lambda job: None,
) -> Iterator[Ended]:
    """Run jobs in processes, so many at once, and yield each as it ends.

    If the caller stops (Ctrl-C), the processes are ended.

    Args:
        next_job: the next job, asked for when there is room; None: none now. It is asked again
            after a process has ended, so that what was learned from it can decide.
        launcher: starts them.
        started: is told of each job that was started.
    """
    running = 0
    try:
        while True:
            while running < launcher.jobs and (job := next_job()) is not None:
                launcher.start(job)
                running += 1
                started(job)
            if not running:
                return
            ended = launcher.ended()
            running -= len(ended)
            yield from ended
    finally:
        launcher.stop()


@dataclass(frozen=True, eq=False)
class _Running:
    job: RunJob
    process: subprocess.Popen[bytes]
    started: float


class LocalLauncher(Launcher):
    """Processes of this machine.

    Args:
        jobs: at once.
        threads: of each process; None: as many as it takes by itself.
        program: that does a job; it gets the path of the job's file.
    """

    def __init__(
        self, jobs: int, threads: int | None = None, program: Sequence[str] = WORKER
    ) -> None:
        self._jobs, self._program = jobs, tuple(program)
        self._threads = {} if threads is None else dict.fromkeys(THREADS, str(threads))
        self._running: list[_Running] = []

    @property
    def jobs(self) -> int:
        """How many run at once."""
        return self._jobs

    def start(self, job: RunJob) -> None:
        """Start a job's process."""
        write_whole(job.folder / JOB, f"{json.dumps(job.content, indent=1, ensure_ascii=False)}\n")
        with (job.folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                [*self._program, str(job.folder / JOB)],
                stdin=subprocess.PIPE,  # its end tells the process that this one is gone
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._threads},
                start_new_session=True,  # Ctrl-C reaches this process only, which ends the others
            )
        self._running.append(_Running(job, process, time.monotonic()))

    def ended(self) -> Sequence[Ended]:
        """The jobs whose processes have ended."""
        gone = [each for each in self._running if each.process.poll() is not None]
        self._running = [each for each in self._running if each not in gone]
        if not gone:
            time.sleep(POLL)
        return [_end(each) for each in gone]

    def stop(self) -> None:
        """Tell all processes to end, and kill those that do not."""
        for each in self._running:
            with suppress(OSError):
                each.process.terminate()
        for each in self._running:
            try:
                each.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
            _end(each)
        self._running = []


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
