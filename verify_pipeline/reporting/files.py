"""Writes tables as files, atomically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from verify_pipeline.atomic_write import write_all, write_whole
from verify_pipeline.certify.tally import Summary
from verify_pipeline.errors import DataError
from verify_pipeline.reporting.render import as_markdown, seconds_as_markdown
from verify_pipeline.reporting.tables import seconds_table, verdict_table


def write_table(
    summaries: Sequence[Summary], folder: Path, name: str, command: str
) -> tuple[Path, ...]:
    """Write ``<name>.csv``, ``<name>.md``, and the same with ``-seconds``.

    Seconds are written to separate files, so that the other files depend on the verdicts only, byte
    for byte.

    Args:
        summaries: one row each, at least one.
        folder: made if it is not there.
        name: of the files.
        command: what generates them; it stands in each.

    Returns:
        The files' paths.

    Raises:
        DataError: there is nothing to tabulate, or the folder cannot be written.
    """
    if not summaries:
        raise DataError(
            f"table {name}",
            expected="verdicts",
            got="none in the ledger",
            remedy="Certify something first.",
        )
    contents: dict[Path, str | bytes] = {
        folder / f"{name}.csv": _csv(verdict_table(summaries), command),
        folder / f"{name}.md": as_markdown(summaries, command),
        folder / f"{name}-seconds.csv": _csv(seconds_table(summaries), command),
        folder / f"{name}-seconds.md": seconds_as_markdown(summaries, command),
    }
    return write_all(contents)


def write_images(summary: Summary, path: Path) -> Path:
    """Write one row for each image of a run as CSV.

    Raises:
        DataError: the file cannot be written.
    """
    return write_whole(path, summary.to_frame().to_csv(index=False, lineterminator="\n"))


def _csv(frame: pd.DataFrame, command: str) -> str:
    return frame.assign(generated_by=command).to_csv(index=False, lineterminator="\n")
