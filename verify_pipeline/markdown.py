"""Text of others in Markdown pages, where it must stay text."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TAG = re.compile(r"<(?=[A-Za-z/!?])")
"""Where a Markdown reader takes text for HTML: a number may be below another one."""


def one_line(text: str) -> str:
    """Text without line breaks and control characters, which names of files may have."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def markdown_text(text: str) -> str:
    """Text of one line for Markdown, in which no name becomes markup of HTML or a column."""
    return _TAG.sub("&lt;", one_line(text)).replace("|", "\\|")


def markdown_row(texts: Iterable[str]) -> str:
    """A row of a Markdown table, of texts in which nothing is markup."""
    return f"| {' | '.join(markdown_text(text) for text in texts)} |"


def markdown_code(text: str) -> str:
    """Text of one line as code: between more backticks than it has in a row (CommonMark 6.1)."""
    told = one_line(text)
    longest = max((len(run) for run in re.findall("`+", told)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest else ""
    return f"{fence}{space}{told}{space}{fence}"
