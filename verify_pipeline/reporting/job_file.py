"""A job's file: what it does now, for other processes to read; and whether the job still runs.

The file is small JSON, written whole at most once a second by a thread of its own, so that it slows
nothing down. A job that finishes removes it, since the checkpoint or the ledger says the rest. A
process that was killed leaves it as it was: its number, together with the time at which it began,
tells that the job is gone.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from verify_pipeline.atomic_write import write_whole
from verify_pipeline.certify.records import Run
from verify_pipeline.errors import ConfigError, VerifyPipelineError
from verify_pipeline.job_process import JobProcess

TRAINING = "job.json"
"""Name of a training's file, in its folder."""

CERTIFICATION = re.compile(r"(?P<ledger>.+)\.[0-9a-f]{8}\.job\.json")
"""Name of a certification's file: its ledger's name, and a digest of the run."""

HEARTBEAT = 20.0
"""Seconds after which a file is written again, even if nothing has changed."""

Kind = Literal["train", "certify"]
Ending = Literal["running", "stopped", "failed"]


@dataclass(frozen=True)
class StageNote:
    """How far a stage of a certification is.

    Attributes:
        stage: its name.
        images: that have come to it.
        done: of these, those that it is done with.
        seconds: that decided images were charged for it.
        verified: images that it verified.
        falsified: images that it falsified.
        wrong: images that it found misclassified.
        undecided: images that it was the last to try.
    """

    stage: str
    images: int
    done: int
    seconds: float
    verified: int = 0
    falsified: int = 0
    wrong: int = 0
    undecided: int = 0


@dataclass(frozen=True)
class JobNote:
    """What a job's file says.

    Attributes:
        job: ``train`` or ``certify``.
        process: that does it.
        command: that was typed.
        began: Unix time in seconds.
        updated: Unix time of the last writing.
        ending: ``running``, ``stopped`` by Ctrl-C, or ``failed``.
        error: why it failed; empty: it did not.
        phase: the stage, or the epoch.
        done: images of the stage, or steps of the epoch, that are done.
        of: how many there are.
        rate: as text; empty: not known yet.
        left: seconds of the whole job that are left, at least and at most; None: not known.
        left_text: the same for people, with what is not known.
        line: the last line that was told.
        stages: of a certification, those that have begun.
    """

    job: Kind
    process: JobProcess
    command: str
    began: float
    updated: float
    ending: Ending = "running"
    error: str = ""
    phase: str = ""
    done: int = 0
    of: int = 0
    rate: str = ""
    left: tuple[float, float | None] | None = None
    left_text: str = ""
    line: str = ""
    stages: tuple[StageNote, ...] = ()

    @staticmethod
    def begun(job: Kind) -> JobNote:
        """The note of a job that this process begins now."""
        now = time.time()
        return JobNote(job, JobProcess.own(), _command(), now, now)

    @property
    def runs(self) -> bool:
        """Whether the job runs, as far as can be told here.

        A sign that is dated far in the future is no sign of now: a clock went back since, or the
        clocks of two hosts differ.
        """
        return self.ending == "running" and self.process.runs(abs(time.time() - self.updated))


def _command() -> str:
    """What was typed, quoted for a shell."""
    name = Path(sys.argv[0]).name
    return shlex.join(["verify-pipeline" if name == "__main__.py" else name, *sys.argv[1:]])


def training_file(folder: Path) -> Path:
    """Where a training writes."""
    return folder / TRAINING


def certification_file(ledger: Path, run: Run) -> Path:
    """Where the certification of a run writes; others may use the same ledger meanwhile."""
    digest = hashlib.sha256("\0".join(astuple(run)).encode()).hexdigest()[:8]
    return ledger.with_name(f"{ledger.name}.{digest}.job.json")


def ledgers_with_jobs(folder: Path) -> set[Path]:
    """The ledgers of a folder beside which files of jobs are."""
    names = (CERTIFICATION.fullmatch(path.name) for path in folder.glob("*.job.json"))
    return {folder / name["ledger"] for name in names if name is not None}


def read_note(path: Path) -> JobNote | None:
    """What a job's file says; None if there is none.

    Raises:
        ConfigError: it is damaged, or of another program.
    """
    try:
        return _NOTE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ConfigError(
            str(path),
            expected="the file of a job of verify-pipeline",
            got=str(error).splitlines()[0],
            remedy="Delete the file; nothing but the status of a running job depends on it.",
        ) from None


_NOTE: TypeAdapter[JobNote] = TypeAdapter(JobNote)


class JobWriter:
    """Writes a job's file; a place that cannot be written is no reason to stop a job.

    Where several processes work on the same run, the first of them writes.

    Args:
        path: of the file.
        note: of this process's job.
    """

    def __init__(self, path: Path, note: JobNote) -> None:
        self._path, self._note = path, note
        self._written = -math.inf

    def write(self, **fields: Any) -> None:
        """Write what has changed, or that the job is still there."""
        note = replace(self._note, **fields)
        now = time.monotonic()  # the wall clock may go back, and no sign would follow for as long
        if note == self._note and now - self._written < HEARTBEAT:
            return
        self._note, self._written = note, now
        if self._is_anothers():
            return
        dated = replace(note, updated=time.time())
        text = json.dumps(asdict(dated), ensure_ascii=False, indent=1)
        with suppress(VerifyPipelineError):
            write_whole(self._path, f"{text}\n")

    def remove(self) -> None:
        """Remove the file of a job that is finished."""
        if not self._is_anothers():
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def _is_anothers(self) -> bool:
        try:
            other = read_note(self._path)
        except ConfigError:
            return False
        return other is not None and other.process != self._note.process and other.runs
