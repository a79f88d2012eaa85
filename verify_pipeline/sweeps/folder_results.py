"""What a sweep's or a tuning's folder says of test images, in the table that its command wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from verify_pipeline.errors import StudyError
from verify_pipeline.sweeps.comparable import Measurement
from verify_pipeline.sweeps.folders import SWEEP, TUNING
from verify_pipeline.sweeps.grid import SEED
from verify_pipeline.sweeps.pareto import Point
from verify_pipeline.sweeps.results import QUESTION, SETTINGS

MEASURED = (*QUESTION, *SETTINGS)


@dataclass(frozen=True)
class FolderResults:
    """A folder's results on test images.

    Attributes:
        folder: of the sweep or tuning.
        repetitions: the points of each seed of a sweep, or of a tuning: standard and verified
            accuracy, shares of the images.
        chosen_on: ``validation`` where a tuning chose the points, ``test`` where a sweep has all.
        measured: how, each way once.
    """

    folder: Path
    repetitions: tuple[tuple[Point, ...], ...]
    chosen_on: str
    measured: tuple[Measurement, ...]


def read_results(folder: Path) -> FolderResults:
    """The results of a folder.

    Raises:
        StudyError: it holds no sweep or tuning, or none of its results is finished.
    """
    if (folder / SWEEP).is_file():
        name, prefix, chosen_on = "runs.csv", "", "test"
    elif (folder / TUNING).is_file():
        name, prefix, chosen_on = "front.csv", "test_", "validation"
    else:
        raise StudyError(
            f"folder {folder}", expected=f"a sweep ({SWEEP}) or a tuning ({TUNING})", got="neither"
        )
    try:
        rows = _finished(folder / name, prefix)
        groups = [rows] if prefix else [group for _, group in rows.groupby(SEED, sort=True)]
        repetitions = tuple(_points(group, prefix) for group in groups)
        measured = _measured(rows, prefix)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"folder {folder}",
            expected=f"its results in {name}",
            got=str(error).split("\n")[0],
            remedy="Repeat the command that began it: it writes them at its end.",
        ) from None
    if rows.empty:
        raise StudyError(
            f"folder {folder}",
            expected="finished results on test images",
            got="none",
            remedy="The command that began it continues it.",
        )
    return FolderResults(folder, repetitions, chosen_on, measured)


def _finished(path: Path, prefix: str) -> pd.DataFrame:
    """The rows of a table that have results on test images."""
    accuracies = [f"{prefix}standard", f"{prefix}verified"]
    numbers = accuracies if prefix else [SEED, *accuracies]
    texts = [f"{prefix}{each}" for each in MEASURED]
    frame = pd.read_csv(path, dtype=dict.fromkeys(texts, str))
    missing = [each for each in (*numbers, *texts) if each not in frame]
    if missing:
        raise ValueError(f"no column {missing[0]}")
    for each in numbers:
        if not pd.api.types.is_numeric_dtype(frame[each]):
            raise ValueError(f"something else than numbers in column {each}")
    return frame.dropna(subset=accuracies[1:])


def _points(rows: pd.DataFrame, prefix: str) -> tuple[Point, ...]:
    """Accuracies as shares of the images."""
    percentages = rows[[f"{prefix}standard", f"{prefix}verified"]].to_numpy(float)
    if not ((percentages >= 0) & (percentages <= 100)).all():
        raise ValueError("an accuracy that is not from 0 % to 100 %")
    return tuple((float(a) / 100, float(b) / 100) for a, b in percentages)


def _measured(rows: pd.DataFrame, prefix: str) -> tuple[Measurement, ...]:
    """How the rows were measured, each way once."""
    texts = rows[[f"{prefix}{each}" for each in MEASURED]].drop_duplicates().fillna("")
    records = texts.itertuples(index=False, name=None)
    return tuple(Measurement.of(dict(zip(MEASURED, each, strict=True))) for each in records)
