"""Tables: every number counted by hand, the same bytes for the same verdicts."""

import io
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from tests.reporting.runs import run
from verify_pipeline.certify.extents import Extent
from verify_pipeline.certify.records import Record, Run, RunInfo
from verify_pipeline.certify.tally import Summary, Tally
from verify_pipeline.errors import ConfigError, DataError
from verify_pipeline.problem import TIED, Reason, Status, Verdict
from verify_pipeline.reporting import (
    ProgressBars,
    as_markdown,
    as_text,
    seconds_table,
    terminal_table,
    verdict_table,
    write_images,
    write_table,
)
from verify_pipeline.reporting.cells import HEADINGS
from verify_pipeline.reporting.facts import epsilon_text
from verify_pipeline.reporting.notes import notes, reasons
from verify_pipeline.reporting.tables import PERCENTAGES

ALL = '["clean", "ibp", "attack", "crown", "alpha-crown", "branch-and-bound"]'
INFO = RunInfo(
    Run("n" * 64, "digits", "test", "linf 0.1", "margins", "s" * 16),
    "tiny",
    0.1,
    f'{{"stages": {ALL}}}',
)


def record(index: int, status: Status, stage: str, reason: Reason | None = None) -> Record:
    return Record(
        index=index,
        instance="d",
        label=index % 10,
        status=status,
        reason=reason,
        stage=stage,
        bound=None,
        margin=None,
        seconds=0.5 + index,
        timeout=10.0,
        attempts=1,
        detail="",
        versions="torch 0",
        decided_at=0.0,
    )


def summary(info: RunInfo = INFO) -> Summary:
    """20 images: 2 wrong, 3 + 1 broken, 6 + 3 + 1 + 2 verified, 2 undecided."""
    kinds = [
        *[(Status.FALSIFIED, "clean", None)] * 2,
        *[(Status.FALSIFIED, "attack", None)] * 3,
        (Status.FALSIFIED, "branch-and-bound", None),
        *[(Status.VERIFIED, "ibp", None)] * 6,
        *[(Status.VERIFIED, "crown", None)] * 3,
        (Status.VERIFIED, "alpha-crown", None),
        *[(Status.VERIFIED, "branch-and-bound", None)] * 2,
        (Status.UNKNOWN, "branch-and-bound", Reason.TIMEOUT),
        (Status.UNKNOWN, "branch-and-bound", Reason.BUDGET),
    ]
    records = tuple(record(n, *kind) for n, kind in enumerate(kinds))
    return Summary(info, records, asked=Extent.of(range(20)))


def test_every_column_counts_what_it_says() -> None:
    (row,) = verdict_table([summary()]).to_dict("records")
    assert row["images"] == 20
    assert row["standard"] == 90.0
    assert row["attack_robust"] == 75.0
    assert row["ibp_verified"] == 30.0
    assert row["crown_verified"] == 45.0
    assert row["alpha_crown_verified"] == 50.0
    assert row["verified"] == 60.0
    assert row["robust_at_most"] == 70.0
    assert row["undecided"] == 2
    assert row["epsilon"] == "0.1"


def test_counts_are_consistent() -> None:
    tally = summary().tally
    assert tally.right - sum(tally.falsified.values()) == tally.proved + tally.undecided
    assert tally.unknown == {"TIMEOUT": 1, "BUDGET": 1}
    assert Tally.of([]).proved == 0


def test_what_a_run_did_not_try_is_missing_not_zero() -> None:
    (row,) = verdict_table(
        [summary(replace(INFO, settings='{"stages": ["clean", "ibp"]}'))]
    ).to_dict("records")
    assert row["ibp_verified"] == 30.0
    assert row["crown_verified"] is None or pd.isna(row["crown_verified"])
    assert row["attack_robust"] is None or pd.isna(row["attack_robust"])


def test_verdicts_that_are_left_out_are_told() -> None:
    stale = [replace(summary(), replaced=2), summary(), replace(summary(), replaced=1)]
    for text in (as_text(stale), as_markdown(stale, "c")):
        told = " ".join(text.split())
        assert "Not counted: verdicts of images that were replaced since (3)." in told
    for text in (as_text([summary()]), as_markdown([summary()], "c")):
        assert "Not counted" not in text


def test_an_unfinished_run_claims_nothing_of_the_images_that_have_no_verdict() -> None:
    """20 of 60: 12 verified, 6 falsified, 2 undecided; the other 40 may be either."""
    stopped = replace(summary(), asked=Extent.of(range(60)))
    (row,) = verdict_table([stopped]).to_dict("records")
    assert (row["images"], row["requested"]) == (20, 60)
    assert pd.isna(row["undecided"])
    assert all(pd.isna(row[name]) for name in PERCENTAGES if name in row)
    for text in (as_text([stopped]), as_markdown([stopped], "c")):
        told = " ".join(text.split())
        assert "20 of 60" in told
        assert "18 of 60 images decided, 2 undecided, 40 without a verdict yet" in told
        assert "at least 20.00 % are verified, and at most 90.00 % can be" in told
        assert "60.00" not in text
        assert "70.00" not in text
    page = as_markdown([stopped, summary()], "c")
    assert "Percentages are of all images" not in page
    assert "none here" not in page
    assert page.splitlines()[2].split("|")[-2].strip() == "–"


