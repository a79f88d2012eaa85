"""A network of one's own, from its file to a table, as a user types it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verify_pipeline import api

from .typed import command

pytest.importorskip("sklearn")

FILE = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, classes, hidden=16, dropout=0.0):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()
        self.second = nn.Linear(4 * 36, hidden)
        self.last = nn.Linear(hidden, classes)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        return self.last(self.second(self.drop(x).flatten(1)).relu())
"""

RECIPE = """\
description: a network of one's own on digits
train:
  data: {name: digits}
  network: {file: net.py, factory: Net, arguments: {classes: 10}}
  loss: {name: cc-ibp, alpha: 0.5}
  epsilon: {target: 0.03, length: 1}
  optimiser: {epochs: 2, milestones: [], batch: 128}
certify: {indices: ":20", timeout: 5}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "net.py").write_text(FILE, encoding="utf-8")
    path = folder / "mine.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_from_a_file_to_a_table(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, _, told = command("run", recipe, "--out", out, "--quiet")
    assert code == 0, told
    network = api.load_network(out / "mine.onnx")
    assert network.metadata["network"] == "net.py:Net"
    code, table, told = command("table", out / "ledger.sqlite", "--format", "csv")
    assert code == 0, told
    assert "net.py:Net" in table
    code, _, told = command("export", out, "--out", tmp_path / "again.onnx")
    assert code == 0, told
    assert (tmp_path / "again.onnx").read_bytes() == (out / "mine.onnx").read_bytes()
    certify = ("certify", tmp_path / "again.onnx", "--ledger", tmp_path / "l.sqlite")
    code, _, told = command(*certify, "--indices", ":5", "--timeout", "5", "--quiet")
    assert code == 0, told


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("arguments.dropout", "0.5", "others from drop (Dropout)"),
        ("arguments.classes", "9", "expected logits N x 10"),
        ("arguments.hiden", "9", "unexpected keyword argument 'hiden'"),
        ("factory", "Nett", "expected a function Nett that makes the network; got only Net"),
        ("file", "no.py", "expected a Python file that can be read; got No such file"),
        ("name", "mlp", "expected a name of the zoo or a file; got both"),
        ("width", "2", "width and batch_norm belong to a network of the zoo"),
    ],
)
def test_a_network_that_cannot_be_trained_leaves_nothing_behind(
    recipe: Path, tmp_path: Path, key: str, value: str, told: str
) -> None:
    out = tmp_path / "run"
    code, printed, error = command(
        "run", recipe, "--out", out, "--set", f"train.network.{key}={value}"
    )
    assert code == 2
    assert told in " ".join(error.split())
    assert "Traceback" not in error
    assert printed == ""
    assert not out.exists()


def test_a_moved_file_is_exported_from_its_new_place(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert command("train", recipe, "--out", out, "--quiet")[0] == 0
    recipe = recipe.parent.rename(tmp_path / "moved") / "mine.yaml"
    code, _, told = command("export", out)
    assert code == 2
    assert "expected a Python file that can be read" in told
    for arguments in (("train", recipe, "--out", out, "--quiet"), ("export", out)):
        code, _, told = command(*arguments)
        assert code == 0, told


def test_a_changed_file_does_not_continue(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert command("train", recipe, "--out", out, "--quiet")[0] == 0
    recipe.with_name("net.py").write_text(FILE.replace("relu()", "tanh()"), encoding="utf-8")
    for arguments in (("train", recipe, "--out", out), ("export", out)):
        code, _, error = command(*arguments)
        assert code == 2
        assert "net" in error
        assert "content" in error
    assert not list(out.glob("*.onnx"))


@pytest.mark.parametrize("network", ["{}", "{width: 1.0}"])
def test_a_recipe_without_a_network(recipe: Path, tmp_path: Path, network: str) -> None:
    text = recipe.read_text(encoding="utf-8")
    start, end = text.index("{file"), text.index("10}}") + 4
    recipe.write_text(text[:start] + network + text[end:], encoding="utf-8")
    code, _, error = command("train", recipe, "--out", tmp_path / "run")
    assert code == 2
    assert "train.network (line 4): expected name, or file and factory; got neither" in error


BOTH = """\
train:
  data: {folder: signs, mean: [0.5], std: [0.25]}
  network: {file: net.py, factory: Net, arguments: {classes: 2}}
  loss: {name: mtl-ibp, alpha: 0.5}
  epsilon: {target: 0.02, length: 1}
  optimiser: {epochs: 3, milestones: [], batch: 8}
certify: {timeout: 5}
"""


def test_an_own_network_on_a_folder_of_own_images(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 6)):
        for name, brightness in (("dark", 40), ("bright", 200)):
            folder = recipe.parent / "signs" / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                pixels = generator.integers(brightness - 30, brightness + 30, (8, 8))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{place}.png")
    recipe.with_name("both.yaml").write_text(BOTH, encoding="utf-8")
    monkeypatch.chdir(recipe.parent)
    code, table, told = command("run", "both.yaml", "--out", "out", "--quiet")
    assert code == 0, told
    for word in ("signs", "net.py:Net", "MTL-IBP"):
        assert word in table
    monkeypatch.chdir(tmp_path)
    out = recipe.parent / "out"
    for arguments in (
        ("certify", out / "both.onnx", "--epsilon", "0.01", "--quiet"),
        ("export", out, "--out", "again.onnx"),
        ("report", out, "--out", "page.html"),
    ):
        code, _, told = command(*arguments)
        assert code == 0, told
    assert "bright" in (tmp_path / "page.html").read_text(encoding="utf-8")
