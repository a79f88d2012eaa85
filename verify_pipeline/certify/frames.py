"""Verdicts as a data frame, for notebooks and for CSV files."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from verify_pipeline.certify.records import Record

COLUMNS = {
    "image": "int64",
    "label": "Int64",
    "verdict": "str",
    "stage": "str",
    "reason": "str",
    "bound": "float64",
    "margin": "float64",
    "seconds": "float64",
    "attempts": "int64",
    "counterexample": "str",
    "tied": "bool",
    "detail": "str",
    "versions": "str",
}
"""Names and dtypes; no object of this package is in a cell."""


def as_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each verdict; ``Summary.to_frame`` says what the columns are."""
    rows = [
        (
            record.index,
            record.label,
            record.status.value,
            record.stage,
            "" if record.reason is None else record.reason.name.lower(),
            math.nan if record.bound is None else record.bound,
            math.nan if record.margin is None else record.margin,
            record.seconds,
            record.attempts,
            record.counterexample,
            record.tied,
            record.detail,
            record.versions,
        )
        for record in records
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
