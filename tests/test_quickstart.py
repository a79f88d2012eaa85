"""The quickstart, typed block by block in an empty folder."""

import re
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.typed_pages import blocks, run_block

pytest.importorskip("sklearn")

PAGE = ROOT / "docs" / "quickstart.md"


def _masked(text: str) -> list[str]:
    """Lines without what depends on the machine: numbers, and which stage decided."""
    stages = r"\b(ibp|crown|alpha-crown|branch-and-bound)\b"
    without = re.sub(r"\d+(\.\d+)?(e-?\d+)?", "0", re.sub(stages, "STAGE", text))
    return [" ".join(line.split()) for line in without.splitlines()]


def test_the_quickstart_does_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert {language for language, _ in blocks(PAGE)} == {"sh", "python", "text"}
    printed = ""
    for language, block in blocks(PAGE):
        if language != "text":
            printed = run_block(language, block, capsys)
        else:
            assert set(_masked(block)) <= set(_masked(printed))
    for name in ("digits.csv", "digits.tex", "digits-stages.pdf", "digits-page.html"):
        assert Path("results", name).is_file()
