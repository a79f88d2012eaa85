"""A sceptic can read the checker: fewer than 2,000 lines of code."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import verify_checker

LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def lines_of_code(text: str) -> int:
    """Lines that are neither blank, nor a comment, nor part of a docstring."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            found.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(found)


def test_lines_are_counted() -> None:
    assert lines_of_code('"""One.\n\nMore."""\n\n# two\nx = [\n    1,\n]\n"""Of x."""\n') == 3


def test_the_checker_is_short() -> None:
    files = sorted(Path(verify_checker.__file__).parent.rglob("*.py"))
    assert len(files) > 10
    assert sum(lines_of_code(path.read_text(encoding="utf-8")) for path in files) < 2000
