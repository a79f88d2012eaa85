"""`plot` as it is typed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.typed import command, write_network

pytest.importorskip("matplotlib")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Four images of two pixels at two ε: all are verified at 0.1, two at 0.47."""
    network = write_network(tmp_path / "two.onnx", np.eye(2))
    pixels = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)
    np.save(tmp_path / "images.npy", pixels.reshape(4, 1, 1, 2))
    np.save(tmp_path / "labels.npy", np.array([0, 0, 1, 1]))
    arrays = ("--images", tmp_path / "images.npy", "--labels", tmp_path / "labels.npy")
    for epsilon in (0.1, 0.47):
        code, _, err = command("certify", network, *arrays, "--epsilon", epsilon)
        assert code == 0, err
    return tmp_path / "ledger.sqlite"


@pytest.mark.parametrize("kind", ["accuracy", "epsilon", "stages", "cactus", "margins"])
def test_every_kind_is_written_in_every_format(kind: str, ledger: Path) -> None:
    out = ledger.parent / "figures" / kind
    code, told, err = command(
        *("plot", ledger.parent, "--kind", kind, "--out", out, "--format", "pdf,svg,png")
    )
    assert code == 0, err
    names = [f"{kind}.{ending}" for ending in ("pdf", "svg", "png")]
    assert sorted(path.name for path in out.parent.iterdir()) == sorted(names)
    assert told.splitlines() == [f"wrote {out.parent / name}" for name in names]


def test_the_same_ledger_gives_the_same_file(ledger: Path) -> None:
    out = ledger.parent / "a"
    contents = []
    for _ in range(2):
        assert command("plot", ledger, "--kind", "epsilon", "--out", out)[0] == 0
        contents.append(out.with_suffix(".pdf").read_bytes())
    assert contents[0] == contents[1]


def refused(*arguments: object) -> str:
    """The message of a command that has to fail."""
    code, _, err = command("plot", *arguments)
    assert code == 2
    return err


def test_mistakes_are_told(ledger: Path) -> None:
    folder = ledger.parent
    out = ("--out", folder / "x")
    assert "expected one of accuracy, epsilon" in refused(ledger, *out, "--kind", "pie")
    assert "expected pdf or svg or png; got 'tiff'" in refused(ledger, *out, "--format", "tiff")
    assert "expected column or page; got '3in'" in refused(ledger, *out, "--width", "3in")
    assert "expected one of 0.1, 0.47; got 0.3" in refused(ledger, *out, "--epsilon", "0.3")
    assert "a number such as 0.1" in refused(ledger, *out, "--epsilon", "much")
    assert "a training's metrics.csv" in refused(folder, *out, "--kind", "training")
    assert "ledger" in refused(folder / "none", *out)
    assert "a path that ends in a file's name" in refused(ledger, "--out", "..")
    assert not list(folder.glob("x*"))


def test_a_missing_matplotlib_is_named(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = refused(ledger, "--out", ledger.parent / "x")
    assert "pip install 'verify_pipeline[plots]'" in message


def test_training_curves_are_drawn_from_a_folder(tmp_path: Path) -> None:
    rows = ["epoch,epsilon,alpha,train_loss,train_clean", "1,0.0,0.2,2.0,0.5", "2,0.1,0.2,1.0,0.7"]
    (tmp_path / "metrics.csv").write_text("\n".join(rows) + "\n")
    code, told, err = command("plot", tmp_path, "--kind", "training", "--out", tmp_path / "t")
    assert code == 0, err
    assert told == f"wrote {tmp_path / 't.pdf'}\n"
