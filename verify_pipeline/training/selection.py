"""Which epoch is the best one, and whether a training stops: functions of its metrics alone.

So an interrupted training decides as an uninterrupted one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from verify_pipeline.errors import ConfigError
from verify_pipeline.training.loop_settings import Metric, StopSettings
from verify_pipeline.training.settings import TrainSettings

Rows = Sequence[dict[str, Any]]
"""Metrics, one row per epoch."""


def best_epoch(rows: Rows, metric: Metric | None, first: int) -> int | None:
    """The epoch with the greatest value of a metric, the first of equal ones.

    Args:
        rows: of the epochs done.
        metric: greater is better; None: there is none to be best in.
        first: the first epoch that counts.

    Returns:
        None if no epoch that counts was measured.
    """
    measured = [row for row in rows if metric in row and row["epoch"] >= first]
    if metric is None or not measured:
        return None
    return int(max(measured, key=lambda row: row[metric])["epoch"])


def has_stopped(rows: Rows, settings: StopSettings, first: int) -> bool:
    """Whether a training ends with the last of these epochs, before its last one.

    Args:
        rows: of the epochs done.
        settings: of early stopping.
        first: the first epoch that counts.
    """
    best = best_epoch(rows, settings.metric, first)
    if best is None or settings.metric not in rows[-1]:
        return False
    now = rows[-1]["epoch"]
    return bool(now - best >= settings.patience and now >= settings.minimum)


def check_measured(settings: TrainSettings, *, by_cascade: bool) -> None:
    """Refuse a metric that nobody measures.

    Args:
        settings: of the training.
        by_cascade: whether the cascade certifies held-out images.

    Raises:
        ConfigError: a metric is of the cascade, and there is none.
    """
    for key, metric in (("keep.best", settings.keep.best), ("stop.metric", settings.stop.metric)):
        if metric is not None and metric.startswith("cascade") and not by_cascade:
            raise ConfigError(
                f"train.{key}: {metric}",
                expected="a recipe, which says how to certify",
                got="the training's settings alone",
            )
