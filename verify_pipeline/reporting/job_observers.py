"""Observers that keep a job's file up to date (``job_file.py``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from verify_pipeline.certify.job_plan import JobPlan
from verify_pipeline.reporting.certification_state import OUTCOMES, StageState
from verify_pipeline.reporting.job_file import (
    Ending,
    JobNote,
    JobWriter,
    StageNote,
    certification_file,
    training_file,
)
from verify_pipeline.reporting.progress_lines import ProgressLines, left_text
from verify_pipeline.reporting.training_progress import TrainLines


class TrainingNotes(TrainLines):
    """Keeps the file of a training; nothing is written before its first epoch.

    Args:
        folder: of the training.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(self._keep)
        self._path = training_file(folder)
        self._writer: JobWriter | None = None
        self._line = ""

    def epoch_started(self, epoch: int, epochs: int, steps: int) -> None:
        """Write the file before the first epoch."""
        super().epoch_started(epoch, epochs, steps)
        if self._writer is None:
            self._writer = JobWriter(self._path, JobNote.begun("train"))
            self._write()

    def tick(self) -> None:
        """Write what has changed."""
        super().tick()
        self._write()

    def ended(self, error: BaseException | None) -> None:
        """Write how the training ended, or remove the file if it is finished."""
        _close(self._writer, self._write, error)

    def _keep(self, line: str) -> None:
        self._line = line.strip()

    def _write(self, **fields: Any) -> None:
        if self._writer is None:
            return
        left = self.left()
        self._writer.write(
            phase=f"epoch {self.epoch}/{self.epochs}",
            done=self.step,
            of=self.steps,
            rate=self.rate,
            left=None if left is None else (left.low, left.high),
            left_text="not known before the first steps" if left is None else left.text,
            line=self._line,
            **fields,
        )


class CertificationNotes(ProgressLines):
    """Keeps the file of a certification; nothing is written before its ledger is there.

    Args:
        ledger: the ledger's path.
    """

    def __init__(self, ledger: Path) -> None:
        super().__init__(self._keep)
        self._ledger = ledger
        self._writer: JobWriter | None = None
        self._line = ""

    def planned(self, plan: JobPlan) -> None:
        """Write the file."""
        super().planned(plan)
        path = certification_file(self._ledger, plan.info.run)
        self._writer = JobWriter(path, JobNote.begun("certify"))
        self._write()

    def tick(self) -> None:
        """Write what has changed."""
        super().tick()
        self._write()

    def ended(self, error: BaseException | None) -> None:
        """Write how the certification ended, or remove the file if it is finished."""
        _close(self._writer, self._write, error)

    def _keep(self, line: str) -> None:
        self._line = line

    def _write(self, **fields: Any) -> None:
        if self._writer is None:
            return
        stage, left = self.stage, self.left()
        self._writer.write(
            phase="preparing" if stage is None else stage.name,
            done=0 if stage is None else stage.done,
            of=0 if stage is None else stage.images,
            rate="" if stage is None else stage.rate,
            left=None if left is None else (left.low, left.high),
            left_text=left_text(self),
            line=self._line,
            stages=tuple(_note(each) for each in self.stages),
            **fields,
        )


def _note(stage: StageState) -> StageNote:
    counts = {name: stage.counts[name] for name in OUTCOMES}
    return StageNote(stage.name, stage.images, stage.done, round(stage.charged, 3), **counts)


def _close(
    writer: JobWriter | None, write: Callable[..., None], error: BaseException | None
) -> None:
    """Remove the file of a job that is finished, or write how it ended."""
    if writer is not None and error is None:
        writer.remove()
    else:
        write(**_ending(error))


def _ending(error: BaseException | None) -> dict[str, Any]:
    """How a job ended that did not finish, as fields of its note."""
    ending: Ending = "failed" if isinstance(error, Exception) else "stopped"
    return {"ending": ending, "error": str(error) if isinstance(error, Exception) else ""}
