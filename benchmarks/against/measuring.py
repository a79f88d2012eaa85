"""One engine does one task; what runs it is a process of its own, which starts nothing else."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from against import abcrown, cascade
from against.answers import Given
from against.measured import Measured
from against.tasks import OURS, Job
from verify_pipeline._version import __version__
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify.settings import search_text
from verify_pipeline.engines import find_tool

ROOT = Path(__file__).resolve().parents[2]
MEASURED_CODE = ("verify_pipeline", "abcrown_configs")

GIVE_UP = "3"


def cores_here() -> int:
    """How many cores this process may use, and those that it starts."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 0


def measure(job: Job, engine: str, out: Path, run: str) -> None:
    """Let an engine do a task, and write what it did.

    Args:
        job: the task.
        engine: of :data:`ENGINES`.
        out: the file to write; logs and the engine's files go beside it.
        run: when the run began that this is part of, see :func:`now`.

    Raises:
        VerifyPipelineError: the engine failed as a whole; nothing is written.
    """
    load, began, commit, start = os.getloadavg()[0], now(), commit_here(), time.perf_counter()
    if engine in OURS:
        found = _ours(job, engine, out.with_suffix(".log"))
        wall, version = time.perf_counter() - start, __version__
    else:
        found = _theirs(job, engine, out.with_suffix(""))
        wall, version = sum(one.seconds for one in found), find_tool().version
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    measured = Measured(
        engine,
        version,
        wall,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 1024,
        load,
        sum(one.domains for one in found),
        sum(one.seconds for one in found if one.domains),
        {one.instance: (one.answer, one.seconds) for one in found},
        run,
        began,
        now(),
        commit,
        cores_here(),
    )
    write_whole(out, json.dumps(asdict(measured), indent=1))


def _ours(job: Job, engine: str, log: Path) -> list[Given]:
    options = ["--give-up", GIVE_UP] if engine == "cascade-giving-up" else []
    answers = cascade.of_images if job.data else cascade.of_list
    with tempfile.TemporaryDirectory() as work:
        return list(answers(job, Path(work), log, options))


def _theirs(job: Job, engine: str, work: Path) -> list[Given]:
    config = search_text(job.tuned) if engine == "abcrown-tuned" else abcrown.DEFAULTS
    answers = abcrown.of_images if job.data else abcrown.of_list
    return list(answers(job, work, config))


def now() -> str:
    """The time, UTC, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def commit_here() -> str:
    """The commit of this checkout, and whether the package differs from it; empty: not known."""

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    try:
        head = git("rev-parse", "--short", "HEAD")
        changed = git("diff", "--quiet", "HEAD", "--", *MEASURED_CODE).returncode == 1
    except OSError:  # no git
        return ""
    return head.stdout.strip() + " with changes" * changed if head.returncode == 0 else ""
