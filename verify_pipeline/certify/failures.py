"""A stage's exception: the reason of its images, and its traceback in a file beside the ledger."""

from __future__ import annotations

import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from verify_pipeline.bounds.memory import is_out_of_memory
from verify_pipeline.certify.contract import Observer
from verify_pipeline.errors import UnsupportedOperatorError, VerifyPipelineError
from verify_pipeline.problem import Reason, Verdict

DETAIL_LENGTH = 500
TRACE_LENGTH = 20_000
"""Characters of a message and of a traceback, at most; of a traceback the last ones are kept."""

TRACES = ".tracebacks.txt"
"""What the file of tracebacks is called, after the name of its ledger."""


@dataclass(frozen=True)
class StageFailure:
    """A stage's exception as text: the exception itself would keep tensors alive.

    Attributes:
        reason: of the images that stay open.
        detail: its type and message.
        trace: its traceback; empty where the reason says enough.
        of_one: whether one image alone may have raised it, so that others are to be tried without.
    """

    reason: Reason
    detail: str
    trace: str = ""
    of_one: bool = False

    @staticmethod
    def of(error: Exception) -> StageFailure:
        """The failure of an exception."""
        detail = f"{type(error).__name__}: {error}"[:DETAIL_LENGTH]
        if is_out_of_memory(error):
            return StageFailure(Reason.MEMORY, detail)
        if isinstance(error, UnsupportedOperatorError | NotImplementedError):
            return StageFailure(Reason.UNSUPPORTED, detail)
        trace = "".join(traceback.format_exception(error))[-TRACE_LENGTH:]
        of_one = not isinstance(error, VerifyPipelineError)  # these are of files and settings
        return StageFailure(Reason.ERROR, detail, trace, of_one)


class Tracebacks(Observer):
    """Keeps the tracebacks of a certification in a file beside its ledger.

    A file that cannot be written is no reason to stop a certification.

    Args:
        ledger: its path; None: nothing is kept.
    """

    def __init__(self, ledger: Path | None) -> None:
        self._path = None if ledger is None else ledger.with_name(ledger.name + TRACES)
        self._kept: set[int] = set()

    def raised(self, index: int, stage: str, trace: str) -> None:
        """Append a traceback to the file."""
        if self._path is None:
            return
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"image {index}, stage {stage}\n{trace}\n")
            self._kept.add(index)

    def named(self, index: int, verdict: Verdict) -> Verdict:
        """The verdict; if an exception left its image open, with the file's name in its detail."""
        if self._path is None or verdict.reason is not Reason.ERROR or index not in self._kept:
            return verdict
        return replace(verdict, detail=f"{verdict.detail} (traceback: {self._path.name})")
