"""Renders a page as one HTML file: no part of it is fetched, and every text is escaped."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from verify_pipeline._version import __version__
from verify_pipeline.page.page import ReportPage
from verify_pipeline.reporting.html import as_html
from verify_pipeline.reporting.table import Table


def as_page(page: ReportPage) -> str:
    """The whole file.

    The Content-Security-Policy in it forbids every request, and every script but its own.
    """
    script = _text("report.js")
    table = as_html(_broken(page.table), "; ".join(("Results", *page.table.common)))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page,
            table=Markup(table),
            style=Markup(_text("report.css") + _text("print.css")),
            script=Markup(script),
            script_digest=_digest(script),
            version=__version__,
        )
    )


def _broken(table: Table) -> Table:
    """The table with intervals on lines of their own, so that more columns fit."""
    rows = tuple(
        tuple(replace(cell, text=cell.text.replace(" [", "\n[")) for cell in row)
        for row in table.rows
    )
    return replace(table, rows=rows)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("verify_pipeline.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    return environment


def _digest(script: str) -> str:
    """As Content-Security-Policy names an inline script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _text(name: str) -> str:
    return (resources.files("verify_pipeline.page") / name).read_text(encoding="utf-8")
