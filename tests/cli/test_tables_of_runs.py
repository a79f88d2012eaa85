"""What `table` says of runs that are stopped, asked for in parts, or named twice."""

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.cli.typed import command, write_network
from verify_pipeline.certify.ledger import Ledger


@pytest.fixture
def asked(tmp_path: Path) -> tuple[object, ...]:
    """`certify` of six images of two pixels: four are verified, two classified wrongly."""
    network = write_network(tmp_path / "two.onnx", np.eye(2))
    pixels = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [0, 1], [1, 0]], np.float32)
    np.save(tmp_path / "images.npy", pixels.reshape(6, 1, 1, 2))
    np.save(tmp_path / "labels.npy", np.array([0, 0, 1, 1, 0, 1]))
    arrays = ("--images", tmp_path / "images.npy", "--labels", tmp_path / "labels.npy")
    return ("certify", network, *arrays, "--epsilon", 0.1, "--stages", "clean,ibp")


def stopped_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C be pressed once so many verdicts are written."""
    append, left = Ledger.append, iter(range(count))

    def until(*arguments: object) -> int:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return append(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Ledger, "append", until)


def table(folder: Path, *ledgers: Path) -> tuple[dict[str, str], str]:
    """The one row of a table, and its page."""
    code, _, err = command("table", *ledgers, "--out", folder / "t")
    assert code == 0, err
    with (folder / "t.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    return row, (folder / "t.md").read_text(encoding="utf-8")


def test_a_stopped_run_claims_nothing(
    asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clean check writes its verdicts first: both are against the network."""
    ledger = tmp_path / "ledger.sqlite"
    with monkeypatch.context() as patch:
        stopped_after(2, patch)
        assert command(*asked)[0] == 130
    row, page = table(tmp_path, ledger)
    assert (row["images"], row["requested"]) == ("2", "6")
    assert row["standard"] == row["verified"] == row["robust_at_most"] == ""
    assert "| 2 of 6 | – | – |" in page
    assert "2 of 6 images decided, 4 without a verdict yet" in page
    assert "at least 0.00 % are verified, and at most 66.67 % can be" in page

    assert command(*asked)[0] == 0
    row, page = table(tmp_path, ledger)
    assert (row["images"], row["requested"], row["verified"]) == ("6", "6", "66.67")
    assert "not finished" not in page


def test_a_run_without_any_verdict_is_told_too(
    asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopped_after(0, patch)
        assert command(*asked)[0] == 130
    row, page = table(tmp_path, tmp_path / "ledger.sqlite")
    assert (row["images"], row["requested"]) == ("0", "6")
    assert "0 of 6 images decided, 6 without a verdict yet" in page


def test_a_stopped_run_is_continued_by_fewer_images_and_stays_unfinished(
    asked: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stopped_after(2, patch)
        assert command(*asked)[0] == 130
    assert command(*asked, "--indices", ":3")[0] == 0
    row, _ = table(tmp_path, tmp_path / "ledger.sqlite")
    assert (row["images"], row["requested"], row["verified"]) == ("5", "6", "")


@pytest.mark.parametrize("parts", [(":3", "3:"), (":4", "2:"), (":", ":"), ("::2", "1::2")])
@pytest.mark.parametrize("ledgers", [("a", "b"), ("a", "a")])
def test_parts_of_a_run_make_one_row(
    asked: tuple[object, ...], tmp_path: Path, parts: tuple[str, str], ledgers: tuple[str, str]
) -> None:
    paths = [tmp_path / f"{name}.sqlite" for name in ledgers]
    for part, path in zip(parts, paths, strict=True):
        assert command(*asked, "--indices", part, "--ledger", path)[0] == 0
    row, _ = table(tmp_path, *paths, paths[0])
    assert (row["images"], row["requested"], row["verified"]) == ("6", "6", "66.67")


def test_other_questions_stay_other_rows(asked: tuple[object, ...], tmp_path: Path) -> None:
    for more in ((), ("--epsilon", "0.2"), ("--top-k", "1"), ("--stages", "clean")):
        assert command(*asked, *more)[0] == 0
    code, _, err = command("table", tmp_path / "ledger.sqlite", "--out", tmp_path / "t")
    assert code == 0, err
    with (tmp_path / "t.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_ledgers_that_contradict_each_other_are_refused(
    asked: tuple[object, ...], tmp_path: Path
) -> None:
    """The same image, verified in one ledger and falsified in the other."""
    import sqlite3

    paths = [tmp_path / "a.sqlite", tmp_path / "b.sqlite"]
    for path in paths:
        assert command(*asked, "--ledger", path)[0] == 0
    with sqlite3.connect(paths[1]) as book:
        book.execute(
            "UPDATE verdicts SET verdict = 'verified', stage = 'ibp', bound = 1, input = NULL,"
            " input_shape = NULL, output = NULL, margin = NULL WHERE image = 4"
        )
    book.close()
    code, shown, err = command("table", *paths)
    assert (code, shown) == (2, "")
    assert f"ledger {paths[1]}, image 4; expected the verdict of the ledgers before it" in err
