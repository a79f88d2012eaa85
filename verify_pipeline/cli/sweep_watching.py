"""What sweeps, tunings and comparisons print: for people, quietly, or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from verify_pipeline.cli.job_lines import JobLines
from verify_pipeline.cli.options import Shown
from verify_pipeline.cli.watching import refuse_both
from verify_pipeline.sweeps.watching import JobWatcher

if TYPE_CHECKING:
    import pandas as pd

    from verify_pipeline.certify.tally import Summary
    from verify_pipeline.reporting import JsonLines
    from verify_pipeline.sweeps.comparison import FrontComparison


class SweepReporter(Protocol):
    """Prints what a sweep, a tuning or a comparison does."""

    @property
    def watcher(self) -> JobWatcher:
        """Is told how the runs go."""
        ...

    def finished(self, summaries: Sequence[Summary], rows: pd.DataFrame) -> None:
        """Runs have ended: certifications of test images, and a row for each run or trial."""

    def compared(self, compared: FrontComparison) -> None:
        """Fronts were compared."""

    def wrote(self, files: Sequence[Path], about: str = "") -> None:
        """Files were made, after everything else; a line about them."""


class _Quiet:
    """The final result alone."""

    watcher = JobWatcher()

    def finished(self, summaries: Sequence[Summary], rows: pd.DataFrame) -> None:
        """The table of the verdicts."""
        from verify_pipeline.cli.show import show_summaries

        if summaries:
            show_summaries(summaries)

    def compared(self, compared: FrontComparison) -> None:
        """The table of the methods, and its notes."""
        from verify_pipeline.cli.show import show_rows
        from verify_pipeline.sweeps.comparison_report import notes_of, rows_of

        show_rows(rows_of(compared), notes_of(compared))

    def wrote(self, files: Sequence[Path], about: str = "") -> None:
        """Nothing."""


class _ForPeople(_Quiet):
    """A line for each thing that happens on standard error, results on standard output."""

    def __init__(self, what: str) -> None:
        self.watcher = JobLines(what)

    def wrote(self, files: Sequence[Path], about: str = "") -> None:
        """A line for each."""
        for line in (*(f"wrote {path}" for path in files), about):
            if line:
                typer.echo(line)


class _AsJson:
    """One object a line on standard output; docs/watching.md documents every field."""

    def __init__(self, what: str) -> None:
        from verify_pipeline.reporting import JsonLines

        self._lines = JsonLines(sys.stdout)
        self.watcher = _JobEvents(self._lines, what)

    def finished(self, summaries: Sequence[Summary], rows: pd.DataFrame) -> None:
        """``result`` for each row."""
        self._rows("result", rows)

    def compared(self, compared: FrontComparison) -> None:
        """``method`` for each method, ``note`` for each note."""
        from verify_pipeline.sweeps.comparison_report import notes_of

        self._rows("method", compared.to_frame())
        for line in notes_of(compared):
            self.watcher.noted(line)

    def wrote(self, files: Sequence[Path], about: str = "") -> None:
        """``wrote``."""
        self._lines.wrote(files)

    def _rows(self, event: str, rows: pd.DataFrame) -> None:
        for row in rows.to_dict("records"):
            self._lines.tell(event, **{str(name): value for name, value in row.items()})


class _JobEvents(JobWatcher):
    """Tells what happens as JSON."""

    def __init__(self, lines: JsonLines, what: str) -> None:
        self._tell, self._what = lines.tell, what

    def planned(self, total: int, done: int, jobs: int) -> None:
        """``planned``."""
        self._tell("planned", what=self._what, total=total, done=done, at_once=jobs)

    def started(self, name: str) -> None:
        """``run started``."""
        self._tell("run started", run=name)

    def ended(self, name: str, error: str | None, seconds: float, note: str = "") -> None:
        """``run ended``."""
        self._tell("run ended", run=name, error=error, seconds=seconds, note=note)

    def expected(self, left: int, seconds: float) -> None:
        """``expected``."""
        self._tell("expected", left=left, seconds=seconds)

    def noted(self, line: str) -> None:
        """``note``."""
        self._tell("note", text=line)


def sweep_reporter(shown: Shown, what: str) -> SweepReporter:
    """What prints as the options say.

    Args:
        shown: the options.
        what: the runs are called, in the plural.

    Raises:
        ConfigError: both options were given.
    """
    refuse_both(shown)
    if shown.json:
        return _AsJson(what)
    return _Quiet() if shown.quiet else _ForPeople(what)