def test_a_run_with_nothing_undecided_yet_does_not_say_none() -> None:
    stopped = replace(summary(), records=summary().records[:18], asked=Extent.of(range(60)))
    assert "none here" not in as_markdown([stopped], "c")
    done = replace(stopped, asked=Extent.of(range(18)))
    assert "none here" in as_markdown([done], "c")
    assert "Percentages are of all images." in as_markdown([done], "c")


def test_bounds_of_an_unfinished_run_are_rounded_away_from_the_claim() -> None:
    """12 of 19 + 16 = 35 is 34.2857 %, and 35 less the 6 falsified 82.857 %."""
    stopped = as_text([replace(summary(), asked=Extent.of(range(35)))])
    told = " ".join(stopped.split())
    assert "at least 34.28 % are verified, and at most 82.86 % can be" in told


def test_a_run_of_unknown_extent_says_so() -> None:
    old = replace(summary(), asked=None)
    (row,) = verdict_table([old]).to_dict("records")
    assert row["verified"] == 60.0
    assert pd.isna(row["requested"])
    for text in (as_text([old, summary()]), as_markdown([old, summary()], "c")):
        told = " ".join(text.split())
        assert "20 of ?" in told
        assert "did not note how many images were asked for" in told


def test_a_finished_run_needs_no_note() -> None:
    assert notes([summary()]) == []
    (row,) = verdict_table([summary()]).to_dict("records")
    assert (row["images"], row["requested"]) == (20, 20)


def test_reasons_stand_under_a_table_on_a_terminal_too() -> None:
    given_up = record(20, Status.UNKNOWN, "branch-and-bound", Reason.GIVEN_UP)
    records = (*summary().records, given_up)
    told = " ".join(as_text([replace(summary(), records=records)]).split())
    assert f"Undecided: 1 ({Reason.TIMEOUT.value}), 1 ({Reason.GIVEN_UP.value})" in told


def test_reasons_of_several_runs_are_told_apart() -> None:
    asked = replace(INFO, run=replace(INFO.run, specification="top-2"))
    late = tuple(record(n, Status.UNKNOWN, "crown", Reason.TIMEOUT) for n in range(3))
    other = Summary(replace(asked, network_name="b"), late, asked=Extent.of(range(3)))
    first = "tiny (digits test, ε = 0.1): 1 ("
    second = f"b (digits test, ε = 0.1, top-2): 3 ({Reason.TIMEOUT.value})"
    for text in (as_text([summary(), other]), as_markdown([summary(), other], "c")):
        told = " ".join(text.split())
        assert first in told
        assert second in told


def test_every_column_has_a_heading_and_what_ties_is_shown() -> None:
    """Of a run that asks α,β-CROWN and something unusual, whose file ties at one image."""
    stages = ALL.replace("]", ', "abcrown"]')
    info = replace(
        INFO, settings=f'{{"stages": {stages}}}', run=replace(INFO.run, specification="top-2")
    )
    tied = replace(record(20, Status.VERIFIED, "ibp"), detail=f"{TIED}: of n5")
    found = replace(summary(info), records=(*summary().records, tied), asked=Extent.of(range(21)))
    assert set(terminal_table([found]).names) <= set(HEADINGS)
    assert "Tied as deployed %" in as_text([found], width=400)
    page = as_markdown([found], "c")
    assert "| Tied as deployed % |" in page
    assert "saturated, the file's own outputs tie" in page
    assert "| 4.76 |" in page


def test_names_are_shown_as_they_are() -> None:
    """Brackets are markup to the library that draws the table."""
    assert "[/b]" in as_text([summary(replace(INFO, network_name="a[/b]"))])


def test_seconds_add_up() -> None:
    (row,) = seconds_table([summary()]).to_dict("records")
    assert row["seconds"] == sum(0.5 + n for n in range(20))
    assert row["mean_seconds"] == 10.0
    assert row["most_seconds"] == 19.5


def test_several_networks_are_several_rows() -> None:
    other = replace(INFO, network_name="bigger", epsilon=2 / 255)
    frame = verdict_table([summary(), summary(other)])
    assert list(frame["network"]) == ["tiny", "bigger"]
    assert list(frame["epsilon"]) == ["0.1", "2/255"]


