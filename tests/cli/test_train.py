"""`verify-pipeline train` in a few seconds on the embedded digits."""

import csv
import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from verify_pipeline import api
from verify_pipeline.cli.app import app

pytest.importorskip("sklearn")

RECIPE = """\
description: as small as it gets
train:
  data: {name: digits}
  network: {name: mlp, width: 0.1}
  loss: {name: mtl-ibp, alpha: 0.5}
  epsilon: {target: 1/16, length: 1}
  optimiser: {epochs: 2, milestones: [], batch: 256}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return str(path)


def test_a_training_leaves_its_metrics_and_says_each_epoch(recipe: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", recipe, "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    assert "epoch 2/2" in result.stderr
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]


def test_other_settings_do_not_continue_in_the_same_folder(recipe: str, tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    first = CliRunner().invoke(app, ["train", recipe, "--out", out])
    again = CliRunner().invoke(app, ["train", recipe, "--out", out, "--set", "train.seed=1"])
    assert (first.exit_code, again.exit_code) == (0, 2)
    assert "seed" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "train.seed"], "--set; expected KEY=VALUE"),
        (["--set", "train.loss.alpha=2"], "train.loss.alpha"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--data-root", "/no/such/folder"], "data root"),
    ],
)
def test_bad_arguments_leave_nothing_behind(
    recipe: str, tmp_path: Path, arguments: list[str], told: str
) -> None:
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", recipe, "--out", str(out), *arguments])
    assert result.exit_code == 2
    assert told in result.stderr
    assert not out.exists()


def test_metrics_go_to_tensorboard_too(recipe: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    out = tmp_path / "run"
    result = CliRunner().invoke(app, ["train", recipe, "--out", str(out), "--tensorboard"])
    assert result.exit_code == 0, result.stderr
    (events,) = (out / "tensorboard").iterdir()
    assert events.stat().st_size > 0


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    recipe: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder", encoding="utf-8")
    result = CliRunner().invoke(app, ["train", recipe, "--out", str(file / "run")])
    assert result.exit_code == 2
    assert f"{file} is a file" in result.stderr
    assert "epoch" not in result.stderr


class TestParents:
    """One training from another, as a user types it."""

    def train(self, recipe: str, out: Path, *sets: str) -> None:
        words = [word for text in sets for word in ("--set", f"train.{text}")]
        result = CliRunner().invoke(app, ["train", recipe, "--out", str(out), *words])
        assert result.exit_code == 0, result.stderr

    def rows(self, out: Path) -> list[dict[str, str]]:
        with (out / "metrics.csv").open() as file:
            return list(csv.DictReader(file))

    def test_extended_with_another_rate_and_continued_without_typing_it_again(
        self, recipe: str, tmp_path: Path
    ) -> None:
        old, new = tmp_path / "old", tmp_path / "new"
        self.train(recipe, old)
        sets = ("start.take=training", "optimiser.epochs=4", "optimiser.learning_rate=1e-4")
        self.train(recipe, new, f"start.weights={old}", *sets)
        found = self.rows(new)
        assert [row["epoch"] for row in found] == ["1", "2", "3", "4"]
        assert [float(row["rate"]) for row in found] == [5e-4, 5e-4, 1e-4, 1e-4]
        begun = json.loads((new / "begun.json").read_text())
        assert begun["set"]["train.optimiser.epochs"] == "4"
        self.train(recipe, new)
        moved = old.rename(tmp_path / "moved")
        self.train(recipe, new, f"start.weights={moved}")
        for key, typed, told in (
            ("take", "weights", "train.start.take=training"),
            ("weights", "nowhere", f"train.start.weights={old}"),
        ):
            command = ["train", recipe, "--out", str(new), "--set", f"train.start.{key}={typed}"]
            result = CliRunner().invoke(app, command)
            assert result.exit_code == 2
            assert told in result.stderr

    def test_the_exported_file_names_its_origin_without_its_path(
        self, recipe: str, tmp_path: Path
    ) -> None:
        old, new = tmp_path / "old", tmp_path / "new"
        self.train(recipe, old, "keep.every=1")
        self.train(recipe, new, f"start.weights={old}", "start.epoch=1")
        assert CliRunner().invoke(app, ["export", str(new)]).exit_code == 0
        notes = api.load_network(new / "tiny.onnx").metadata
        sha = hashlib.sha256((old / "kept-epoch-0001.safetensors").read_bytes()).hexdigest()
        assert json.loads(notes["lineage"]) == [{"sha256": sha, "epoch": 1, "take": "weights"}]
        assert json.loads(notes["training"])["start"]["weights"] == f"sha256:{sha}"
        assert str(tmp_path) not in str(notes)


def test_epochs_are_exported(recipe: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    sets = ["data.validation=60", "watch.every=1", "keep.every=1", "keep.best=validation_standard"]
    words = [word for text in [*sets, "keep.network=best"] for word in ("--set", f"train.{text}")]
    command = ["train", recipe, "--out", str(out), "--set", "train.epsilon.length=0", *words]
    assert CliRunner().invoke(app, command).exit_code == 0
    for arguments in ([], ["--epoch", "1"], ["--epoch", "best"], ["--epoch", "last"]):
        result = CliRunner().invoke(app, ["export", str(out), *arguments])
        assert result.exit_code == 0, result.stderr
    with (out / "metrics.csv").open() as file:
        best = list(csv.DictReader(file))[-1]["best_epoch"]
    files = sorted(path.name for path in out.glob("*.onnx"))
    assert files == ["tiny-epoch-1.onnx", "tiny-epoch-2.onnx", "tiny.onnx"]
    notes = api.load_network(out / "tiny.onnx").metadata
    assert notes["epoch_is"] == "best by validation_standard"
    assert notes.get("epoch", "2") == best
    assert api.load_network(out / "tiny-epoch-1.onnx").metadata["epoch"] == "1"
    assert api.load_trained(out, epoch=1).epoch == 1
    result = CliRunner().invoke(app, ["export", str(out), "--epoch", "7"])
    assert result.exit_code == 2
    assert "an epoch whose checkpoint is kept there: 1, 2; got 7" in result.stderr
