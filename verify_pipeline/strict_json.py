"""JSON of files that others may have written."""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 100
"""Nesting depth of lists and objects. The standard parser is recursive, and crashes the process
where a library has raised Python's recursion limit."""

_TEXT_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


def parse(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or lists and objects are nested deeper than ``DEEPEST``.
    """
    if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
        raise ValueError(f"lists or objects nested deeper than {DEEPEST}")
    return json.loads(text)


def _depth(text: str) -> int:
    deepest = depth = 0
    for found in _TEXT_OR_BRACKET.finditer(text):
        if found[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif found[0] in "]}":
            depth -= 1
    return deepest
