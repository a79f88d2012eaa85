"""Where jobs stand, as another process sees it: from a run's folder, or from a ledger.

Counts come from what is kept anyway, the checkpoint and the ledger. The job's own file tells what
it does at the moment, and whether its process is still there (``reporting/job_file.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.tally import Summary, summaries
from verify_pipeline.errors import LedgerError
from verify_pipeline.reporting.job_file import (
    JobNote,
    certification_file,
    ledgers_with_jobs,
    read_note,
    training_file,
)
from verify_pipeline.reporting.json_lines import run_fields
from verify_pipeline.reporting.training_state import epoch_line
from verify_pipeline.run_folders import LEDGER
from verify_pipeline.training.checkpoint import read_progress

SQLITE = b"SQLite format 3\0"
"""The first bytes of a ledger."""

JobState = Literal["never started", "running", "finished", "stopped", "failed", "killed"]
"""``stopped``: by Ctrl-C, or nobody knows how; ``killed``: its process is gone without a word."""


@dataclass(frozen=True)
class TrainingStatus:
    """Where a training stands.

    Attributes:
        state: of the job.
        epochs: of the whole training; None: unknown before its first checkpoint.
        metrics: of the epochs that are done.
        note: what the job's file says; None: there is none, as of a job that finished.
    """

    state: JobState
    epochs: int | None = None
    metrics: tuple[dict[str, Any], ...] = ()
    note: JobNote | None = None

    @property
    def line(self) -> str:
        """The line of the last epoch; before it, the last that was told, or nothing."""
        if self.metrics:
            return epoch_line(self.metrics[-1], self.epochs or 0)
        return "" if self.note is None else self.note.line

    def fields(self) -> dict[str, Any]:
        """For programs; docs/watching.md says what each is."""
        return {
            "state": self.state,
            "epochs": self.epochs,
            "done": len(self.metrics),
            "last_line": self.line,
            **_of_note(self.note, self.state),
        }


@dataclass(frozen=True)
class CertificationStatus:
    """Where the certification of a run stands.

    Attributes:
        state: of the job.
        ledger: its path.
        summary: its verdicts so far; None: it never began.
        note: what the job's file says; None: there is none, as of a job that finished.
    """

    state: JobState
    ledger: Path
    summary: Summary | None = None
    note: JobNote | None = None

    @property
    def open(self) -> int | None:
        """Images without any verdict; None: unknown, as in ledgers of older versions."""
        if self.summary is None or self.summary.requested is None:
            return None
        return self.summary.missing

    @property
    def line(self) -> str:
        """The last line that the job told, or its last verdict; empty: there is neither."""
        if self.note is not None and self.note.line:
            return self.note.line
        records = () if self.summary is None else self.summary.records
        if not records:
            return ""
        last = max(records, key=lambda record: record.decided_at)
        return f"image {last.index}: {last.status.value} by {last.stage}"

    @property
    def last_verdict(self) -> float | None:
        """Unix time of the last verdict; None: there is none."""
        if self.summary is None:
            return None
        return max((record.decided_at for record in self.summary.records), default=None)

    @property
    def counts(self) -> dict[str, int]:
        """Verdicts so far by name, as the table counts them."""
        if self.summary is None:
            return {}
        tally = self.summary.tally
        return {
            "verified": tally.proved,
            "falsified": sum(tally.falsified.values()),
            "wrong": tally.wrong,
            "undecided": tally.undecided,
            "claimed": tally.claimed,
            "tied": tally.tied,
        }

    def fields(self) -> dict[str, Any]:
        """For programs; docs/watching.md says what each is."""
        known: dict[str, Any] = {}
        if self.summary is not None:
            known = {
                **run_fields(self.summary.info),
                "requested": self.summary.requested,
                "done": self.summary.tally.images,
                "open": self.open,
                "last_verdict": self.last_verdict,
                "last_line": self.line,
                **self.counts,
            }
        ledger = str(self.ledger)
        return {"state": self.state, "ledger": ledger, **known, **_of_note(self.note, self.state)}


@dataclass(frozen=True)
class PlaceStatus:
    """Where the jobs of a folder or of a ledger stand.

    Attributes:
        place: the folder or the ledger.
        training: of a folder; None: there is none, but there is a certification.
        certifications: one for each run of each ledger.
    """

    place: Path
    training: TrainingStatus | None
    certifications: tuple[CertificationStatus, ...]

    def fields(self) -> dict[str, Any]:
        """For programs; docs/watching.md says what each is."""
        training = None if self.training is None else self.training.fields()
        certifications = [each.fields() for each in self.certifications]
        place = str(self.place)
        return {"place": place, "training": training, "certifications": certifications}


def status_of(place: Path) -> PlaceStatus:
    """Where the jobs of a run's folder, or of a ledger, stand.

    An empty folder is a job that never started.

    Raises:
        LedgerError: nothing is there, a folder of other things, a file that is no ledger, or a
            damaged one.
        TrainingError: the folder's checkpoint is damaged.
        ConfigError: a job's file is damaged.
    """
    if place.is_dir():
        ledgers = sorted(_ledgers(place))
        found = tuple(each for path in ledgers for each in _certifications(path))
        training = _training(place)
        if training.state == "never started" and found:
            return PlaceStatus(place, None, found)
        if training.state == "never started" and any(place.iterdir()):
            raise _nothing(f"folder {place}", "one with neither a checkpoint nor a ledger")
        none = CertificationStatus("never started", place / LEDGER)
        return PlaceStatus(place, training, found or (none,))
    if not place.exists():
        raise _nothing(str(place), "nothing there")
    return PlaceStatus(place, None, tuple(_certifications(place)))


def _nothing(place: str, got: str) -> LedgerError:
    return LedgerError(
        place,
        expected="a ledger, or the folder of a run",
        got=got,
        remedy="A job that has just been typed writes its first file within seconds.",
    )


def _ledgers(folder: Path) -> set[Path]:
    """The ledgers of a folder, also those that a job's file says are to come."""
    others = {path for path in folder.glob("*.sqlite") if _is_ledger(path)}
    found = {folder / LEDGER, *ledgers_with_jobs(folder)}
    return others | {path for path in found if path.is_file()}


