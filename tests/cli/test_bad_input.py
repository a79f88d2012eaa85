"""Bad input, as a user may type or hold it: one clear error, exit code 2, nothing left behind."""

import gzip
import hashlib
import shlex
import shutil
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from typer.testing import CliRunner

from tests.cli.bad_commands import CASES
from tests.cli.bad_input import write_all
from tests.cli.typed import write_network
from verify_pipeline.cli.app import app


def digests(folder: Path) -> dict[Path, str]:
    """What lies in a folder, by path."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "a folder"
        for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, str]]:
    """The folder of bad files, and what is in it."""
    folder = tmp_path_factory.mktemp("bad")
    write_all(folder)
    return folder, digests(folder)


@pytest.mark.parametrize("typed", CASES, ids=lambda typed: typed[:80])
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    typed: str, bad: tuple[Path, dict[Path, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = bad
    monkeypatch.chdir(folder)
    for variable in ("ABCROWN_HOME", "ABCROWN_PYTHON"):
        monkeypatch.delenv(variable, raising=False)
    result = CliRunner().invoke(app, shlex.split(typed))
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    told = " ".join(result.stderr.replace("│", " ").split())
    assert " ".join(CASES[typed].split()) in told
    assert told.startswith(("error: ", "Usage: "))
    left = digests(folder)
    shutil.rmtree(folder / "x", ignore_errors=True)  # one failure is enough
    assert left == before


def test_labels_that_nothing_asks_for_may_be_any(
    bad: tuple[Path, dict[Path, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of rows, and of a network with one output."""
    monkeypatch.chdir(bad[0])
    np.save(tmp_path / "row.npy", np.array([[1.0]]))
    own = ("--images", "images.npy", "--labels", "labels-2.npy", "--epsilon", "0.1")
    boxes = ("--lower", "lower.npy", "--upper", "upper.npy", "--labels", "labels-2.npy")
    rows = ("--rows", f"{tmp_path}/row.npy", "--ledger", f"{tmp_path}/ledger.sqlite")
    for asked in (own, boxes):
        result = CliRunner().invoke(app, ["certify", "one.onnx", *asked, *rows])
        assert result.exit_code == 0, result.stderr
        assert "100.00" in result.stdout


def test_rows_need_no_labels(
    bad: tuple[Path, dict[Path, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(bad[0])
    np.save(tmp_path / "row.npy", np.array([[1.0]]))
    asked = ("--images", "images.npy", "--rows", f"{tmp_path}/row.npy")
    ledger = ("--ledger", f"{tmp_path}/ledger.sqlite")
    certify = ["certify", "one.onnx", *asked, "--epsilon", "0.1", *ledger]
    for typed in (certify, ["recheck", "one.onnx", *asked, *ledger]):
        result = CliRunner().invoke(app, typed)
        assert result.exit_code == 0, result.stderr


def test_every_command_is_typed() -> None:
    names = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert {typed.split()[0] for typed in CASES} == names


def test_doctor_says_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--data-root", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "-> Name a folder that exists" in result.stdout


@pytest.mark.parametrize("epsilon", [1.5, -0.1, float("nan"), float("inf"), "much", True])
def test_the_api_tells_a_wrong_epsilon_as_the_commands_do(
    bad: tuple[Path, dict[Path, str]], epsilon: float
) -> None:
    from verify_pipeline import api

    folder = bad[0]
    images = api.load_arrays(folder / "images.npy", folder / "labels.npy", 2)
    with pytest.raises(api.VerifyPipelineError, match=r"settings: 1 error\n  epsilon: "):
        api.certify(folder / "two.onnx", images, epsilon)


def refused(folder: Path, *arguments: object) -> str:
    """What a command says that has to fail without leaving a file in ``folder``."""
    before = digests(folder)
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert digests(folder) == before
    return result.stderr


def test_missing_and_damaged_data_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no network in tests")

    monkeypatch.setattr(pooch, "retrieve", offline)
    monkeypatch.setattr(pooch, "os_cache", lambda _: tmp_path / "cache")
    root, out = tmp_path / "data", tmp_path / "out"
    (root / "mnist").mkdir(parents=True)
    train = ("train", "mnist-0.1-cnn7-cc-ibp", "--out", out, "--data-root", root)
    said = refused(tmp_path, *train)
    assert "--data-root" in said
    assert "VERIFY_PIPELINE_DATA" in said
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (root / "mnist" / name).write_bytes(gzip.compress(bytes(64)))
    said = refused(tmp_path, *train)
    assert "MD5" in said
    assert "delete it and fetch it again" in said


def test_diverged_weights_are_not_exported(tmp_path: Path) -> None:
    from verify_pipeline import api

    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
    with torch.no_grad():
        module[1].weight[0, 0] = torch.nan
    with pytest.raises(api.VerifyPipelineError, match="finite numbers; got NaN"):
        api.export_onnx(module, tmp_path / "bad.onnx", input_shape=(1, 1, 2))
    assert list(tmp_path.iterdir()) == []


def test_unsupported_operator(bad: tuple[Path, dict[Path, str]], tmp_path: Path) -> None:
    network = write_network(tmp_path / "odd.onnx", np.eye(2), ["Relu", "Hardmax"])
    arrays = ("--images", bad[0] / "images.npy", "--labels", bad[0] / "labels.npy")
    assert "Hardmax" in refused(tmp_path, "certify", network, *arrays, "--epsilon", 0.1)
