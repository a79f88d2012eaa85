"""`show` as it is typed: one image of a ledger in words and as a picture."""

import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.typed import command, write_network
from verify_pipeline.figures.draw.image import ImageCaption, draw_image
from verify_pipeline.reporting.pictures import pictures_of

PIXELS = [(0.75, 0.25), (0.5625, 0.4375), (0.25, 0.75), (1.0, 0.0)]
"""Of class 0 iff the first is greater: at ε = 0.1 verified, falsified, misclassified, verified."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A network, images, and a ledger of one run."""
    write_network(tmp_path / "net.onnx", np.eye(2))
    np.save(tmp_path / "pairs.npy", np.array(PIXELS, np.float32).reshape(4, 1, 1, 2))
    np.save(tmp_path / "labels.npy", np.zeros(4, np.int64))
    certified(tmp_path, "0.1")
    return tmp_path


def certified(folder: Path, epsilon: str, *options: str) -> None:
    arrays = ("--images", folder / "pairs.npy", "--labels", folder / "labels.npy")
    code, _, err = command("certify", folder / "net.onnx", *arrays, "--epsilon", epsilon, *options)
    assert code == 0, err


def shown(folder: Path, image: int, *options: object) -> tuple[int, str, str]:
    return command("show", folder / "ledger.sqlite", "--image", image, *options)


def own(folder: Path) -> tuple[object, ...]:
    return ("--images", folder / "pairs.npy", "--labels", folder / "labels.npy")


def fact(out: str, name: str) -> str:
    """The value behind a name, on one line."""
    out = out.replace("\n" + " " * 16, " ")
    (line,) = [line for line in out.splitlines() if line.strip().startswith(f"{name} ")]
    return line.strip().removeprefix(name).strip()


def test_a_counterexample_in_words(folder: Path) -> None:
    code, out, err = shown(folder, 1, *own(folder), "--network", folder / "net.onnx")
    assert code == 0, err
    assert fact(out, "image") == "1 of pairs arrays, label 0"
    assert fact(out, "verdict") == "falsified"
    assert fact(out, "box") == "L∞, ε = 0.1"
    assert fact(out, "specification") == "margins"
    assert "1 attempt, 360 allowed" in fact(out, "seconds")
    assert "onnxruntime" in fact(out, "versions")
    before, after = out.split("counterexample", 1)
    assert "predicted     class 0\n" in before
    assert "outputs       0: 0.5625, 1: 0.4375\n" in before
    assert "predicted     class 1 instead of 0" in after
    margin = float(after.partition("margin ")[2].split()[0])
    with sqlite3.connect(folder / "ledger.sqlite") as book:
        query = "SELECT margin, stage FROM verdicts WHERE image = 1"
        stored, stage = book.execute(query).fetchone()
    assert margin == pytest.approx(stored, rel=1e-5)
    assert f"stage           {stage}\n" in before
    distance = float(fact(after, "distance").split()[1])
    assert 1 / 16 <= distance <= 0.1000001
    assert "2 of 2 pixels, the most:" in after
    assert "[0, 0, 0]  0.5625 → " in after
    assert "[0, 0, 1]  0.4375 → " in after


def test_what_each_stage_did(folder: Path) -> None:
    _, out, _ = shown(folder, 0)
    assert fact(out, "verdict") == "verified"
    table = [line.split() for line in out.splitlines()]
    stages = [
        words[0] for words in table[table.index(["stage", "seconds", "bound"]) + 1 :] if words
    ]
    assert stages[:2] == ["clean", "ibp"]
    # (0.75 - 0.1) - (0.25 + 0.1)
    assert fact(out, "bound") == "0.3 (of the least margin)"
    assert "counterexample" not in out


def test_a_misclassified_image(folder: Path) -> None:
    _, out, _ = shown(folder, 2, *own(folder))
    assert fact(out, "verdict") == "falsified (misclassified as it is)"
    assert fact(out, "changed") == "0 of 2 pixels: it is the image itself"
    assert fact(out, "distance") == "L∞ 0 (ε = 0.1)"


def test_the_reason_of_an_open_image_is_a_sentence(folder: Path) -> None:
    certified(folder, "0.2", "--stages", "clean")
    code, out, err = shown(folder, 0, "--epsilon", "0.2")
    assert code == 0, err
    assert fact(out, "verdict") == "unknown (not_decided)"
    assert fact(out, "reason").startswith("left open by every stage that was asked for")


def test_without_the_images_the_rest_is_shown(folder: Path) -> None:
    code, out, err = shown(folder, 1)
    assert code == 0, err
    assert "The image itself is not known: images pairs arrays; expected a known data set" in out
    assert "with --images and --labels" in out
    assert "class 1 instead of 0" in out
    assert "distance" not in out


def test_several_runs_are_listed_and_one_is_chosen(folder: Path) -> None:
    certified(folder, "0.05")
    certified(folder, "51/255", "--indices", "2")
    code, out, err = shown(folder, 1)
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines[1:4]] == ["1", "2", "3"]
    assert ["falsified" in line for line in lines[1:4]] == [True, False, True]
    assert "--run N shows one of them" in out
    for options in (("--run", 2), ("--epsilon", "0.05")):
        code, out, err = shown(folder, 1, *options)
        assert code == 0, err
        assert fact(out, "run").startswith("2 in the ledger")
        assert fact(out, "verdict") == "verified"
    code, out, err = shown(folder, 3, "--epsilon", "0.2")
    assert code == 2
    assert "image 3; expected one with a verdict: 0:2; got none of it in the ledger" in err


