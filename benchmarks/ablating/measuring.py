"""Passes over all tasks: with everything on, and with each mechanism off."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from against.measuring import commit_here
from against.running import supervise
from against.tasks import Job

from ablating.mechanisms import MECHANISMS, Mechanism
from ablating.tasks import Done, do
from verify_pipeline.atomic_write import write_whole
from verify_pipeline.errors import DataError

ALL_ON = ("all on", "all on, again")
"""Names of the passes without anything off: what differs between them is noise."""

SCRIPT = Path(__file__).resolve().parents[1] / "ablations.py"


class Measured:
    """What was measured, one file for each task of each pass.

    Args:
        work: the folder.
        jobs: the tasks.
    """

    def __init__(self, work: Path, jobs: Sequence[Job]) -> None:
        self.work, self.jobs = work, tuple(jobs)

    def path(self, name: str, job: Job) -> Path:
        """The file of a pass's task."""
        digits = hashlib.sha256(name.encode()).hexdigest()[:8]
        return self.work / job.folder / f"{digits}.json"

    def read(self, name: str, job: Job) -> Done | None:
        """What was measured; None: nothing yet."""
        path = self.path(name, job)
        if not path.exists():
            return None
        known = json.loads(path.read_text(encoding="utf-8"))
        return Done(known["seconds"], known["wall"], known["answers"], tuple(known["parts"]))

    def commits(self) -> set[str]:
        """The commits that were measured."""
        paths = self.work.glob("*/*.json")
        return {json.loads(path.read_text(encoding="utf-8"))["commit"] for path in paths}

    def write(self, name: str, job: Job, done: Done) -> None:
        """Keep what was measured."""
        kept = {"pass": name, "task": job.name, "commit": commit_here(), **asdict(done)}
        path = self.path(name, job)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(kept, indent=1))

    def has_part(self, mechanism: Mechanism, job: Job) -> bool:
        """Whether a mechanism did something in a task when all were on."""
        with_all = self.read(ALL_ON[0], job)
        return with_all is not None and mechanism.part in with_all.parts


def passes(only: Sequence[str]) -> list[str]:
    """Names of the passes; of the mechanisms, those whose names begin with one of ``only``.

    Raises:
        DataError: there is none.
    """
    names = [one.name for one in MECHANISMS if not only or one.name.startswith(tuple(only))]
    if not names:
        known = ", ".join(one.name for one in MECHANISMS)
        raise DataError(f"--only {' '.join(only)}", expected=f"some of {known}")
    return [ALL_ON[0], *names, ALL_ON[1]]


def measure_all(tasks: Path, measured: Measured, only: Sequence[str]) -> None:
    """Every pass that is not there yet, each in a process of its own.

    Raises:
        DataError: a pass failed.
    """
    for name in passes(only):
        command = [sys.executable, str(SCRIPT), str(tasks), "--work", str(measured.work)]
        if status := supervise([*command, "--pass", name]):
            raise DataError(f"pass {name!r} failed: exit status {status}")


def measure_pass(name: str, measured: Measured) -> None:
    """One pass, in this process; a task that was measured is not measured again."""
    torch.set_num_threads(1)
    mechanism = next((one for one in MECHANISMS if one.name == name), None)
    todo = [
        job
        for job in measured.jobs
        if measured.read(name, job) is None
        and (mechanism is None or measured.has_part(mechanism, job))
    ]
    if todo:
        do(replace(todo[0], indices=":1"), None, count=False)  # what is loaded once is nobody's
    for job in todo:
        done = do(job, mechanism, count=name == ALL_ON[0])
        measured.write(name, job, done)
        told = f"{name}: {job.name}: {done.decided} of {len(done.answers)}, {done.seconds:.1f} s"
        print(told, file=sys.stderr, flush=True)
