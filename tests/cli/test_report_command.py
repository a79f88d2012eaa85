"""`report` as it is typed."""

from __future__ import annotations

import shlex
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tests.cli.typed import command
from tests.onnx_networks import node, onnx_file, singles


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certification of own images: a network, arrays and a ledger."""
    folder = tmp_path_factory.mktemp("run")
    random = np.random.default_rng(1)
    nodes = [node("Flatten", "x", "flat"), node("MatMul", "flat", "w", "y")]
    weights = singles(w=random.normal(size=(9, 3)))
    (folder / "net.onnx").write_bytes(onnx_file(nodes, ("n", 1, 3, 3), weights))
    pixels = random.random((12, 1, 3, 3)).astype(np.float32)
    np.save(folder / "mine.npy", pixels)
    np.save(folder / "labels.npy", (pixels.reshape(12, 9) @ weights["w"]).argmax(1))
    arrays = ("--images", folder / "mine.npy", "--labels", folder / "labels.npy")
    code, _, _ = command("certify", folder / "net.onnx", *arrays, "--epsilon", "0.05")
    assert code == 0
    return folder


def test_a_page_is_written_and_says_what_made_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tmp_path / "classes.txt"
    names.write_text("cat\n<b>dog</b>\nbird\n", encoding="utf-8")
    arguments = [folder, "--out", tmp_path / "page.html", "--title", "A <title>"]
    arguments += ["--images", folder / "mine.npy", "--labels", folder / "labels.npy"]
    arguments += ["--class-names", names, "--gallery", "2"]
    typed = ["verify-pipeline", "report", *map(str, arguments)]
    monkeypatch.setattr("sys.argv", typed)
    code, out, _ = command("report", *arguments)
    assert code == 0
    assert out == f"wrote {tmp_path / 'page.html'}\n"
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<h1>A &lt;title&gt;</h1>" in text
    assert shlex.join(typed).replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in text
    assert "&lt;b&gt;dog&lt;/b&gt;" in text
    assert "<img" in text


def test_a_ledger_and_its_folder_are_one_run(folder: Path, tmp_path: Path) -> None:
    both = (folder, folder / "ledger.sqlite")
    code, _, _ = command("report", *both, "--out", tmp_path / "x.html")
    assert code == 0
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert text.count('class="run"') == 1
    assert "its images were not given" in text


def test_what_cannot_be_shown_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.html"
    (tmp_path / "empty").mkdir()
    code, _, error = command("report", tmp_path / "empty", "--out", out)
    assert (code, "expected a run's folder, with its ledger.sqlite" in error) == (2, True)
    code, _, error = command("report", tmp_path / "none.sqlite", "--out", out)
    assert (code, "ledger" in error) == (2, True)
    code, _, error = command("report", folder / "net.onnx", "--out", out)
    assert (code, "ledger" in error) == (2, True)
    code, _, error = command("report", folder, "--out", tmp_path / "..")
    assert (code, "--out" in error) == (2, True)
    code, _, error = command("report", folder, "--out", out, "--class-names", tmp_path)
    assert (code, "class names" in error) == (2, True)
    (tmp_path / "gap.txt").write_text("cat\n\ndog\n", encoding="utf-8")
    code, _, error = command("report", folder, "--out", out, "--class-names", tmp_path / "gap.txt")
    assert (code, "nothing on line 2" in error) == (2, True)
    assert not out.exists()


def test_a_ledger_without_verdicts_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "ledger.sqlite"
    with sqlite3.connect(folder / "ledger.sqlite") as source, sqlite3.connect(copy) as target:
        source.backup(target)
        target.execute("DELETE FROM verdicts")
    code, _, error = command("report", copy, "--out", tmp_path / "x.html")
    assert code == 2
    assert "expected a verdict" in error
    assert not (tmp_path / "x.html").exists()


def test_an_unfinished_run_has_a_page_that_says_so(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "ledger.sqlite"
    with sqlite3.connect(folder / "ledger.sqlite") as source, sqlite3.connect(copy) as target:
        source.backup(target)
        target.execute("DELETE FROM verdicts WHERE image > 4")
    assert command("report", copy, "--out", tmp_path / "x.html")[0] == 0
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert "5 of 12 images decided" in text
