"""Tables on a terminal: one line for each run if they fit, else one column for each run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verify_pipeline.certify.radii import RobustnessDistribution
from verify_pipeline.certify.tally import Summary
from verify_pipeline.onnx import ExportReport
from verify_pipeline.reporting import (
    Layout,
    as_rich,
    lifted,
    narrowed,
    radii_as_rich,
    radii_notes,
    radii_title,
    seconds_by_stage,
    terminal_table,
)
from verify_pipeline.reporting.cells import PLAIN


def show_export(report: ExportReport) -> None:
    """Print one line about an exported file."""
    Console(markup=False).print(
        f"exported {report.path}: differs by at most {report.max_difference:.2g} in outputs up to "
        f"{report.scale:.3g}, at {report.inputs} inputs",
        soft_wrap=True,
        highlight=False,
    )


def show_summaries(summaries: Sequence[Summary], layout: Layout = PLAIN) -> None:
    """Print the table of some runs with its notes; remarks go to standard error."""
    console = Console(highlight=False)
    table = lifted(terminal_table(summaries, layout))
    if len(table.rows) > 1:
        table = narrowed(table, console.width)
    if table.common:
        console.print("; ".join(table.common), markup=False)
    drawn = as_rich(replace(table, notes=()))  # a caption would be as narrow as the table
    for part in [drawn] if _fits(drawn, console) else _turned(drawn, console):
        console.print(part)
    for note in [*table.notes, seconds_by_stage(summaries)]:
        if note:
            console.print(note, markup=False)
    _warn(remark for summary in summaries for remark in summary.remarks)


def show_radii(found: RobustnessDistribution) -> None:
    """Print the tables of radii with their notes; remarks go to standard error."""
    console = Console(highlight=False)
    console.print(radii_title(found), markup=False, soft_wrap=True)
    for table in radii_as_rich(found):
        console.print(table)
    for note in radii_notes(found):
        console.print(note, markup=False)
    _warn(found.remarks)


def show_rows(rows: Sequence[Sequence[str]], notes: Sequence[str]) -> None:
    """Print a table whose first row is its heading, and notes under it; no word is broken.

    If it is too wide for the terminal, the words of its headings are put below each other; then,
    each row becomes a column, in as many tables as there have to be.
    """
    console = Console(highlight=False)
    for table in _fitting(rows, console):
        console.print(table)
    for note in notes:
        console.print(note, markup=False)


def _fitting(rows: Sequence[Sequence[str]], console: Console) -> list[Table]:
    head, *others = rows
    for heading in (head, [text.replace(" ", "\n") for text in head]):
        table = _plain_table([heading, *others])
        if _fits(table, console):
            return [table]
    groups: list[list[Sequence[str]]] = []
    for row in others:
        if groups and _fits(_columns([head, *groups[-1], row]), console):
            groups[-1].append(row)
        else:
            groups.append([row])
    return [_columns([head, *group]) for group in groups]


def _plain_table(rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for place, heading in enumerate(rows[0]):
        table.add_column(escape(heading), justify="right" if place else "left", overflow="fold")
    for row in rows[1:]:
        table.add_row(*map(escape, row))
    return table


def _columns(rows: Sequence[Sequence[str]]) -> Table:
    """Rows as columns of a table."""
    return _plain_table(list(zip(*rows, strict=True)))


def _warn(remarks: Iterable[str]) -> None:
    for remark in remarks:
        Console(stderr=True, highlight=False).print(
            f"warning: {remark}", markup=False, soft_wrap=True
        )


def _fits(table: Table, console: Console) -> bool:
    return table.__rich_measure__(console, console.options).maximum <= console.width


def _turned(table: Table, console: Console) -> list[Table]:
    """Rows as columns, in as many tables as it takes to break no word.

    The first column, which names the runs, becomes the heading.
    """
    headings, *runs = zip(
        *([str(column.header), *map(str, column.cells)] for column in table.columns), strict=True
    )
    parts: list[Table] = []
    shown: list[tuple[str, ...]] = []
    for run in runs:
        wider = _of_columns(headings, [*shown, run])
        if shown and not _fits(wider, console):
            shown = []
        shown.append(run)
        if len(shown) > 1:
            parts[-1] = wider
        else:
            parts.append(_of_columns(headings, shown))
    return parts


def _of_columns(headings: Sequence[str], runs: Sequence[Sequence[str]]) -> Table:
    """A table with the headings as its first column, and a column for each run."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(headings[0], overflow="fold")
    for run in runs:
        table.add_column(run[0], justify="right", overflow="fold")
    for line in zip(headings[1:], *(run[1:] for run in runs), strict=True):
        table.add_row(*line)
    return table
