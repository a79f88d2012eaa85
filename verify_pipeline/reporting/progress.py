"""A certification's progress on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.progress import TaskID as BarId
from rich.table import Column
from rich.text import Text

from verify_pipeline.problem import Verdict
from verify_pipeline.reporting.certification_state import (
    OUTCOMES,
    CertificationState,
    StageState,
    counts_text,
)
from verify_pipeline.reporting.durations import duration
from verify_pipeline.reporting.progress_lines import (
    already_line,
    expected_lines,
    left_text,
    lost_line,
    took_over_line,
    waiting_line,
)

OTHER_COLUMNS = 74
"""Columns of a row without its bar."""


class ProgressBars(CertificationState):
    """A bar for each stage, with its rate, the time left, and the counts of its verdicts.

    Under the bars stand the counts of the whole run and the time that is left of it. Use it as a
    context manager. Nothing is drawn before the first stage, so an earlier error leaves the
    terminal unchanged.

    Args:
        console: where to draw.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        room = max(4, min(30, console.width - OTHER_COLUMNS))
        cut = Column(no_wrap=True, overflow="ellipsis")
        self._progress = _WithFooter(
            _OfStage(lambda stage: stage.name, Column(no_wrap=True)),
            BarColumn(bar_width=room),
            MofNCompleteColumn(),
            _OfStage(_rate, Column(no_wrap=True, justify="right")),
            _OfStage(self._time, Column(no_wrap=True)),
            _OfStage(lambda stage: counts_text(stage.counts), cut),
            console=console,
        )
        self._progress.state = self
        self._bars: dict[str, BarId] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bars as they are."""
        if self._bars:  # stopping bars that never started would print an empty line
            self._progress.stop()

    def started(self, images: int, decided: int) -> None:
        """Print how many images are decided already, if there are any."""
        super().started(images, decided)
        if decided:
            self._progress.console.print(already_line(images, decided))

    def stage_started(self, stage: str, images: int) -> None:
        """Begin the stage's bar; or make it longer, if more images come to the stage."""
        super().stage_started(stage, images)
        state = self.named(stage)
        assert state is not None
        if self.whole is not None and stage in self._bars:
            self._progress.update(self._bars[stage], total=state.images)
            return
        self._progress.start()
        self._bars[stage] = self._progress.add_task(stage, total=images, stage=state)

    def decided(self, index: int, verdict: Verdict) -> None:
        """Count the verdict beside the bar."""
        super().decided(index, verdict)
        self._move()

    def looked_at(self, stage: str, images: int) -> None:
        """Move the bar on; after the first batch, print what the whole run may take."""
        super().looked_at(stage, images)
        self._move()
        if len(self.stages) == 1:
            for line in expected_lines(self, images):
                self._progress.console.print(line, markup=False, soft_wrap=True)

    def waits_for(self, images: int, owners: Sequence[str]) -> None:
        """Print who is waited for."""
        self._progress.console.print(waiting_line(images, owners), markup=False, soft_wrap=True)

    def took_over(self, images: int, owners: Sequence[str]) -> None:
        """Print whose images they were."""
        self._progress.console.print(took_over_line(images, owners), markup=False, soft_wrap=True)

    def lost_worker(self, images: int, why: str) -> None:
        """Print that a worker was lost."""
        self._progress.console.print(lost_line(images, why), markup=False, soft_wrap=True)

    def _move(self) -> None:
        for stage in self.stages:
            if stage.ended is None:
                self._progress.update(self._bars[stage.name], completed=stage.done)

    def _time(self, stage: StageState) -> str:
        """What a stage took, or what is left of the stage that runs."""
        if stage.ended is not None or stage.whose:
            return duration(stage.seconds)
        left = stage.left(self.limit)
        return "" if left is None else f"{left.text} left"


def _rate(stage: StageState) -> str:
    return stage.rate


class _OfStage(ProgressColumn):
    """A column that shows a text of the row's stage."""

    def __init__(self, text: Callable[[StageState], str], column: Column) -> None:
        super().__init__(table_column=column)
        self._text = text

    def render(self, task: Task) -> Text:
        """The text as it is now."""
        return Text(self._text(task.fields["stage"]))


class _WithFooter(Progress):
    """Bars with a line under them."""

    state: CertificationState | None = None

    def get_renderables(self) -> list[RenderableType]:
        """The bars, and the line of the whole run while it goes on."""
        shown: list[RenderableType] = list(super().get_renderables())
        if self.state is not None and self.state.stage is not None:
            shown.append(Text(footer(self.state), style="dim"))
        return shown


def footer(state: CertificationState) -> str:
    """Counts of the whole run, and the time that is left: the line under the bars."""
    counts = ", ".join(f"{state.counts[name]:,} {name}" for name in OUTCOMES)
    line = f"{counts}, {state.open:,} open"
    going = state.open and state.stage is not None and state.stage.ended is None
    return f"{line}\ntime left: {left_text(state)}" if going else line
