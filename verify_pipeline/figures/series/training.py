"""Training curves, read from the metrics of each epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verify_pipeline.errors import DataError
from verify_pipeline.training.checkpoint import METRICS

ACCURACY, LOSS, EPSILON, ALPHA = "accuracy [%]", "loss", "ε", "α"
"""Names of the panels."""

COLUMNS = {
    "train_clean": (ACCURACY, "clean"),
    "train_adversarial": (ACCURACY, "adversarial"),
    "train_verified": (ACCURACY, "IBP"),
    "validation_standard": (ACCURACY, "clean, validation"),
    "validation_adversarial": (ACCURACY, "adversarial, validation"),
    "validation_ibp": (ACCURACY, "IBP, validation"),
    "cascade_verified": (ACCURACY, "verified, validation"),
    "train_loss": (LOSS, "minimised"),
    "train_clean_loss": (LOSS, "clean"),
    "train_adversarial_loss": (LOSS, "adversarial"),
    "train_ibp_loss": (LOSS, "IBP"),
    "train_latent_loss": (LOSS, "latent"),
    "epsilon": (EPSILON, "ε"),
    "alpha": (ALPHA, "α"),
}
"""Columns of ``metrics.csv`` that are drawn: their panels, and what the curves are called."""


@dataclass(frozen=True)
class MetricCurve:
    """One metric over the epochs that measured it; infinite values are left out.

    Attributes:
        name: for the legend.
        epochs: counted from 1, ascending.
        values: one for each.
    """

    name: str
    epochs: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class TrainingCurves:
    """The metrics of one training; a curve that no epoch measured is left out.

    Attributes:
        label: of the training.
        panels: curves by the panel's name, in order: accuracies in %; the loss that is minimised,
            penalties included, and cross-entropies of margins; ε at the end of each epoch; α
            likewise, if it changes.
    """

    label: str
    panels: Mapping[str, tuple[MetricCurve, ...]]


def training_curves(rows: Sequence[Mapping[str, Any]], label: str) -> TrainingCurves:
    """The curves of a training.

    Args:
        rows: metrics by name, one for each epoch; missing ones are absent, empty or None.
        label: of the training.

    Raises:
        DataError: there is no epoch, nothing to draw, or a value is no number.
    """
    if not rows:
        raise DataError(f"metrics of {label}", expected="at least one epoch", got="none")
    panels: dict[str, tuple[MetricCurve, ...]] = {}
    for column, (panel, name) in COLUMNS.items():
        curve = _curve(rows, column, name, label)
        if curve.values and (panel != ALPHA or len(set(curve.values)) > 1):
            panels[panel] = (*panels.get(panel, ()), curve)
    if not panels:
        raise DataError(
            f"metrics of {label}", expected="accuracies, losses or ε of some epoch", got="none"
        )
    return TrainingCurves(label, panels)


def read_metrics(folder: Path) -> list[dict[str, str]]:
    """The rows of a run folder's ``metrics.csv``.

    Raises:
        DataError: there is no such file, it cannot be read, or it holds no epoch.
    """
    path = folder / METRICS
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise DataError(
            f"folder {folder}",
            expected=f"a training's {METRICS}",
            got="none",
            remedy="Name the folder of a `run` or `train` that finished an epoch.",
        ) from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(str(path), expected="a CSV file", got=str(error)) from None
    if not rows or "epoch" not in rows[0]:
        raise DataError(
            str(path), expected="a row for each epoch", got="none" if not rows else "no epochs"
        )
    return rows


def _curve(rows: Sequence[Mapping[str, Any]], column: str, name: str, label: str) -> MetricCurve:
    scale = 100 if COLUMNS[column][0] == ACCURACY else 1
    measured = [
        (int(_number(row, "epoch", label)), scale * _number(row, column, label))
        for row in rows
        if row.get(column) not in (None, "")
    ]
    points = [(epoch, value) for epoch, value in measured if math.isfinite(value)]
    return MetricCurve(name, tuple(e for e, _ in points), tuple(v for _, v in points))


def _number(row: Mapping[str, Any], column: str, label: str) -> float:
    try:
        return float(row[column])
    except (KeyError, TypeError, ValueError):
        raise DataError(
            f"metrics of {label}, {column}", expected="a number", got=repr(row.get(column))
        ) from None
