"""The page on own data, typed block by block in an empty folder."""

from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.typed_pages import blocks, run_block
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.tally import summaries
from verify_pipeline.training import restore

pytest.importorskip("sklearn")

PAGE = ROOT / "docs" / "own-data.md"


def test_the_page_on_own_data_does_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [language for language, _ in blocks(PAGE)].count("yaml") == 2
    printed = [run_block(language, block, capsys) for language, block in blocks(PAGE)]
    for run, name, images in (("mine", "my-digits", 40), ("signs", "signs", 10)):
        with Ledger.existing(Path("runs", run, "ledger.sqlite")) as ledger:
            summary = summaries(ledger)[0]
        assert (summary.info.run.data_set, len(summary.records)) == (name, images)
        assert summary.tally.proved > images / 3  # not a table of nothing
        assert "no pictures" not in Path(f"{run}.html").read_text(encoding="utf-8")
    assert "sign-3" in Path("signs.html").read_text(encoding="utf-8")
    assert restore(Path("runs/parity")).info.class_names == ("even", "odd")
    assert "verified" in printed[-1]
