"""A table of results in the format that a user names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from verify_pipeline.certify.tally import Summary
from verify_pipeline.reporting.cells import PLAIN, Layout, result_table
from verify_pipeline.reporting.html import as_html
from verify_pipeline.reporting.latex import as_latex
from verify_pipeline.reporting.render import as_markdown
from verify_pipeline.reporting.tables import verdict_table

Renderer = Callable[[Sequence[Summary], str, Layout], str]
"""Runs, the command that makes the table, and what it shows, to text."""


def rendered(summaries: Sequence[Summary], name: str, command: str, layout: Layout = PLAIN) -> str:
    """The table of some runs as text.

    Args:
        summaries: the runs, at least one.
        name: a key of :data:`FORMATS`.
        command: what makes the table, where the format has room for it.
        layout: what it shows.

    Raises:
        ConfigError: a name in the layout is unknown.
        DataError: verdicts of another tool are not of the images.
    """
    return FORMATS[name](summaries, command, layout)


def _latex(summaries: Sequence[Summary], command: str, layout: Layout) -> str:
    return as_latex(result_table(summaries, layout), command)


def _html(summaries: Sequence[Summary], command: str, layout: Layout) -> str:
    return as_html(result_table(summaries, layout))


def _csv(summaries: Sequence[Summary], command: str, layout: Layout) -> str:
    return verdict_table(summaries, layout.by, layout.others).to_csv(
        index=False, lineterminator="\n"
    )


FORMATS: Mapping[str, Renderer] = {
    "markdown": as_markdown,
    "csv": _csv,
    "latex": _latex,
    "html": _html,
}
"""Formats by name."""
