"""The command that tells where a job stands, from another terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from verify_pipeline.cli import panels
from verify_pipeline.job_process import SILENCE

if TYPE_CHECKING:
    from verify_pipeline.reporting.job_file import JobNote
    from verify_pipeline.status import CertificationStatus, JobState, TrainingStatus

WIDTH = 12
"""Columns of the words in front."""


def status(
    place: Annotated[
        Path, typer.Argument(metavar="RUN|LEDGER", help="Folder of a run, or a ledger.")
    ],
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print one JSON object (docs/watching.md).",
            rich_help_panel=panels.OUTPUT,
        ),
    ] = False,
) -> None:
    """Show where a job stands: running, finished, stopped, failed, killed or never started.

    For a job that runs, in whatever terminal: the stage or epoch, the verdicts so far, the rate and
    the time left. The job is not slowed down.
    """
    from verify_pipeline.status import status_of

    found = status_of(place)
    if as_json:
        typer.echo(json.dumps(found.fields(), ensure_ascii=False))
        return
    if found.training is not None:
        _print("training", _of_training(found.training))
    for each in found.certifications:
        _print("certification", _of_certification(each))


def _print(job: str, rows: Iterator[tuple[str, str]]) -> None:
    typer.echo(job)
    for word, text in rows:
        typer.echo(f"  {word:<{WIDTH}}{text}")


def _of_training(found: TrainingStatus) -> Iterator[tuple[str, str]]:
    yield "state", _state_text(found.state, found.note)
    if found.epochs is not None:
        yield "done", f"{len(found.metrics)} of {found.epochs} epochs"
    if found.state == "running" and found.note is not None:
        yield from _now(found.note, "steps")
        yield "time left", found.note.left_text
    if found.line:
        yield "last line", found.line


def _of_certification(found: CertificationStatus) -> Iterator[tuple[str, str]]:
    from verify_pipeline.reporting.facts import question_line

    yield "state", _state_text(found.state, found.note, found.last_verdict)
    yield "ledger", str(found.ledger)
    summary = found.summary
    if summary is None:
        return
    yield "network", summary.info.network_name
    yield "question", question_line(summary.info)
    of = "" if summary.requested is None else f" of {summary.requested:,}"
    yield "done", f"{summary.tally.images:,}{of} images"
    always = ("verified", "falsified", "wrong", "undecided")
    for word, count in found.counts.items():
        if count or word in always:
            yield word, f"{count:,}"
    yield "open", "unknown: an older version began it" if found.open is None else f"{found.open:,}"
    if found.state == "running" and found.note is not None:
        yield from _now(found.note, "images")
        yield "time left", found.note.left_text
    if found.line:
        yield "last line", found.line


def _now(note: JobNote, things: str) -> Iterator[tuple[str, str]]:
    """What a job that runs does at the moment."""
    yield "phase", f"{note.phase}: {note.done:,} of {note.of:,} {things}"
    if note.stages:
        far = (f"{each.stage} {each.done:,}/{each.images:,}" for each in note.stages)
        yield "stages", ", ".join(far)
    yield "rate", note.rate or "not known yet"


def _state_text(state: JobState, note: JobNote | None, last: float | None = None) -> str:
    """The state, since when, whose process, and how it goes on; ``last``: of the last verdict."""
    if state == "finished":
        return state if last is None else f"{state}, {_since(last)} ago"
    if note is None:
        return f"{state}; the command that began it continues it" if state == "stopped" else state
    process = f"process {note.process.number} on {note.process.host}"
    if state == "running":
        return f"{state} ({process}, for {_since(note.began)})"
    ago = f"{_since(note.updated)} ago"
    if note.updated - time.time() > SILENCE:
        ago = "dated in the future: a clock went back, or those of two hosts differ"
    told = f"{process} is gone; last sign {ago}" if state == "killed" else ago
    error = f": {note.error}" if note.error else ""
    return f"{state} ({told}){error}; continue with: {note.command}"


def _since(moment: float) -> str:
    """The time since a Unix time."""
    from verify_pipeline.reporting.durations import duration

    return duration(max(0.0, time.time() - moment))
