"""Runs written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.records import Record, Run, RunInfo
from verify_pipeline.certify.tally import Summary
from verify_pipeline.problem import Reason, StageResult, Status

STAGES = ("clean", "ibp", "attack", "crown", "branch-and-bound")
V, F, U = Status.VERIFIED, Status.FALSIFIED, Status.UNKNOWN


def record(index: int, status: Status, stage: str, seconds: Sequence[float] = ()) -> Record:
    """An image that each stage up to the deciding one took some seconds of."""
    done = tuple(StageResult(s, t) for s, t in zip(STAGES, seconds, strict=False))
    return Record(
        index=index,
        instance=f"i{index}",
        label=0,
        status=status,
        reason=Reason.TIMEOUT if status is U else None,
        stage=stage,
        bound={V: 0.25, F: None, U: -1.5}[status],
        margin=-0.5 if status is F else None,
        seconds=sum(seconds),
        timeout=10.0,
        attempts=1,
        detail="",
        versions="torch 0",
        decided_at=0.0,
        stages=done,
    )


RECORDS = (
    record(0, F, "clean", [0.5]),
    record(1, V, "ibp", [0.25, 0.25]),
    record(2, V, "ibp", [0.25, 0.75]),
    record(3, F, "attack", [0.25, 0.25, 2.0]),
    record(4, V, "crown", [0.25, 0.25, 2.0, 0.5]),
    record(5, U, "branch-and-bound", [0.25, 0.25, 2.0, 0.5, 7.0]),
)
"""One wrong, two by IBP, one broken, one by CROWN, one open."""


def run(
    records: Sequence[Record] = RECORDS,
    *,
    loss: str = "cc-ibp",
    alpha: float = 0.2,
    seed: int = 0,
    epsilon: float = 0.1,
    network: str = "",
    asked: int | None = None,
) -> Summary:
    """A run of a network with this package's notes."""
    training = {"loss": {"name": loss, "alpha": alpha}, "seed": seed}
    notes = {
        "verify_pipeline": "1",
        "loss": loss,
        "alpha": repr(alpha),
        "seed": str(seed),
        "network": "conv-small",
        "training": json.dumps(training),
    }
    digest = network or f"{loss}{alpha}{seed}".ljust(64, "0")
    key = Run(digest, "digits", "test", f"linf {epsilon!r}", "margins", "s" * 16)
    info = RunInfo(key, "tiny", epsilon, json.dumps({"stages": STAGES}), notes=notes)
    extent = Extent.of(range(len(records) if asked is None else asked))
    return Summary(info, tuple(records), asked=extent)


def old(summary: Summary) -> Summary:
    """The run as a ledger of an older version has it: what each stage did is unknown."""
    return replace(summary, records=tuple(replace(each, stages=()) for each in summary.records))
