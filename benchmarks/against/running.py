"""Runs: every engine on every task, one after the other, in alternating order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from against.measured import read_measured, result_file, write_job
from against.measuring import now
from against.tasks import COMMAND, ENGINES, OURS, THEIRS, EngineName, Job
from verify_pipeline.engines import find_tool
from verify_pipeline.errors import DataError, DependencyError

SCRIPT = Path(__file__).resolve().parents[2] / COMMAND

Tell = Callable[[str], None]


def order(place: int) -> tuple[EngineName, ...]:
    """The engines as a run's task at this place, from 0, has them: our side first, then theirs."""
    return THEIRS + OURS if place % 2 else ENGINES


def installed(chosen: Sequence[EngineName], tell: Tell) -> list[EngineName]:
    """The chosen engines that are here; without α,β-CROWN it is our side that is run."""
    if not set(chosen) & set(THEIRS):
        return list(chosen)
    try:
        find_tool()
    except DependencyError as error:
        tell(f"{error}\nOnly our side is run.")
        return [engine for engine in chosen if engine in OURS]
    return list(chosen)


def run(
    jobs: Sequence[Job], first: int, chosen: Sequence[EngineName], work: Path, tell: Tell
) -> list[str]:
    """Measure what has not been measured yet under the working folder.

    Args:
        jobs: the tasks.
        first: the place of the first one, which says whose turn it is to begin.
        chosen: engines that are here.
        work: the working folder.
        tell: gets the progress, a line each.

    Returns:
        What failed, a line each; the rest is done all the same.
    """
    began, failed = now(), []
    todo = [
        (job, engine)
        for place, job in enumerate(jobs, first)
        for engine in order(place)
        if engine in chosen and engine not in job.skip
    ]
    for number, (job, engine) in enumerate(todo, 1):
        out = result_file(work, job, engine)
        head = f"[{number}/{len(todo)}] {job.name}: {engine}"
        if out.exists():
            tell(f"{head}: measured already")
            continue
        tell(f"{head} …")
        kept = write_job(work, job)
        command = [sys.executable, str(SCRIPT), "_measure", str(kept), engine, str(out), began]
        if status := supervise(command):
            failed.append(f"{job.name}: {engine}: exit status {status}")
            tell(f"{head}: failed, exit status {status}")
        else:
            one = read_measured(out)
            tell(f"{head}: {one.decided} of {len(one.answers)} decided in {one.wall:.1f} s")
    return failed


def supervise(command: list[str]) -> int:
    """Run a command to its exit status; stopped here, it and what it started are ended, too."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise


def forget(jobs: Sequence[Job], chosen: Sequence[EngineName], work: Path) -> None:
    """Delete what was measured of these tasks by these engines, but for what a run of them skips.

    Raises:
        DataError: a file cannot be deleted.
    """
    for job in jobs:
        for engine in (engine for engine in chosen if engine not in job.skip):
            path = result_file(work, job, engine)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise DataError(f"file {path} cannot be deleted: {error.strerror}") from None
