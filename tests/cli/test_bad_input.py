"""Bad input, as a user may type or hold it: one clear error, exit code 2, nothing left behind."""

import gzip
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from typer.testing import CliRunner

from tests.cli.typed import write_network
from verify_pipeline.cli.app import app


def refused(folder: Path, *arguments: object) -> str:
    """What a command says that has to fail without leaving a file in ``folder``."""
    before = sorted(folder.rglob("*"))
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("error: ") == 1
    assert sorted(folder.rglob("*")) == before
    return result.stderr


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "two.onnx", np.eye(2))


@pytest.fixture
def arrays(tmp_path: Path) -> tuple[Path, Path]:
    """Four images of one bright pixel, and their labels."""
    images, labels = tmp_path / "images.npy", tmp_path / "labels.npy"
    pixels = np.zeros((4, 1, 1, 2), np.float32)
    pixels[[0, 1], 0, 0, 0] = pixels[[2, 3], 0, 0, 1] = 1.0
    np.save(images, pixels)
    np.save(labels, np.array([0, 0, 1, 1]))
    return images, labels


def own(network: Path, arrays: tuple[Path, Path], epsilon: object = 0.1) -> tuple[object, ...]:
    images, labels = arrays
    return ("certify", network, "--images", images, "--labels", labels, "--epsilon", epsilon)


def test_good_input_is_certified(network: Path, arrays: tuple[Path, Path]) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in own(network, arrays)])
    assert result.exit_code == 0, result.stderr
    assert "100.00" in result.stdout


@pytest.mark.parametrize("epsilon", ["-0.1", "1.01", "300/255", "inf", "nan", "much", "1/0"])
def test_epsilon(network: Path, arrays: tuple[Path, Path], tmp_path: Path, epsilon: str) -> None:
    said = refused(tmp_path, *own(network, arrays, epsilon))
    assert "epsilon" in said
    assert epsilon in said


def test_nan_in_data(network: Path, arrays: tuple[Path, Path], tmp_path: Path) -> None:
    pixels = np.load(arrays[0])
    pixels[2, 0, 0, 0] = np.nan
    np.save(arrays[0], pixels)
    assert "expected finite numbers in [0, 1]" in refused(tmp_path, *own(network, arrays))


@pytest.mark.parametrize("label", [2, -1])
def test_label_out_of_range(
    network: Path, arrays: tuple[Path, Path], tmp_path: Path, label: int
) -> None:
    np.save(arrays[1], np.array([0, 0, 1, label]))
    said = refused(tmp_path, *own(network, arrays))
    assert "label" in said
    assert str(label) in said


def test_missing_arrays(network: Path, arrays: tuple[Path, Path], tmp_path: Path) -> None:
    arrays[1].unlink()
    assert "labels.npy" in refused(tmp_path, *own(network, arrays))
    said = refused(tmp_path, "certify", network, "--images", arrays[0], "--epsilon", 0.1)
    assert "both or neither" in said


@pytest.mark.parametrize("option", [("--split", "train"), ("--data", "digits")])
def test_own_images_and_a_data_set(
    network: Path, arrays: tuple[Path, Path], tmp_path: Path, option: tuple[str, str]
) -> None:
    said = refused(tmp_path, *own(network, arrays), *option)
    assert f"Leave out {option[0]}" in said


def test_more_images_than_there_are(
    network: Path, arrays: tuple[Path, Path], tmp_path: Path
) -> None:
    said = refused(tmp_path, *own(network, arrays), "--indices", 99)
    assert "at most 4 images; got 99, which is read as a count" in said
    assert "99:100" in said


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_weight(arrays: tuple[Path, Path], tmp_path: Path, value: float) -> None:
    network = write_network(tmp_path / "bad.onnx", np.array([[1.0, value], [0.0, 1.0]]))
    said = refused(tmp_path, *own(network, arrays))
    assert "weight" in said
    assert str(value) in said.lower() or "infin" in said


def test_unsupported_operator(arrays: tuple[Path, Path], tmp_path: Path) -> None:
    network = write_network(tmp_path / "odd.onnx", np.eye(2), ["Relu", "Hardmax"])
    assert "Hardmax" in refused(tmp_path, *own(network, arrays))


def test_no_onnx_file(arrays: tuple[Path, Path], tmp_path: Path) -> None:
    network = tmp_path / "text.onnx"
    network.write_text("not a network", encoding="utf-8")
    assert "text.onnx" in refused(tmp_path, *own(network, arrays))


def test_network_and_data_that_do_not_belong_together(
    network: Path, arrays: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    said = refused(tmp_path, "certify", network, "--data", "digits", "--epsilon", 0.1)
    assert "(1, 8, 8)" in said


def test_nothing_says_which_data_or_epsilon(network: Path, tmp_path: Path) -> None:
    assert "--data" in refused(tmp_path, "certify", network, "--epsilon", "0.1")
    assert "--epsilon" in refused(tmp_path, "certify", network, "--data", "digits")


def test_a_ledger_that_is_none(network: Path, arrays: tuple[Path, Path], tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite"
    ledger.write_text("something else, long enough to be read as a page" * 100, encoding="utf-8")
    assert "ledger.sqlite" in refused(tmp_path, *own(network, arrays), "--ledger", ledger)


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


def test_unknown_recipe_key(tmp_path: Path) -> None:
    said = refused(
        tmp_path, "run", "digits-cc-ibp", "--out", tmp_path / "x", "--set", "train.sed=1"
    )
    assert "train.sed" in said
    assert "did you mean seed?" in said


def test_diverged_weights_are_not_exported(tmp_path: Path) -> None:
    from verify_pipeline import api

    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2, 2))
    with torch.no_grad():
        module[1].weight[0, 0] = torch.nan
    with pytest.raises(api.VerifyPipelineError, match="finite numbers; got NaN"):
        api.export_onnx(module, tmp_path / "bad.onnx", input_shape=(1, 1, 2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--indices", "²", "a count; got '²'"),
        ("--target", "²", "a .npy file; got no file"),
        ("--target", "-1", "classes from 0 to 1"),
    ],
)
def test_digits_that_are_no_number(
    network: Path, arrays: tuple[Path, Path], option: str, text: str, words: str
) -> None:
    assert words in refused(network.parent, *own(network, arrays), option, text)
