"""Pages of the documents, typed block by block."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from tests.cli.typed import command
from tests.documents import text_of

INSTALLATION = ("make setup", ". .venv/bin/activate")
"""What is not typed here, since it was done before: the Makefile's own tests see to it."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks of a page, in order, each with its language."""
    return re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", text_of(page))


def run_block(language: str, block: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Type a block, or write the file that the first line of YAML names; what it prints."""
    if language == "yaml":
        Path(block.splitlines()[0].removeprefix("# ")).write_text(block, encoding="utf-8")
        return ""
    if language == "python":
        Path("typed.py").write_text(block, encoding="utf-8")
        runpy.run_path("typed.py")
        return capsys.readouterr().out
    printed = ""
    for line in block.splitlines():
        if line in INSTALLATION:
            continue
        program, *arguments = shlex.split(line)
        assert program == "verify-pipeline"
        code, output, error = command(*arguments)
        assert code == 0, error
        printed += output
    return printed
