"""Tables of numbers from verdicts, one row for each group of runs.

Verdicts and seconds are separate tables: repeating a command reproduces the first but never the
second.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from verify_pipeline.certify.tally import Summary
from verify_pipeline.reporting.groups import NAMES, RunGroup, grouped
from verify_pipeline.reporting.other_tools import OtherVerdicts, check_meant
from verify_pipeline.reporting.results import ResultRow, results
from verify_pipeline.reporting.statistics import Share, share_of

PERCENTAGES = {
    "standard": "classified rightly as they are",
    "attack_robust": "classified rightly, and the attack stage found no counterexample, or ran out "
    "of time",
    "ibp_verified": "verified by interval bounds",
    "crown_verified": "verified by interval bounds or CROWN",
    "alpha_crown_verified": "verified by interval bounds, CROWN or α-CROWN",
    "verified": "verified by any stage: the verified accuracy",
    "as_deployed": "verified for every evaluation of the file in an arithmetic such as float32",
    "with_abcrown": "verified by any stage, or safe on the word of α,β-CROWN alone, which computes "
    "in float32",
    "tied_as_deployed": "verified before the final activation; saturated, the file's own outputs "
    "tie at an input of the box",
    "robust_at_most": "no stage found a counterexample: no method can verify more",
}
"""Columns in % of the images, and what each counts. They are missing for unfinished runs, because
early verdicts are not representative."""

WITH_INTERVALS = ("standard", "verified")
"""Percentages that are given with their spread."""


def verdict_table(
    summaries: Sequence[Summary], by: Sequence[str] = (), others: Sequence[OtherVerdicts] = ()
) -> pd.DataFrame:
    """Accuracies in %, and the number of undecided images.

    Columns: what distinguishes the rows (``groups.NAMES``, and settings of trainings that differ);
    ``seeds`` (how many; missing where unknown) and ``runs`` where a row has several; ``images``,
    those with a verdict; ``requested``, how many were asked for (missing where that is unknown);
    :data:`PERCENTAGES` (rounded to 0.01; means over runs; missing where a run had no such stage, or
    is not finished); for :data:`WITH_INTERVALS` also ``…_deviation`` (over runs), or ``…_low`` and
    ``…_high`` (95 % Wilson interval over images, where there is one run); ``undecided`` (missing
    where a run is not finished), ``settings`` (the digest of what was tried) and
    ``network_sha256`` (of a row with one run). A column without any value is left out. At the end
    stands ``verified: NAME`` for each other tool, likewise in %.

    Args:
        summaries: the runs.
        by: what rows are grouped by; see :func:`~verify_pipeline.reporting.groups.grouped`.
        others: verdicts of other tools on the same images.

    Raises:
        DataError: verdicts of another tool are not of the images, or may be of several runs.
    """
    check_meant(summaries, others)
    rows = results(summaries, by)
    frame = pd.DataFrame([_verdict_row(row) for row in rows])
    frame = frame.astype({"requested": "Int64", "seeds": "Int64", "undecided": "Float64"})
    if (frame["undecided"].dropna() % 1 == 0).all():
        frame = frame.astype({"undecided": "Int64"})
    for other in others:
        shares = [verified_by(other, row) for row in rows]
        frame[f"verified: {other.name}"] = [_rounded(s.value) if s else None for s in shares]
    return frame.drop(columns=_needless(frame, summaries), errors="ignore")


def verified_by(other: OtherVerdicts, row: ResultRow) -> Share | None:
    """The images of a row that another tool verifies, in %; None: a run is not finished."""
    if "verified" not in row.shares:
        return None
    runs = row.group.summaries
    return share_of([other.verified(run) for run in runs], [run.tally.images for run in runs])


def seconds_table(summaries: Sequence[Summary], by: Sequence[str] = ()) -> pd.DataFrame:
    """Seconds charged to the images: in all, the mean, the most that one took, and by stage.

    Columns ``<stage>_seconds`` are missing for ledgers of older versions, which do not note them.
    """
    groups = grouped(summaries, by)
    stages = dict.fromkeys(name for summary in summaries for name in stage_seconds([summary]))
    rows = []
    for group in groups:
        seconds = [record.seconds for run in group.summaries for record in run.records]
        spent = stage_seconds(group.summaries)
        rows.append(
            {
                **_keys(group),
                "images": min(run.tally.images for run in group.summaries),
                "seconds": round(sum(seconds), 2),
                "mean_seconds": round(sum(seconds) / max(len(seconds), 1), 4),
                "most_seconds": round(max(seconds, default=0.0), 2),
                **{f"{name}_seconds": _rounded(spent.get(name)) for name in stages},
            }
        )
    frame = pd.DataFrame(rows)
    return frame.drop(columns=_needless(frame, summaries), errors="ignore")


def stage_seconds(summaries: Sequence[Summary]) -> dict[str, float]:
    """Seconds that each stage charged to images of some runs, in the order of the stages."""
    spent = {
        stage: 0.0
        for summary in summaries
        if any(record.stages for record in summary.records)
        for stage in summary.stages
    }
    for summary in summaries:
        for record in summary.records:
            for each in record.stages:
                spent[each.stage] = spent.get(each.stage, 0.0) + each.seconds
    return spent


def _verdict_row(row: ResultRow) -> dict[str, object]:
    numbers: dict[str, object] = {}
    for name in PERCENTAGES:
        share = row.shares.get(name)
        numbers[name] = None if share is None else round(share.value, 2)
        if name in WITH_INTERVALS:
            for part in ("deviation", "low", "high"):
                value = None if share is None else getattr(share, part)
                numbers[f"{name}_{part}"] = _rounded(value)
    runs = row.group.summaries
    return {
        **_keys(row.group),
        "seeds": row.group.seeds,
        "runs": len(runs),
        "images": row.images,
        "requested": row.requested,
        **numbers,
        "undecided": row.undecided,
        "settings": runs[0].info.run.settings,
        "network_sha256": runs[0].info.run.network if len(runs) == 1 else None,
    }


def _keys(group: RunGroup) -> dict[str, object]:
    return dict(group.keys)


def _needless(frame: pd.DataFrame, summaries: Sequence[Summary]) -> list[str]:
    """Columns that say nothing here."""
    optional = (*NAMES, "seeds", *(f"{name}_deviation" for name in WITH_INTERVALS))
    empty = [
        name
        for name in (*optional, *(f"{n}_{end}" for n in WITH_INTERVALS for end in ("low", "high")))
        if name in frame and frame[name].isna().all()
    ]
    if "asked" in frame and not frame["asked"].fillna("").any():
        empty.append("asked")
    if "runs" in frame and (frame["runs"] == 1).all():
        empty.append("runs")
    if not any("abcrown" in summary.stages for summary in summaries):
        empty.append("with_abcrown")
    if not any(summary.tally.tied for summary in summaries):
        empty.append("tied_as_deployed")
    if "as_deployed" in frame and frame["as_deployed"].isna().all():
        empty.append("as_deployed")
    return empty


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