@pytest.mark.parametrize(
    ("epsilon", "text"),
    [
        (2 / 255, "2/255"),
        (8 / 255, "8/255"),
        (0.1, "0.1"),
        (0.3, "0.3"),
        (0.00784, "0.00784"),
        (0.0, "0"),
        (1.0, "1"),
        (1 / 3, "85/255"),
        (None, ""),
    ],
)
def test_epsilon_is_written_exactly(epsilon: float | None, text: str) -> None:
    assert epsilon_text(epsilon) == text


def test_files_are_the_same_for_the_same_verdicts_whatever_the_time(tmp_path: Path) -> None:
    first = write_table([summary()], tmp_path / "a", "toy", "verify-pipeline table x")
    slower = summary()
    later = tuple(replace(r, seconds=9.0, decided_at=7.0) for r in slower.records)
    slower = replace(slower, records=later)
    second = write_table([slower], tmp_path / "b", "toy", "verify-pipeline table x")
    assert [path.name for path in first] == [
        "toy.csv",
        "toy.md",
        "toy.tex",
        "toy.html",
        "toy-seconds.csv",
        "toy-seconds.md",
    ]
    same = [a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True)]
    assert same == [True, True, True, True, False, False]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(
        path.name for path in first
    )


def test_every_file_names_its_command(tmp_path: Path) -> None:
    command = "verify-pipeline table a.ledger --name toy"
    for path in write_table([summary()], tmp_path, "toy", command):
        assert command in path.read_text(encoding="utf-8")
    frame = pd.read_csv(tmp_path / "toy.csv")
    assert frame["generated_by"].tolist() == [command]
    assert frame["verified"].tolist() == [60.0]


def test_markdown_says_what_stayed_open_and_escapes_names() -> None:
    page = as_markdown([summary(replace(INFO, network_name="a|b"))], "make demo")
    assert "| a\\|b | digits | test | 0.1 | 20 | 90.00 [69.9, 97.2] | 75.00 | 30.00 |" in page
    assert f"  * 1 ({Reason.TIMEOUT.value}), 1 ({Reason.BUDGET.value})" in page
    assert "Generated by `make demo`." in page


def test_text_shows_verdicts_and_seconds_in_one_row() -> None:
    text = as_text([summary()])
    assert "60.00" in text
    assert "200.0" in text
    assert "Undecided" in text


def test_a_missing_number_is_a_dash() -> None:
    text = as_text([summary(replace(INFO, settings="{}"))])
    assert "–" in text
    assert "nan" not in text.lower()


def test_images_as_a_frame(tmp_path: Path) -> None:
    frame = summary().to_frame()
    assert len(frame) == 20
    assert frame["reason"].tolist()[-2:] == ["timeout", "budget"]
    path = write_images([summary()], tmp_path / "images.csv")
    assert pd.read_csv(path)["verdict"].value_counts().to_dict() == {
        "verified": 12,
        "falsified": 6,
        "unknown": 2,
    }


def test_nothing_to_tabulate_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none in the ledger"):
        write_table([], tmp_path, "toy", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can be written"):
        write_table([summary()], tmp_path / "file", "toy", "x")


def test_progress_bars_show_what_each_stage_decided() -> None:
    out = io.StringIO()
    with ProgressBars(Console(file=out, width=120, force_terminal=True, color_system=None)) as bars:
        bars.started(3, 1)
        bars.stage_started("ibp", 2)
        bars.decided(0, Verdict(Status.VERIFIED, "ibp", 0.1, bound=1.0))
        bars.looked_at("ibp", 2)
        bars.finished()
    assert "1 of 3 images are decided already" in out.getvalue()
    assert "1 verified" in out.getvalue()


def test_undecided_images_of_many_runs_are_one_line() -> None:
    runs = [run(5, open_=2, seed=seed) for seed in range(4)]
    assert reasons(runs[:3]) == [f"net (mnist test, ε = 0.1): 2 ({Reason.TIMEOUT.value})"] * 3
    assert reasons([*runs, run(5, seed=9)]) == [f"in 4 of 5 runs: 8 ({Reason.TIMEOUT.value})"]


def test_a_table_replaces_a_table_but_no_page_of_the_same_name(tmp_path: Path) -> None:
    write_table([summary()], tmp_path, "toy", "x")
    write_table([summary()], tmp_path, "toy", "x")
    page = "<!DOCTYPE html>\n<html></html>"
    (tmp_path / "toy.html").write_text(page, encoding="utf-8")
    (tmp_path / "toy.csv").unlink()
    with pytest.raises(ConfigError, match="a whole page"):
        write_table([summary()], tmp_path, "toy", "x")
    assert (tmp_path / "toy.html").read_text(encoding="utf-8") == page
    assert not (tmp_path / "toy.csv").exists()
