"""`certify --class-order`: other labels are another data set; a network that guesses is told of."""

import io
import sqlite3
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from verify_pipeline import onnx
from verify_pipeline.cli.app import app

WORDNET_IDS = [f"n{199 - k:08d}" for k in range(200)]
IMAGES = 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """TinyImageNet with 60 grey validation images, all of the first class of wnids.txt."""
    folder = tmp_path / "root" / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(stream, "JPEG")
    for number in range(IMAGES):
        (folder / "val" / "images" / f"{number}.JPEG").write_bytes(stream.getvalue())
    (folder / "val" / "val_annotations.txt").write_text(
        "".join(f"{number}.JPEG\t{WORDNET_IDS[0]}\t0\t0\t0\t0\n" for number in range(IMAGES))
    )
    (folder / "wnids.txt").write_text("".join(f"{w}\n" for w in WORDNET_IDS))
    return tmp_path / "root"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Says class 0 to everything, which is the first of wnids.txt and the last in sorted order."""
    module = nn.Sequential(nn.AvgPool2d(64), nn.Flatten(), nn.Linear(3, 200))
    with torch.no_grad():
        module[2].weight.zero_()
        module[2].bias.zero_()
        module[2].bias[0] = 1.0
    return onnx.export_onnx(module, tmp_path / "net.onnx", (3, 64, 64), {}).path


def certify(network: Path, root: Path, *options: str) -> str:
    command = ["certify", network, "--data", "tinyimagenet", "--data-root", root, "--eps", "0.01"]
    result = CliRunner().invoke(
        app, [*map(str, command), "--stages", "clean,ibp,attack", *options], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 0, result.stderr
    return result.stderr


def test_each_order_is_a_data_set_of_its_own(network: Path, root: Path) -> None:
    assert "warning" not in certify(network, root, "--class-order", "published")
    told = certify(network, root)
    assert f"warning: 0 of {IMAGES} images are classified rightly" in told
    assert "--class-order published" in told
    with sqlite3.connect(network.with_name("ledger.sqlite")) as ledger:
        found = ledger.execute("SELECT DISTINCT data_set FROM runs ORDER BY data_set").fetchall()
    assert [name for (name,) in found] == ["tinyimagenet", "tinyimagenet:published"]
    again = CliRunner().invoke(app, ["recheck", str(network), "--data-root", str(root)])
    assert again.exit_code == 0, again.stderr
    assert f"tinyimagenet test, ε = 0.01: {IMAGES} of {IMAGES} counterexamples hold" in again.stdout
    assert "tinyimagenet:published test, ε = 0.01: 0 of 0 counterexamples hold" in again.stdout


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--data", "cifar10", "--class-order", "sorted"],
            "imagenet64; got 'sorted'. Leave it out.",
        ),
        (["--data", "tinyimagenet", "--class-order", "random"], "expected sorted or published"),
        (
            ["--images", "x.npy", "--labels", "y.npy", "--class-order", "sorted"],
            "Leave out --class-order",
        ),
    ],
)
def test_an_order_that_is_none_is_refused(network: Path, options: list[str], told: str) -> None:
    result = CliRunner().invoke(app, ["certify", str(network), "--eps", "0.01", *options])
    assert result.exit_code == 2
    assert told in result.stderr
