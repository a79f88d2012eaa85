"""Bytes of a ledger's rows, measured on rows in memory that are like those to come."""

from __future__ import annotations

import torch

from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Entry, Run, RunInfo
from verify_pipeline.certify.settings import ALL_STAGES
from verify_pipeline.certify.versions import versions
from verify_pipeline.problem import Counterexample, StageResult, Status, Verdict

ROWS = 64
"""Rows that are written: pages of a ledger hold several."""


def ledger_row_bytes(shape: tuple[int, ...], outputs: int) -> tuple[float, float]:
    """Bytes of a row without a counterexample, and of one whose counterexample is noise.

    Args:
        shape: ``*X`` of the images.
        outputs: K of the network.
    """
    random = torch.Generator().manual_seed(0)
    stages = tuple(StageResult(name, 0.123456789, -0.123456789) for name in ALL_STAGES)
    verified = Verdict(Status.VERIFIED, ALL_STAGES[-1], 1.0, bound=0.123456789, stages=stages)
    noise = torch.rand(*shape, generator=random)
    found = Counterexample(noise, torch.rand(outputs, generator=random), -0.123456789)
    falsified = Verdict(Status.FALSIFIED, ALL_STAGES[-1], 1.0, counterexample=found, stages=stages)
    return _row_bytes(verified), _row_bytes(falsified)


def _row_bytes(verdict: Verdict) -> float:
    run = Run("0" * 64, "images", "test", "linf 0.1", "margins", "0" * 16)
    with Ledger.in_memory() as book:
        book.register(RunInfo(run, "network", 0.1, "{}"), Extent.of(range(ROWS)))
        empty = book.bytes
        entries = [Entry(index, "0" * 32, 0, verdict) for index in range(ROWS)]
        book.append(run, entries, 1.0, versions())
        return (book.bytes - empty) / ROWS
