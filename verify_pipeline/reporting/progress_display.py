"""The progress of a training and a certification, and who else watches them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console

from verify_pipeline.certify.contract import Observer, Observers
from verify_pipeline.reporting.progress import ProgressBars
from verify_pipeline.reporting.training_progress import Bar, TrainProgress
from verify_pipeline.training import Several, Silent, TrainObserver


class ProgressDisplay:
    """A training's and a certification's progress on standard error, one after the other.

    Use it as a context: whatever happens, the terminal is as before at its end.

    Attributes:
        training: an observer of a training.
        certification: an observer of a certification.
    """

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self._bar = Bar(console)
        self._bars = ProgressBars(console)
        self.training: TrainObserver = TrainProgress(self._bar)
        self.certification: Observer = Observers([_Handover(self._bar), self._bars])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()
        self._bars.__exit__(kind, error, trace)


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
    """The observers of a call; with progress, bars on standard error as well, told after them.

    Args:
        progress: whether there are bars.
        training: the caller's own observer of a training, if there is one.
        certification: the caller's own observer of a certification, if there is one.
    """
    own = Watching(training or Silent(), certification or Observer())
    if not progress:
        yield own
        return
    with ProgressDisplay() as display:
        yield Watching(
            Several(own.training, display.training),
            Observers([own.certification, display.certification]),
        )