def test_a_picture(folder: Path) -> None:
    pil = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    sizes = []
    for image in (0, 1):
        png = folder / "pictures" / f"{image}.png"
        code, out, err = shown(folder, image, *own(folder), "--png", png)
        assert code == 0, err
        assert f"wrote {png}" in out
        with pil.open(png) as picture:
            assert picture.format == "PNG"
            sizes.append(picture.size)
    assert sizes[1][0] > sizes[0][0]  # three pictures instead of one


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (7, (), "image 7; expected one with a verdict: 0:4; got none of it in the ledger"),
        (0, ("--run", 2), "run; expected one of the ledger's runs: 1 (linf 0.1); got run 2"),
        (0, ("--epsilon", "2/255"), "1 (linf 0.1); got ε = 0.00784"),
        (0, ("--epsilon", "x"), "--epsilon: expected a finite number"),
        (0, ("--png", "@x.png"), "images pairs arrays; expected a known data set"),
        (0, ("--png", "@x.bmp"), "figure's format; expected pdf or svg or png; got 'bmp'"),
        (0, ("--png", ""), "--png; expected a path that ends in a file's name"),
        (0, ("--images", "@pairs.npy", "--labels", "@others.npy"), "the image and label that were"),
        (0, ("--labels", "@labels.npy"), "both or neither"),
        (0, ("--images", "@gone.npy", "--labels", "@labels.npy"), "gone.npy"),
        (0, ("--network", "@net.onnx"), "an image to show outputs at"),
        (0, ("--network", "@gone.onnx"), "network file"),
        (
            0,
            ("--network", "@other.onnx", "--images", "@pairs.npy", "--labels", "@labels.npy"),
            "Name the file that was certified",
        ),
    ],
)
def test_what_cannot_be_shown_is_told(
    image: int, options: tuple[str, ...], message: str, folder: Path
) -> None:
    np.save(folder / "others.npy", np.ones(4, np.int64))
    write_network(folder / "other.onnx", 2 * np.eye(2))
    before = sorted(folder.iterdir())
    chosen = [str(option).replace("@", f"{folder}/") for option in options]
    code, out, err = shown(folder, image, *chosen)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert sorted(folder.iterdir()) == before


def test_options_of_one_run_are_refused_if_there_are_several(folder: Path) -> None:
    certified(folder, "0.05")
    png = folder / "x.png"
    for options, names in (
        (("--png", png), "--png"),
        (("--network", folder / "net.onnx"), "--network"),
        (own(folder), "--images and --labels"),
        ((*own(folder), "--png", png), "--images and --labels and --png"),
    ):
        code, out, err = shown(folder, 1, *options)
        assert (code, out) == (2, "")
        assert f"{names}; expected one run; got several with a verdict on image 1: 1, 2" in err
    assert not png.exists()


def test_no_line_is_long(folder: Path) -> None:
    code, out, err = shown(folder, 1, *own(folder), "--network", folder / "net.onnx")
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    assert "onnxruntime" in fact(out, "versions")


def test_each_panel_has_a_name() -> None:
    pytest.importorskip("matplotlib")
    image = torch.tensor(PIXELS[1]).reshape(1, 1, 2)
    figure = draw_image(pictures_of(image, image.flip(-1)), ImageCaption(["t"], ["label 0"]))
    labels = [axes.get_xlabel().splitlines() for axes in figure.axes]
    assert labels == [
        ["image", "label 0"],
        ["difference × 8", "grey: not changed"],
        ["counterexample"],
    ]


def test_flat_images_are_shown_but_not_drawn(folder: Path) -> None:
    from tests.onnx_networks import mlp_file

    (folder / "flat.onnx").write_bytes(mlp_file(("n", 2)))
    np.save(folder / "flat.npy", np.array(PIXELS, np.float32))
    arrays = ("--images", folder / "flat.npy", "--labels", folder / "labels.npy")
    ledger = folder / "flat.sqlite"
    asked = ("certify", folder / "flat.onnx", *arrays, "--eps", "0.01", "--ledger", ledger)
    code, _, err = command(*asked)
    assert code == 0, err
    code, out, err = command("show", ledger, "--image", 0, *arrays)
    assert code == 0, err
    code, out, err = command("show", ledger, "--image", 0, *arrays, "--png", folder / "x.png")
    assert (code, out) == (2, "")
    assert "expected shape C x H x W with 1 or 3 channels; got shape (2,)" in err
    assert not (folder / "x.png").exists()


def test_a_missing_matplotlib_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, out, err = shown(folder, 0, *own(folder), "--png", folder / "x.png")
    assert (code, out) == (2, "")
    assert "pip install 'verify_pipeline[plots]'" in err
    assert not (folder / "x.png").exists()


def test_a_data_set_that_is_not_found(tmp_path: Path) -> None:
    """The ledger names mnist; its facts are shown, and a picture says what is missing."""
    pytest.importorskip("sklearn")
    from tests.cli.bad_input import RECIPE

    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    code, _, err = command("run", recipe, "--out", tmp_path / "run")
    assert code == 0, err
    ledger = tmp_path / "run" / "ledger.sqlite"
    code, out, err = command("show", ledger, "--image", 0)
    assert code == 0, err
    assert "image           0 of digits test" in out
    with sqlite3.connect(ledger) as book:
        book.execute("UPDATE runs SET data_set = 'mnist'")
    code, out, err = command("show", ledger, "--image", 0, "--data-root", tmp_path / "nowhere")
    assert (code, out) == (2, "")
    assert "data root (--data-root); expected a folder that exists" in err
