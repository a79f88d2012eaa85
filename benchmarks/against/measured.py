"""What engines did of tasks: kept under a working folder, recorded beside the table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from against.tasks import ENGINES, Job
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.errors import DataError

JOB = "job.json"


@dataclass(frozen=True)
class Measured:
    """What an engine did of a task.

    Attributes:
        engine: of :data:`ENGINES`.
        version: of the engine.
        wall: seconds from the start of its process to its last answer.
        cpu: processor seconds of its processes.
        peak_mib: greatest resident memory of one of them.
        load: processes that wanted to run as it began, the last minute's mean.
        domains: that were searched, where it is known; and in how many seconds.
        searched: seconds of the instances with domains.
        answers: by instance: verified, falsified or unknown, and seconds.
        run: when the run that it is part of began, UTC; empty: not known.
        began: when it began, UTC; empty: not known.
        ended: when it ended, UTC; empty: not known.
        commit: of this package, as it began; empty: not known.
        cores: how many it might use; 0: not known.
    """

    engine: str
    version: str
    wall: float
    cpu: float
    peak_mib: float
    load: float
    domains: int
    searched: float
    answers: dict[str, tuple[str, float]]
    run: str = ""
    began: str = ""
    ended: str = ""
    commit: str = ""
    cores: int = 0

    def count(self, word: str) -> int:
        """Answers of that kind."""
        return sum(answer == word for answer, _ in self.answers.values())

    @property
    def decided(self) -> int:
        """Answers that decide."""
        return len(self.answers) - self.count("unknown")


Found = dict[str, dict[str, Measured]]
"""By task's name, by engine."""


def result_file(work: Path, job: Job, engine: str) -> Path:
    """Where it is kept what an engine did of a task."""
    return work / job.folder / f"{engine}.json"


def write_job(work: Path, job: Job) -> Path:
    """Keep what a task is beside what was done of it."""
    return write_whole(work / job.folder / JOB, json.dumps(asdict(job), indent=1))


def read_job(path: Path) -> Job:
    """A task that was kept."""
    return Job(**_read(path))


def read_measured(path: Path) -> Measured:
    """What an engine did, as it was kept."""
    return Measured(**_read(path))


def jobs_in(work: Path) -> list[Job]:
    """The tasks of a working folder, the last ones last."""
    paths = sorted(work.glob(f"*/{JOB}"), key=lambda path: path.stat().st_mtime)
    return list({(job := read_job(path)).name: job for path in paths}.values())


def collect(work: Path, recorded: Path) -> Found:
    """What is in the working folder, and for the rest what was recorded.

    Raises:
        DataError: a file is not as it was written.
    """
    found: dict[str, dict[str, Any]] = _read(recorded) if recorded.exists() else {}
    for path in sorted(work.glob(f"*/{JOB}"), key=lambda path: path.stat().st_mtime):
        name = read_job(path).name
        for engine in ENGINES:
            result = path.with_name(f"{engine}.json")
            if result.exists():
                found.setdefault(name, {})[engine] = _read(result)
    return {
        task: {engine: Measured(**by[engine]) for engine in ENGINES if engine in by}
        for task, by in found.items()
    }


def of_tasks(found: Found, jobs: tuple[Job, ...]) -> Found:
    """What was found of these tasks, in their order, without the engines that they skip."""
    return {
        job.name: {
            engine: one for engine, one in found.get(job.name, {}).items() if engine not in job.skip
        }
        for job in jobs
    }


def record(found: Found, path: Path) -> None:
    """Write everything as JSON, which :func:`collect` reads."""
    kept = {task: {e: asdict(m) for e, m in by.items()} for task, by in found.items()}
    write_whole(path, json.dumps(kept, indent=1))


def _read(path: Path) -> dict[str, Any]:
    try:
        value: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"file {path}", expected="JSON as written here", got=str(error)) from None
    return value
