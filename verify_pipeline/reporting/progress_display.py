"""The progress of a training and a certification, and who else watches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from verify_pipeline.certify.contract import Observer, Observers
from verify_pipeline.reporting.job_observers import CertificationNotes, TrainingNotes
from verify_pipeline.reporting.progress import ProgressBars
from verify_pipeline.reporting.progress_lines import ProgressLines
from verify_pipeline.reporting.ticker import Ticker
from verify_pipeline.reporting.training_progress import Bar, TrainLines, TrainProgress
from verify_pipeline.training import Several, Silent, TrainObserver


class ProgressDisplay:
    """A training's and a certification's progress on standard error, one after the other.

    On a terminal or in a notebook there are bars, elsewhere lines. Use it as a context: whatever
    happens, the terminal is as before at its end.

    Attributes:
        training: an observer of a training.
        certification: an observer of a certification.
        ticks: to be called once a second.
    """

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self.training: TrainObserver
        self.certification: Observer
        self.ticks: tuple[Callable[[], None], ...] = ()
        self._ends: tuple[Callable[[], None], ...] = ()
        if console.is_terminal or console.is_jupyter:
            bar, bars = Bar(console), ProgressBars(console)
            self.training = TrainProgress(bar)
            self.certification = Observers([_Handover(bar), bars])
            self._ends = (bar.stop, bars.stop)
            return

        def tell(line: str) -> None:
            console.print(line, markup=False, soft_wrap=True)

        self.training, self.certification = train, certify = TrainLines(tell), ProgressLines(tell)
        self.ticks = (train.tick, certify.tick)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for end in self._ends:
            end()


class _Handover(Observer):
    """Ends a training's bar before a certification's begin: a terminal shows one set at a time."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar

    def started(self, images: int, decided: int) -> None:
        """Take the training's bar away."""
        self._bar.stop()


@dataclass(frozen=True, eq=False)
class Watching:
    """Who is told what happens.

    Attributes:
        training: of a training.
        certification: of a certification.
    """

    training: TrainObserver
    certification: Observer


@contextmanager
def watched(
    progress: bool,
    training: TrainObserver | None = None,
    certification: Observer | None = None,
) -> Iterator[Watching]:
    """The observers of a call; with progress, those of standard error as well, told after them.

    Args:
        progress: whether there are bars, or lines where there is no terminal.
        training: the caller's own observer of a training, if there is one.
        certification: the caller's own observer of a certification, if there is one.
    """
    own = Watching(training or Silent(), certification or Observer())
    if not progress:
        yield own
        return
    with ProgressDisplay() as display, Ticker(display.ticks):
        yield Watching(
            Several(own.training, display.training),
            Observers([own.certification, display.certification]),
        )


@contextmanager
def noted_training(folder: Path | None, observer: TrainObserver) -> Iterator[TrainObserver]:
    """The observer; with a folder, one that also keeps the job's file there for `status`."""
    if folder is None:
        yield observer
        return
    notes = TrainingNotes(folder)
    with _noting(notes):
        yield Several(notes, observer)


@contextmanager
def noted_certification(ledger: Path | None, observer: Observer) -> Iterator[Observer]:
    """The observer; with a ledger, one that also keeps the job's file beside it for `status`."""
    if ledger is None:
        yield observer
        return
    notes = CertificationNotes(ledger)
    with _noting(notes):
        yield Observers([notes, observer])


@contextmanager
def _noting(notes: TrainingNotes | CertificationNotes) -> Iterator[None]:
    """Keep a job's file while something runs, and note how it ended."""
    try:
        with Ticker([notes.tick]):
            yield
    except BaseException as error:
        notes.ended(error)
        raise
    notes.ended(None)
