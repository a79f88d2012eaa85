"""`verify-pipeline train` in a few seconds on the embedded digits."""

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

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
