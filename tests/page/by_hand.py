"""Pages of runs that are written by hand."""

from __future__ import annotations

from dataclasses import replace

from tests.reporting.runs import run
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.tally import Summary
from verify_pipeline.page import Gallery, RunEvidence, as_page, report_page

NONE = Gallery((), (), ())


def html_of(*summaries: Summary) -> str:
    runs = [(RunEvidence(summary), NONE) for summary in summaries]
    return as_page(report_page(runs, "verify-pipeline report x"))


def of_records(*records: object) -> Summary:
    """A finished run of these records."""
    return replace(run(1), records=records, asked=Extent.of(range(len(records))))  # type: ignore[arg-type]
