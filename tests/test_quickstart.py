"""The quickstart, typed block by block in an empty folder."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from tests.cli.typed import command
from tests.documents import ROOT, text_of

pytest.importorskip("sklearn")

PAGE = ROOT / "docs" / "quickstart.md"
INSTALLATION = ("make setup", ". .venv/bin/activate")
"""What is not typed here, since it was done before: the Makefile's own tests see to it."""


def _masked(text: str) -> list[str]:
    """Lines without what depends on the machine: numbers, and which stage decided."""
    stages = r"\b(ibp|crown|alpha-crown|branch-and-bound)\b"
    without = re.sub(r"\d+(\.\d+)?(e-?\d+)?", "0", re.sub(stages, "STAGE", text))
    return [" ".join(line.split()) for line in without.splitlines()]


def _run(language: str, block: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Type a block; what it prints."""
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


def test_the_quickstart_does_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", text_of(PAGE))
    assert {language for language, _ in blocks} == {"sh", "python", "text"}
    printed = ""
    for language, block in blocks:
        if language != "text":
            printed = _run(language, block, capsys)
        else:
            assert set(_masked(block)) <= set(_masked(printed))
    for name in ("digits.csv", "digits.tex", "digits-stages.pdf", "digits-page.html"):
        assert Path("results", name).is_file()
