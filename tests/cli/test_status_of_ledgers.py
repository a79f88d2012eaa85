"""What `status` says of a ledger's verdicts, without a process that runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tests.reporting.runs import run
from verify_pipeline.status import CertificationStatus


def test_the_last_verdict_is_the_latest_not_that_of_the_last_image() -> None:
    summary = run(2, open_=1, images=3)
    moments = (100.0, 300.0, 200.0)
    records = tuple(
        replace(each, decided_at=moment)
        for each, moment in zip(summary.records, moments, strict=True)
    )
    found = CertificationStatus("finished", Path("l.sqlite"), replace(summary, records=records))
    assert found.last_verdict == 300.0
    latest = records[1]
    assert found.line == f"image 1: {latest.status.value} by {latest.stage}"


def test_without_a_verdict_there_is_no_last_one() -> None:
    begun = replace(run(1), records=())
    for summary in (begun, None):
        found = CertificationStatus("stopped", Path("l.sqlite"), summary)
        assert (found.last_verdict, found.line) == (None, "")
