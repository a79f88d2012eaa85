"""Tables on a terminal: one line per run if they fit, otherwise one column per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from verify_pipeline.certify.tally import Summary
from verify_pipeline.onnx import ExportReport
from verify_pipeline.reporting import (
    Layout,
    as_rich,
    lifted,
    narrowed,
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
    console.print(drawn if _fits(drawn, console) else _turned(drawn))
    for note in [*table.notes, seconds_by_stage(summaries)]:
        if note:
            console.print(note, markup=False)
    for remark in (remark for summary in summaries for remark in summary.remarks):
        Console(stderr=True, highlight=False).print(
            f"warning: {remark}", markup=False, soft_wrap=True
        )


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


def _fits(table: Table, console: Console) -> bool:
    return table.__rich_measure__(console, console.options).maximum <= console.width


def _turned(table: Table) -> Table:
    """Rows as columns; the first, which names the runs, becomes the heading."""
    lines = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    turned = Table(box=box.SIMPLE_HEAD)
    for place, cell in enumerate(lines[0]):
        turned.add_column(cell, justify="right" if place else "left", overflow="fold")
    for line in lines[1:]:
        turned.add_row(*line)
    return turned
