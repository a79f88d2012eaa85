"""`certify --dry-run`: what a certification will cost."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify_pipeline.cli import panels
from verify_pipeline.cli.options import Shown
from verify_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from verify_pipeline.certification import Certification
    from verify_pipeline.certify.questions import Question
    from verify_pipeline.data import BoxSet, ImageSet
    from verify_pipeline.planning.certification import CertificationForecast
    from verify_pipeline.planning.sampling import Tell

Measure = Annotated[
    float | None,
    typer.Option(
        "--measure",
        metavar="SECONDS",
        help="Seconds of measurement, about.",
        show_default="60",
        rich_help_panel=panels.MACHINE,
    ),
]


@dataclass(frozen=True)
class DryRun:
    """Options about planning instead of certifying, as typed."""

    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Certify a sample only, and say what all images will take: time on 1 to 64 "
            "workers, memory, disk. No file is created or changed.",
            rich_help_panel=panels.MACHINE,
        ),
    ] = False
    measure: Measure = None

    def check(self, engine: str, stages: str | None, cluster: str | None) -> None:
        """Refuse options that exclude each other.

        Raises:
            ConfigError: measuring without a dry run, or a dry run of what cannot be measured here.
        """
        if not self.dry_run and self.measure is not None:
            raise ConfigError("--measure", expected="--dry-run beside it", got=f"{self.measure}")
        refused = {
            "--engine abcrown": engine == "abcrown",
            "--stages with abcrown": "abcrown" in (stages or "").split(","),
            f"--cluster {cluster}": cluster is not None,
        }
        for name, given in refused.items():
            if self.dry_run and given:
                raise ConfigError(
                    "--dry-run",
                    expected="the built-in engine, on this machine",
                    got=name,
                    remedy=f"Leave out {name}: the plan has rows for 1 to 64 workers, each like "
                    "this machine.",
                )

    def run(
        self,
        job: Certification,
        images: ImageSet | BoxSet,
        question: Question,
        ledger: Path,
        by: tuple[str, int | None],
        shown: Shown,
    ) -> None:
        """Measure, and print the forecast.

        Args:
            job: network and settings.
            images: that are certified.
            question: what is asked.
            ledger: whose verdicts count as done.
            by: device and number of processes, as typed.
            shown: how it is printed.
        """
        from verify_pipeline.planning.certification import MEASURE, forecast

        found = forecast(
            job.network,
            images,
            job.settings,
            question=question,
            ledger=ledger,
            device=by[0],
            seconds=MEASURE if self.measure is None else self.measure,
            jobs=1 if by[1] is None else by[1],
            tell=told(not (shown.quiet or shown.json)),
        )
        show_forecast(found, shown.json)


def told(shown: bool) -> Tell:
    """What is told while measuring, on standard error."""

    def tell(images: int, seconds: float) -> None:
        from verify_pipeline.reporting.certification_state import images_text
        from verify_pipeline.reporting.durations import duration

        if shown:
            typer.echo(f"measured {images_text(images)} in {duration(seconds)}", err=True)

    return tell


def show_forecast(found: CertificationForecast, as_json: bool) -> None:
    """Print a forecast."""
    from verify_pipeline.cli.forecast_text import forecast_rows, lines

    if as_json:
        typer.echo(json.dumps(found.fields(), ensure_ascii=False))
    else:
        typer.echo("\n".join(lines(forecast_rows(found))))
