"""Everything that a page says, without a tag of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from verify_pipeline.certify.tally import Summary
from verify_pipeline.figures.series.labels import run_labels
from verify_pipeline.page.charts import Charts, charts
from verify_pipeline.page.evidence import RunEvidence
from verify_pipeline.page.gallery import Gallery
from verify_pipeline.page.numbers import isolated
from verify_pipeline.page.run_section import RunSection, run_section
from verify_pipeline.reporting.cells import PLAIN, Layout, result_table
from verify_pipeline.reporting.notes import reasons
from verify_pipeline.reporting.table import Table, lifted


@dataclass(frozen=True, eq=False)
class ReportPage:
    """A page.

    Attributes:
        title: of the page.
        command: that makes it.
        warnings: what a reader has to know before any number.
        table: of the results.
        notes: below it.
        charts: figures of all runs.
        runs: one section each.
    """

    title: str
    command: str
    warnings: tuple[str, ...]
    table: Table
    notes: tuple[str, ...]
    charts: Charts
    runs: tuple[RunSection, ...]

    def __repr__(self) -> str:
        return f"ReportPage({self.title}, {len(self.runs)} runs)"


def report_page(
    runs: Sequence[tuple[RunEvidence, Gallery]],
    command: str,
    title: str = "",
    layout: Layout = PLAIN,
) -> ReportPage:
    """The page of some runs.

    Args:
        runs: with the images that are shown of each; at least one.
        command: that makes the page.
        title: of the page; empty: it names the run, or their number.
        layout: of the table of results.

    Raises:
        ConfigError: a name in the layout is unknown.
    """
    results = [evidence.summary for evidence, _ in runs]
    labels = run_labels(results)
    sections = tuple(
        run_section(evidence, gallery, f"run-{number}", label)
        for number, ((evidence, gallery), label) in enumerate(zip(runs, labels, strict=True), 1)
    )
    warnings = tuple(warning for section in sections for warning in section.warnings)
    table = _headline(result_table(results, layout))
    # each run's section counts its open images by reason
    known = (*warnings, *(f"Undecided: {reason}." for reason in reasons(results)))
    notes = tuple(note for note in table.notes if note not in known)
    return ReportPage(
        title=title or _title(runs),
        command=command,
        warnings=warnings,
        table=replace(table, notes=()),
        notes=notes,
        charts=charts(results, _trainings([evidence for evidence, _ in runs])),
        runs=sections,
    )


def _trainings(runs: Sequence[RunEvidence]) -> dict[str, Path]:
    """Folders of trainings, each once, by what distinguishes them."""
    first: dict[Path, Summary] = {}
    for run in runs:
        if run.folder is not None:
            first.setdefault(run.folder, run.summary)
    labels = run_labels(list(first.values()), without=("epsilon",))
    return dict(zip(labels, first, strict=True))


_LAST = ("attack_robust", "ibp_verified", "crown_verified", "alpha_crown_verified")
"""Columns at the right end, which a narrow window hides first."""


def _headline(table: Table) -> Table:
    """The table as the page shows it; of a single row, title and lead say what it is of."""
    single = len(table.rows) == 1
    shown = lifted(table, kept=("network",) if single else ())
    names = [name for name in shown.names if name not in _LAST]
    names += [name for name in _LAST if name in shown.names]
    return shown.only(name for name in names if not (single and name == "network"))


def _title(runs: Sequence[tuple[RunEvidence, Gallery]]) -> str:
    infos = [evidence.summary.info for evidence, _ in runs]
    data = ", ".join(dict.fromkeys(info.run.data_set for info in infos))
    if len(infos) > 1:
        return f"Certification of {len(infos)} runs on {data}"
    return f"Certification of {isolated(infos[0].network_name)} on {data}"
