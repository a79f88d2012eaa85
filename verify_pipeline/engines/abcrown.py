"""Runs α,β-CROWN: one process answers many questions, and after a crash another one continues.

The tool works through its list in order, and one exception ends all of it. Here, an instance on
which it crashes, hangs or runs out of memory is answered with the reason, and a new process gets
the remaining instances. The results file is read while the tool runs, so earlier answers are kept.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from verify_pipeline.certify.contract import Clock
from verify_pipeline.engines.job import (
    LOG,
    RESULTS,
    ToolQuestion,
    discard_bulk,
    read_point,
    write_job,
)
from verify_pipeline.engines.process import Limits, Process, why_it_ended
from verify_pipeline.engines.results import Row, read_rows
from verify_pipeline.engines.statuses import LATE, ToolClaim, read_status
from verify_pipeline.engines.tool import Tool
from verify_pipeline.errors import DataError
from verify_pipeline.problem import Reason

PAUSE = 0.05
"""Seconds between two reads of the results file."""


@dataclass(frozen=True, eq=False)
class ToolAnswer:
    """The answer to one question.

    Attributes:
        place: of the question.
        claim: what the tool says; nothing is replayed here.
        status: in its own words; empty where it did not come to say anything.
        seconds: since the answer before, or since the process was started.
        own_seconds: that the tool says it took; None where it says nothing.
        domains: that it visited, if it branched.
        point: flat float64, for UNSAFE: the counterexample that it kept, if it did.
        reason: for OPEN.
        detail: for a reader.
    """

    place: int
    claim: ToolClaim
    status: str
    seconds: float
    own_seconds: float | None = None
    domains: int | None = None
    point: Tensor | None = None
    reason: Reason | None = None
    detail: str = ""


class _End(enum.Enum):
    """How a process ended before it finished its list."""

    TIME = "time"
    FAILURE = "failure"


@dataclass(frozen=True)
class _Stop:
    """The end of a process: how, why, and how many seconds after its last answer."""

    kind: _End
    reason: Reason
    detail: str
    seconds: float


class Engine:
    """α,β-CROWN as an engine that answers questions.

    Args:
        tool: to run.
        config: YAML text in its schema.
        folder: for the files of each process, in folders of their own; logs stay there.
        limits: of a process.
        device: that it computes on: ``cpu`` or ``cuda``.
        clock: seconds from some origin.
        sleep: waits that many seconds.
    """

    def __init__(
        self,
        tool: Tool,
        config: str,
        folder: Path,
        limits: Limits | None = None,
        *,
        device: str = "cpu",
        clock: Clock = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.tool = tool
        self._config = config
        self._folder = folder
        self._limits = limits or Limits()
        self._device = device
        self._clock = clock
        self._sleep = sleep

    def ask(self, questions: Sequence[ToolQuestion]) -> Iterator[ToolAnswer]:
        """Yield the answer to each question in order, as soon as it is available.

        Raises:
            ConfigError: the configuration is not as it must be.
            DataError: the folder cannot be written.
        """
        todo = list(range(len(questions)))
        crashes = 0
        while todo:
            folder = self._new_folder()
            asked = [questions[place] for place in todo]
            config = write_job(folder, asked, self._config, self._device)
            seconds = [question.seconds for question in asked]
            done = 0
            stop = None
            try:
                for event in self._watch(config, folder, seconds):
                    if isinstance(event, ToolAnswer):
                        yield replace(event, place=todo[done])
                        done += 1
                    else:
                        stop = event
            finally:  # also if the caller stops early
                discard_bulk(folder)
            if done:
                crashes = 0
            todo = todo[done:]
            if stop is None or not todo:
                return
            crashes += stop.kind is _End.FAILURE
            yield self._given_up(todo.pop(0), stop, stop.seconds)
            if crashes >= self._limits.crashes:
                yield from (self._given_up(place, stop, 0.0) for place in todo)
                return

    def _watch(
        self, config: Path, folder: Path, seconds: Sequence[float]
    ) -> Iterator[ToolAnswer | _Stop]:
        """The answers of one process and, if some are missing, the reason at the end."""
        log = folder / LOG
        last = self._clock()
        left = self._limits.startup
        with Process(self.tool, config, folder, log, self._limits.memory) as process:
            done = 0
            while True:
                # read before the file, so that the last results are seen
                status = process.exit_status()
                rows = _rows_so_far(folder / RESULTS)[: len(seconds)]
                for place in range(done, len(rows)):
                    now = self._clock()
                    yield self._answer(folder, place, rows[place], now - last)
                    done, last, left = place + 1, now, 0.0
                if done == len(seconds):
                    return
                took = self._clock() - last
                if status is not None:
                    reason, detail = why_it_ended(status, log)
                    yield _Stop(_End.FAILURE, reason, f"{detail}; log: {log}", took)
                    return
                if took > self._limits.allowed(seconds[done]) + left:
                    detail = f"ended after {took:.0f} s; log: {log}"
                    yield _Stop(_End.TIME, Reason.TIMEOUT, detail, took)
                    return
                self._sleep(PAUSE)

    def _answer(self, folder: Path, place: int, row: Row, seconds: float) -> ToolAnswer:
        claim = read_status(row.status)
        words = f"{self.tool.title}: {row.status}"
        if row.domains is not None:
            words += f", {row.domains} domain{'' if row.domains == 1 else 's'}"
        answer = ToolAnswer(0, claim, row.status, seconds, row.seconds, row.domains, detail=words)
        if claim is ToolClaim.UNSAFE:
            return replace(answer, point=read_point(folder, place))
        if claim is ToolClaim.OPEN:
            known = row.status.removesuffix(LATE).startswith("unknown")
            reason = Reason.TIMEOUT if known else Reason.ERROR
            return replace(answer, reason=reason)
        return answer

    def _given_up(self, place: int, stop: _Stop, seconds: float) -> ToolAnswer:
        detail = f"{self.tool.title}: {stop.detail}"
        return ToolAnswer(place, ToolClaim.OPEN, "", seconds, reason=stop.reason, detail=detail)

    def _new_folder(self) -> Path:
        """A new folder."""
        number = 1 + max((int(p.name) for p in self._folder.glob("[0-9]*")), default=0)
        folder = self._folder / f"{number:04d}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise DataError(
                f"folder {folder}", expected="a place that can be written", got=str(error)
            ) from None
        return folder


def _rows_so_far(path: Path) -> tuple[Row, ...]:
    """The rows of a results file; none while it is missing, half-written or foreign."""
    try:
        return read_rows(path)
    except DataError:
        return ()
