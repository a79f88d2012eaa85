"""Renders a table as an HTML element, with every text escaped."""

from __future__ import annotations

from html import escape

from verify_pipeline.reporting.table import Cell, Table


def as_html(table: Table, caption: str = "") -> str:
    """A ``<table>`` with its notes in a paragraph after it; no style, no script.

    Args:
        table: with any columns.
        caption: of the table; empty: none.
    """
    kinds = ["text" if column.is_text else "number" for column in table.columns]
    head = "".join(
        f'<th scope="col" class="{kind}"{_title(column.meaning)}>{escape(column.heading)}</th>'
        for kind, column in zip(kinds, table.columns, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{_text(cell)}</td>' for kind, cell in zip(kinds, row, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    named = f"<caption>{escape(caption)}</caption>\n" if caption else ""
    notes = "".join(f"<p>{escape(note)}</p>\n" for note in table.notes)
    return (
        f'<table class="results">\n{named}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>\n{notes}"
    )


def _title(meaning: str) -> str:
    return f' title="{escape(meaning)}"' if meaning else ""


def _text(cell: Cell) -> str:
    return f"<b>{escape(cell.text)}</b>" if cell.best else escape(cell.text)
