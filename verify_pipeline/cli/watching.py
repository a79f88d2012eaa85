"""What the commands that train and certify print: for people, quietly, or as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from verify_pipeline.cli.options import Shown
from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from verify_pipeline.certify.contract import Observer
    from verify_pipeline.certify.radii import RobustnessDistribution
    from verify_pipeline.certify.settings import Plan
    from verify_pipeline.certify.tally import Summary
    from verify_pipeline.config import Recipe
    from verify_pipeline.onnx import ExportReport
    from verify_pipeline.proving.recorder import Recording
    from verify_pipeline.training import TrainObserver


class Reporter(Protocol):
    """Prints what a command does."""

    @property
    def progress(self) -> bool:
        """Whether progress is shown on standard error."""
        ...

    @property
    def training(self) -> TrainObserver | None:
        """Is told of a training; None: nobody is."""
        ...

    @property
    def certification(self) -> Observer | None:
        """Is told of a certification; None: nobody is."""
        ...

    def ignored(self, chosen: Plan, search: object) -> None:
        """Settings of the search may have no effect; see ``arguments.tell_ignored``."""

    def trained(self, recipe: Recipe, folder: Path) -> None:
        """A training is finished."""

    def exported(self, report: ExportReport) -> None:
        """A network was exported."""

    def certified(self, summary: Summary, ledger: Path) -> None:
        """A certification is finished."""

    def recorded(self, recording: Recording) -> None:
        """Proofs were written."""

    def radii(self, found: RobustnessDistribution, ledger: Path) -> None:
        """A search for radii is finished."""

    def wrote(self, files: Sequence[Path]) -> None:
        """Files were made, after everything else."""


class _ForPeople:
    """Progress on standard error, results on standard output."""

    progress = True
    training = certification = None

    def ignored(self, chosen: Plan, search: object) -> None:
        """A warning that names them."""
        from verify_pipeline.cli.arguments import tell_ignored

        tell_ignored(chosen, search)

    def trained(self, recipe: Recipe, folder: Path) -> None:
        """One line."""
        typer.echo(f"trained {recipe.name}: {folder}")

    def exported(self, report: ExportReport) -> None:
        """One line."""
        from verify_pipeline.cli.show import show_export

        show_export(report)

    def certified(self, summary: Summary, ledger: Path) -> None:
        """The table, and where the verdicts are."""
        _show(summary)
        typer.echo(f"ledger: {ledger}")

    def recorded(self, recording: Recording) -> None:
        """How many, and why others are missing."""
        typer.echo(recording.summary)

    def radii(self, found: RobustnessDistribution, ledger: Path) -> None:
        """The tables, and where the verdicts are."""
        _show_radii(found)
        typer.echo(f"ledger: {ledger}")

    def wrote(self, files: Sequence[Path]) -> None:
        """A line for each."""
        typer.echo("\n".join(f"wrote {path}" for path in files))


class _Quiet:
    """The final result alone."""

    progress = False
    training = certification = None

    def ignored(self, chosen: Plan, search: object) -> None:
        """Nothing."""

    def trained(self, recipe: Recipe, folder: Path) -> None:
        """One line."""
        typer.echo(f"trained {recipe.name}: {folder}")

    def exported(self, report: ExportReport) -> None:
        """Nothing."""

    def certified(self, summary: Summary, ledger: Path) -> None:
        """The table."""
        _show(summary)

    def recorded(self, recording: Recording) -> None:
        """Nothing."""

    def radii(self, found: RobustnessDistribution, ledger: Path) -> None:
        """The tables."""
        _show_radii(found)

    def wrote(self, files: Sequence[Path]) -> None:
        """Nothing."""


class _AsJson:
    """One object a line on standard output."""

    progress = False

    def __init__(self) -> None:
        from verify_pipeline.reporting import JsonLines

        self._lines = JsonLines(sys.stdout)
        self._exported: list[Path] = []
        self.training: TrainObserver = self._lines.training
        self.certification: Observer = self._lines.certification

    def ignored(self, chosen: Plan, search: object) -> None:
        """A warning on standard error."""
        from verify_pipeline.cli.arguments import tell_ignored

        tell_ignored(chosen, search)

    def trained(self, recipe: Recipe, folder: Path) -> None:
        """``finished``, if no epoch was left to do."""
        self._lines.trained(recipe.train.optimiser.epochs)

    def exported(self, report: ExportReport) -> None:
        """Keep its path for ``wrote``."""
        self._exported.append(report.path)

    def certified(self, summary: Summary, ledger: Path) -> None:
        """``finished``, with the counts of the table."""
        self._lines.certified(summary, ledger)

    def recorded(self, recording: Recording) -> None:
        """On standard error."""
        typer.echo(recording.summary, err=True)

    def radii(self, found: RobustnessDistribution, ledger: Path) -> None:
        """``finished``, with the radius of each image."""
        self._lines.radii(found, ledger)

    def wrote(self, files: Sequence[Path]) -> None:
        """``wrote``."""
        self._lines.wrote([*self._exported, *files])


def _show(summary: Summary) -> None:
    from verify_pipeline.cli.show import show_summaries

    show_summaries([summary])


def _show_radii(found: RobustnessDistribution) -> None:
    from verify_pipeline.cli.show import show_radii

    show_radii(found)


def reporter(shown: Shown) -> Reporter:
    """What prints as the options say.

    Raises:
        ConfigError: both options were given.
    """
    refuse_both(shown)
    if shown.json:
        return _AsJson()
    return _Quiet() if shown.quiet else _ForPeople()


def refuse_both(shown: Shown) -> None:
    """Refuse ``--quiet`` beside ``--json``.

    Raises:
        ConfigError: both options were given.
    """
    if shown.quiet and shown.json:
        raise ConfigError("--quiet and --json", expected="one of them", got="both")
