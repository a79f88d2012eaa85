"""docs/own-network.md, typed block by block in an empty folder."""

import re
import runpy
import shlex
import warnings
from pathlib import Path

import pytest

from tests.cli.typed import command
from tests.documents import ROOT, text_of

pytest.importorskip("sklearn")

PAGE = ROOT / "docs" / "own-network.md"


def test_the_page_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"(?ms)^```(\w+)\n(?:# (\S+\.\w+)\n)?(.*?)^```$", text_of(PAGE))
    assert [language for language, *_ in blocks] == ["python", "yaml", "sh", "python", "python"]
    verified = []
    for language, name, block in blocks:
        if name:
            Path(name).write_text(block, encoding="utf-8")
        elif language == "sh":
            program, *arguments = shlex.split(block)
            assert program == "verify-pipeline"
            code, _, error = command(*arguments)
            assert code == 0, error
        else:
            Path("typed.py").write_text(block, encoding="utf-8")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's of its exporter
                runpy.run_path("typed.py")
            told = re.findall(r"(\d+) of 50 verified", capsys.readouterr().out)
            verified.append(int(told[0]))
    assert Path("runs/mine/table.csv").is_file()
    assert len(verified) == 2
    assert min(verified) > 25  # of 50: both loops have learned something
