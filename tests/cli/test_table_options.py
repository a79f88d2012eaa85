"""`table` as a user types it: groups, columns, formats, literature, and what is typed wrongly."""

from pathlib import Path

import pandas as pd
import pytest

from tests.cli.typed import command
from tests.reporting.runs import run
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.records import Entry
from verify_pipeline.certify.tally import Summary
from verify_pipeline.problem import Reason, Status, Verdict


def write(path: Path, *runs: Summary) -> Path:
    """A ledger with the verdicts of some runs, none of them falsified."""
    with Ledger.open(path) as ledger:
        for summary in runs:
            assert summary.asked is not None
            ledger.register(summary.info, summary.asked)
            entries = [
                Entry(record.index, record.instance, record.label, verdict_of(record.status))
                for record in summary.records
            ]
            ledger.append(summary.info.run, entries, 10.0, "torch 0")
    return path


def verdict_of(status: Status) -> Verdict:
    if status is Status.VERIFIED:
        return Verdict(status, "ibp", 0.25, bound=1.0)
    return Verdict(status, "crown", 0.25, bound=-1.0, reason=Reason.TIMEOUT)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    runs = [run(5, open_=5), run(7, open_=3, seed=1), run(8, open_=2, alpha=0.2)]
    return write(tmp_path / "l.sqlite", *runs)


def test_seeds_are_one_row(ledger: Path) -> None:
    code, out, _ = command("table", ledger, "--columns", "alpha,seeds,verified,robust")
    assert code == 0
    assert "60.00 ± 14.14   [60.00, 100.00]" in out
    assert "net; MTL-IBP; conv-small; mnist; test; ε = 0.1" in out


def test_every_format_is_printed_and_nothing_else(ledger: Path, tmp_path: Path) -> None:
    kept = tmp_path / "images.csv"
    begin = {"markdown": "| Network |", "csv": "network,", "latex": "% Generated", "html": "<table"}
    for name, text in begin.items():
        code, out, err = command("table", ledger, "--format", name, "--images-frame", kept)
        assert (code, out.startswith(text)) == (0, True)
        assert f"wrote {kept}" in err


def test_the_files_of_a_paper_are_written(ledger: Path, tmp_path: Path) -> None:
    code, out, _ = command("table", ledger, "--literature", "--out", tmp_path / "r" / "t")
    assert code == 0
    names = ["t.csv", "t.md", "t.tex", "t.html", "t-seconds.csv", "t-seconds.md", "t.bib"]
    assert [line.rpartition("/")[2] for line in out.splitlines() if "wrote" in line] == names
    assert r"\cite{depalma2024expressive}" in (tmp_path / "r" / "t.tex").read_text()
    assert "@inproceedings{depalma2024expressive" in (tmp_path / "r" / "t.bib").read_text()


@pytest.mark.parametrize(
    "wrong",
    [("--images-frame", "out.txt"), ("--out", "page"), ("--images-frame", "file/out.csv")],
)
def test_files_that_cannot_be_written_are_refused_before_the_table(
    ledger: Path, monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, str]
) -> None:
    monkeypatch.chdir(ledger.parent)
    Path("page.html").write_text("<!DOCTYPE html>")
    Path("file").write_text("")
    code, out, err = command("table", ledger, *wrong)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_markup_in_the_name_of_a_tool_stays_text(tmp_path: Path) -> None:
    path = write(tmp_path / "l.sqlite", run(5, open_=5))
    (tmp_path / "other.csv").write_text("image,verdict\n0,verified\n")
    tool = f"[bold]t[/]={tmp_path / 'other.csv'}"
    code, out, err = command(
        "table", path, "--columns", "network,[bold]t[/]", "--verdicts-of", tool
    )
    assert code == 0, err
    assert "[bold]t[/] %" in out


def test_images_are_a_row_each_that_names_its_run(ledger: Path, tmp_path: Path) -> None:
    path = tmp_path / "images.csv"
    assert command("table", ledger, "--images-frame", path)[0] == 0
    frame = pd.read_csv(path)
    assert len(frame) == 30
    assert frame.groupby("seed").size().to_dict() == {0: 20, 1: 10}
    assert set(frame.columns) >= {"network", "method", "alpha", "image", "counterexample"}


def test_another_tool_is_a_column(tmp_path: Path) -> None:
    ledger = write(tmp_path / "one.sqlite", run(5, open_=5))
    (tmp_path / "t.csv").write_text("image,verdict\n" + "".join(f"{n},unsat\n" for n in range(10)))
    given = f"abcrown={tmp_path / 't.csv'}"
    code, out, _ = command("table", ledger, "--verdicts-of", given, "--format", "markdown")
    assert code == 0
    assert "| abcrown % |" in out
    assert "100.00" in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--by", "colour"), "group by 'colour'; expected one of network, method"),
        (("--columns", "colour"), "column 'colour'; expected some of network"),
        (("--verdicts-of", "tool"), "--verdicts-of; expected KEY=VALUE"),
        (("--verdicts-of", "tool=none.csv"), "verdicts of tool; expected a CSV file at none.csv"),
        (("--images-frame", "images.xlsx"), "expected a file that ends in .csv or .parquet"),
        (("--format", "word"), "'word' is not one of"),
    ],
)
def test_what_is_typed_wrongly_is_one_error(
    ledger: Path, words: tuple[str, ...], told: str
) -> None:
    code, _, err = command("table", ledger, *words)
    assert code == 2
    assert told in " ".join(err.split())
    assert "Traceback" not in err
