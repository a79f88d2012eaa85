"""Runs with hand-counted verdicts, of trainings that differ in what a test says."""

from __future__ import annotations

import hashlib
import json

from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.records import Record, Run, RunInfo, settings_digest
from verify_pipeline.certify.tally import Summary
from verify_pipeline.problem import Reason, StageResult, Status

STAGES = ("clean", "ibp", "attack", "crown")


def record(index: int, status: Status, stage: str, *, bound: float | None = None) -> Record:
    """A verdict that took 0.25 s in each stage up to its own."""
    seen = STAGES[: STAGES.index(stage) + 1]
    return Record(
        index=index,
        instance="d" * 32,
        label=index % 10,
        status=status,
        reason=Reason.TIMEOUT if status is Status.UNKNOWN else None,
        stage=stage,
        bound=bound,
        margin=None,
        seconds=0.25 * len(seen),
        timeout=10.0,
        attempts=1,
        detail="",
        versions="torch 0",
        decided_at=0.0,
        stages=tuple(StageResult(each, 0.25) for each in seen),
    )


def run(
    verified: int,
    *,
    wrong: int = 0,
    open_: int = 0,
    images: int = 10,
    loss: str = "mtl-ibp",
    alpha: float = 0.1,
    seed: int | None = 0,
    l1: float = 0.0,
    epsilon: float = 0.1,
    data: str = "mnist",
    name: str = "net",
) -> Summary:
    """A finished run: so many verified by IBP, wrong, open; the others are attacked."""
    kinds = [(Status.FALSIFIED, "clean")] * wrong + [(Status.VERIFIED, "ibp")] * verified
    kinds += [(Status.UNKNOWN, "crown")] * open_
    kinds += [(Status.FALSIFIED, "attack")] * (images - len(kinds))
    notes = {}
    if seed is not None:
        training = {"seed": seed, "loss": {"name": loss, "alpha": alpha}, "optimiser": {"l1": l1}}
        notes = {
            "verify_pipeline": "1",
            "loss": loss,
            "alpha": repr(alpha),
            "seed": str(seed),
            "network": "conv-small",
            "training": json.dumps(training),
        }
    settings = json.dumps({"stages": STAGES})
    words = repr((name, loss, alpha, seed, l1))
    digest = hashlib.sha256(words.encode()).hexdigest()
    key = Run(digest, data, "test", f"linf {epsilon!r}", "margins", settings_digest(settings))
    info = RunInfo(key, name, epsilon, settings, notes=notes)
    records = tuple(record(n, *kind) for n, kind in enumerate(kinds))
    return Summary(info, records, asked=Extent.of(range(images)))
