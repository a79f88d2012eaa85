"""One self-contained HTML page of runs: tables, figures, galleries, and how to make it again."""

from verify_pipeline.page.evidence import ClassNames, RunEvidence
from verify_pipeline.page.gallery import Gallery, chosen
from verify_pipeline.page.page import ReportPage, report_page
from verify_pipeline.page.render import as_page

__all__ = [
    "ClassNames",
    "Gallery",
    "ReportPage",
    "RunEvidence",
    "as_page",
    "chosen",
    "report_page",
]