def _is_ledger(path: Path) -> bool:
    """Whether a file is a ledger; another program's database in the folder is none of ours."""
    try:
        with Ledger.existing(path):
            return True
    except LedgerError:
        return False


def _training(folder: Path) -> TrainingStatus:
    note = read_note(training_file(folder))
    found = read_progress(folder)
    if found is None and note is None:
        return TrainingStatus("never started")
    metrics = () if found is None else tuple(found[0].metrics)
    epochs = None if found is None else found[1]
    state = _state(note, finished=found is not None and found[0].finished(found[1]))
    return TrainingStatus(state, epochs, metrics, note)


def _certifications(path: Path) -> Iterator[CertificationStatus]:
    """The runs of a ledger, or one that never started."""
    _refuse_foreign(path)
    with Ledger.existing(path) as ledger:
        found = summaries(ledger)
    if not found:
        yield CertificationStatus("never started", path)
    for summary in found:
        note = read_note(certification_file(path, summary.info.run))
        yield CertificationStatus(_state(note, finished=summary.complete), path, summary, note)


def _refuse_foreign(path: Path) -> None:
    """Refuse a file that does not begin as a ledger does, before it is called a damaged one."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(SQLITE))
    except OSError as error:
        raise LedgerError(
            f"ledger {path}", expected="a file that can be read", got=str(error)
        ) from None
    if begins and begins != SQLITE:
        raise LedgerError(
            f"file {path}",
            expected="a ledger, or the folder of a run",
            got="another kind of file",
            remedy="Certifications write ledger.sqlite beside the network if nothing else is said.",
        )


def _state(note: JobNote | None, *, finished: bool) -> JobState:
    """What a job's file and its results say together."""
    if note is not None and note.runs:
        return "running"
    if finished:
        return "finished"
    if note is None:
        return "stopped"
    return "killed" if note.ending == "running" else note.ending


def _of_note(note: JobNote | None, state: JobState) -> dict[str, Any]:
    """A job's file as fields; what it does now only while it runs."""
    if note is None:
        return {}
    facts = {
        "process": note.process.number,
        "host": note.process.host,
        "command": note.command,
        "began": note.began,
        "updated": note.updated,
        "error": note.error,
    }
    if state != "running":
        return facts
    low, high = (None, None) if note.left is None else note.left
    now = {
        "phase": note.phase,
        "phase_done": note.done,
        "phase_of": note.of,
        "rate": note.rate,
        "stages": [asdict(stage) for stage in note.stages],
        "left_at_least": low,
        "left_at_most": high,
    }
    return {**facts, **now}
