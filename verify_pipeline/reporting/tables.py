"""Tables of numbers from verdicts, one row for each run.

Verdicts and seconds are separate tables: repeating a command reproduces the first but never the
second.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from verify_pipeline.certify.tally import Summary
from verify_pipeline.reporting.facts import asked_text, epsilon_text

KEYS = ("network", "data_set", "split", "epsilon", "asked", "images")
"""Columns that identify a row, in both tables. ``asked`` is omitted if all runs ask the default
question."""

PERCENTAGES = {
    "standard": "classified rightly as they are",
    "attack_robust": "classified rightly, and the attack stage found no counterexample, or ran out "
    "of time",
    "ibp_verified": "verified by interval bounds",
    "crown_verified": "verified by interval bounds or CROWN",
    "alpha_crown_verified": "verified by interval bounds, CROWN or α-CROWN",
    "verified": "verified by any stage: the verified accuracy",
    "with_abcrown": "verified by any stage, or safe on the word of α,β-CROWN alone, which computes "
    "in float32",
    "tied_as_deployed": "verified before the final activation; saturated, the file's own outputs "
    "tie at an input of the box",
    "robust_at_most": "no stage found a counterexample: no method can verify more",
}
"""Columns in % of the images, and what each counts. They are missing for unfinished runs, because
early verdicts are not representative."""

_NEEDS = {
    "attack_robust": "attack",
    "ibp_verified": "ibp",
    "crown_verified": "crown",
    "alpha_crown_verified": "alpha-crown",
    "with_abcrown": "abcrown",
}


def verdict_table(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Accuracies in %, and the number of undecided images.

    Columns: :data:`KEYS`, of which ``images`` counts those with a verdict; ``requested``, how many
    were asked for (missing where that is unknown); :data:`PERCENTAGES` (rounded to 0.01; missing
    where the run had no such stage, or is not finished); ``undecided`` (missing where it is not
    finished), ``settings`` (the digest of what was tried) and ``network_sha256``. Where
    no run asked α,β-CROWN there is no ``with_abcrown``, where nothing ties no
    ``tied_as_deployed``.
    """
    frame = _without_the_usual(pd.DataFrame([_verdict_row(summary) for summary in summaries]))
    frame = frame.astype({"requested": "Int64", "undecided": "Int64"})
    needless = {
        "with_abcrown": not any("abcrown" in summary.stages for summary in summaries),
        "tied_as_deployed": not any(summary.tally.tied for summary in summaries),
    }
    unused = [name for name, needed_by_none in needless.items() if needed_by_none]
    return frame.drop(columns=unused, errors="ignore")


def seconds_table(summaries: Sequence[Summary]) -> pd.DataFrame:
    """Seconds charged to the images: in all, the mean, and the most that one took."""
    rows = []
    for summary in summaries:
        seconds = [record.seconds for record in summary.records]
        rows.append(
            {
                **_keys(summary),
                "seconds": round(sum(seconds), 2),
                "mean_seconds": round(sum(seconds) / max(len(seconds), 1), 4),
                "most_seconds": round(max(seconds, default=0.0), 2),
            }
        )
    return _without_the_usual(pd.DataFrame(rows))


def _without_the_usual(frame: pd.DataFrame) -> pd.DataFrame:
    asks = "asked" in frame and frame["asked"].any()
    return frame if asks else frame.drop(columns="asked", errors="ignore")


def _keys(summary: Summary) -> dict[str, object]:
    info = summary.info
    values = (
        info.network_name,
        info.run.data_set,
        info.run.split,
        epsilon_text(info.epsilon) or info.run.perturbation.split("; ")[0],
        asked_text(info),
        summary.tally.images,
    )
    return dict(zip(KEYS, values, strict=True))


def _verdict_row(summary: Summary) -> dict[str, object]:
    tally = summary.tally
    counts = {
        "standard": tally.right,
        "attack_robust": tally.withstood,
        "ibp_verified": tally.proved_up_to("ibp"),
        "crown_verified": tally.proved_up_to("crown"),
        "alpha_crown_verified": tally.proved_up_to("alpha-crown"),
        "verified": tally.proved,
        "with_abcrown": tally.proved + tally.claimed,
        "tied_as_deployed": tally.tied,
        "robust_at_most": tally.not_broken,
    }
    percentages = {
        name: round(100 * count / tally.images, 2)
        if not summary.missing and _NEEDS.get(name) in (None, *summary.stages)
        else None
        for name, count in counts.items()
    }
    return {
        **_keys(summary),
        "requested": summary.requested,
        **percentages,
        "undecided": None if summary.missing else tally.undecided,
        "settings": summary.info.run.settings,
        "network_sha256": summary.info.run.network,
    }
