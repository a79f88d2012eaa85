"""Own images from a recipe to a table, typed as a user types it, and what is refused on the way."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.cli.typed import command
from tests.own_images import ARRAYS, SETTINGS, write_arrays, write_folders, write_recipe
from verify_pipeline.certify.ledger import Ledger
from verify_pipeline.certify.tally import summaries
from verify_pipeline.cli.app import app
from verify_pipeline.training import restore

pytest.importorskip("sklearn")


def typed(*arguments: object) -> str:
    """What a command prints, which succeeds."""
    code, output, error = command(*arguments)
    assert code == 0, error
    return output


def refused(*arguments: object) -> str:
    """The error of a command, on one line; it leaves nothing behind."""
    before = sorted(Path.cwd().rglob("*"))
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    told = " ".join(result.stderr.replace("│", " ").split())
    assert told.startswith("error: ")
    assert sorted(Path.cwd().rglob("*")) == before
    return told


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``signs``, ``recipe.yaml`` for it, and the run ``out``; to be copied."""
    folder = tmp_path_factory.mktemp("made")
    write_folders(folder / "signs")
    write_recipe(folder / "signs.yaml", "{folder: signs, mean: [0.3], std: [0.5]}")
    before = Path.cwd()
    os.chdir(folder)
    try:
        typed("run", "signs.yaml", "--out", "out")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder whose recipe in ``out`` names the copy's images, as working folder."""
    folder = tmp_path / "here"
    shutil.copytree(made, folder)
    kept = folder / "out" / "recipe.yaml"
    kept.write_text(kept.read_text("utf-8").replace(str(made), str(folder)), encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def test_a_run_is_finished_with_its_data_in_tables(here: Path) -> None:
    assert "signs" in Path("out/table.csv").read_text(encoding="utf-8")
    assert "signs" in typed("table", "out/ledger.sqlite")
    with Ledger.existing(Path("out/ledger.sqlite")) as ledger:
        (summary,) = summaries(ledger)
    assert (summary.info.run.data_set, len(summary.records)) == ("signs", 6)


def test_nothing_is_typed_again(here: Path) -> None:
    """Export, certify, recheck, radius, show, report, publish find images and class names."""
    typed("export", "out", "--out", "out/again.onnx")
    assert Path("out/again.onnx").read_bytes() == Path("out/signs.onnx").read_bytes()
    Path("out/again.onnx").unlink()
    certified = typed("certify", "out/signs.onnx", "--indices", "2", "--epsilon", "0.01")
    assert "signs" in certified
    assert "not checked" not in typed("recheck", "out/signs.onnx")
    typed("radius", "out/signs.onnx", "--up-to", "0.1", "--steps", "2", "--indices", "2")
    typed("show", "out/ledger.sqlite", "--image", "0", "--run", "1", "--png", "out/image.png")
    typed("report", "out", "--out", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert "There are no pictures" not in page
    assert "zero" in page
    assert "folder: signs" in page
    typed("publish", "out", "--models", "models")
    card = Path("models/signs.md").read_text(encoding="utf-8")
    for text in (page, card, Path("out/signs.onnx").read_bytes().decode("latin-1")):
        assert str(here) not in text


def test_the_checkpoint_keeps_what_is_known_of_the_images(here: Path, made: Path) -> None:
    shutil.rmtree("signs")
    trained = restore(Path("out"))
    info = trained.info
    assert (info.name, info.shape, info.classes) == ("signs", (1, 8, 8), 3)
    assert (info.mean, info.std, info.class_names) == ((0.3,), (0.5,), ("one", "two", "zero"))


def test_images_may_move_before_a_training_goes_on(here: Path) -> None:
    kept = restore(Path("out")).metrics
    shutil.move("signs", "moved")
    assert "signs; expected a folder" in refused("train", "signs.yaml", "--out", "out")
    write_recipe(Path("signs.yaml"), "{folder: moved, mean: [0.3], std: [0.5]}")
    typed("train", "signs.yaml", "--out", "out")
    assert restore(Path("out")).metrics == kept
    typed("export", "out")


def test_other_images_are_not_gone_on_with(here: Path) -> None:
    sorted(Path("signs/train/one").iterdir())[0].unlink()
    assert "others in images" in refused("train", "signs.yaml", "--out", "out")
    told = refused("train", "signs.yaml", "--out", "out", "--set", "train.data.mean=[0.25]")
    assert "expected what it was begun with, train.data.mean=(0.3,)" in told


def test_a_ledger_may_be_elsewhere_and_another_split_certified(here: Path) -> None:
    elsewhere = ("--ledger", "elsewhere/ledger.sqlite")
    few = ("--epsilon", "0.1", "--indices", "3", "--split", "train")
    typed("certify", "out/signs.onnx", *few, *elsewhere)
    assert "signs train" in typed("recheck", "out/signs.onnx", *elsewhere)
    told = refused("certify", "out/signs.onnx", "--split", "val", "--epsilon", "0.1")
    assert "split; expected train or test; got 'val'" in told


def test_a_file_without_its_recipe_says_what_to_give(here: Path) -> None:
    shutil.copy("out/signs.onnx", "alone.onnx")
    told = refused("certify", "alone.onnx")
    assert "data set 'signs', which alone.onnx was trained on" in told
    assert "--recipe, or the images with --images and --labels" in told
    assert "signs" in typed("certify", "alone.onnx", "--recipe", "signs.yaml", "--indices", "1")
    assert "signs" in typed("certify", "out/signs.onnx", "--data", "signs", "--indices", "1")


def test_a_page_without_the_images_names_no_path(here: Path) -> None:
    shutil.rmtree("signs")
    typed("report", "out", "--out", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert "the images of signs are not where the recipe beside the ledger says" in page
    assert str(here) not in page


def test_plans_sweeps_and_tunings_take_own_images(here: Path) -> None:
    assert "signs" in typed("plan", "signs.yaml", "--measure", "0.1")
    Path("recipes").mkdir()
    write_recipe(Path("recipes/signs.yaml"), "{folder: ../signs}")
    typed("sweep", "recipes/signs.yaml", "--out", "sweep", "--grid", "train.loss.alpha=0.5,1")
    assert len(list(Path("sweep").glob("*/table.csv"))) == 2
    # the sweep's own recipe is still right where it is
    assert str(here / "signs") in Path("sweep/recipe.yaml").read_text(encoding="utf-8")


def test_vectors_from_training_to_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_arrays(tmp_path)
    for name in ("x.npy", "test-x.npy"):
        np.save(name, (np.load(name).reshape(-1, 64) / 255).astype(np.float32))
    mean = ", ".join(["0.25"] * 64)
    write_recipe(Path("v.yaml"), f"{ARRAYS[:-1]}, name: vectors, mean: [{mean}], validation: 8}}")
    typed("run", "v.yaml", "--out", "out")
    (entry,) = onnx.load("out/v.onnx").graph.input
    assert [axis.dim_value for axis in entry.type.tensor_type.shape.dim][1:] == [64]
    assert "vectors" in typed("certify", "out/v.onnx", "--indices", "2")
    assert "vectors" in typed("table", "out/ledger.sqlite")
    told = refused("train", "v.yaml", "--out", "x", "--set", "train.network.name=cnn7")
    assert "network 'cnn7'; expected images C x H x W; got vectors of 64 numbers" in told
    told = refused("train", "v.yaml", "--out", "x", "--set", "train.data.augmentation.flip=true")
    assert "expected no augmentation of vectors" in told


def _save(name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(name, change(np.load(name)))


FIRST = "signs/train/one"
BAD_FOLDERS: dict[str, tuple[Callable[[], object], str]] = {
    "one class": (
        lambda: [shutil.rmtree(f"signs/train/{name}") for name in ("one", "two")],
        "expected a folder for each class, at least 2; got zero",
    ),
    "no image": (
        lambda: [path.unlink() for path in Path("signs/test").rglob("*.png")],
        "signs/test/one; expected images (.jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp)",
    ),
    "no image of a class": (
        lambda: Path("signs/train/twelve").mkdir(),
        "signs/train/twelve; expected images (.jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, ",
    ),
    "no test class": (
        lambda: [shutil.rmtree("signs/test"), Path("signs/test").mkdir()],
        "signs/test; expected images (.jpg, .jpeg, .png, .ppm, .bmp, .pgm, .tif, .tiff, .webp)",
    ),
    "an unreadable image": (
        lambda: Path(FIRST, "broken.png").write_bytes(b"\x89PNG no more"),
        "signs/train/one/broken.png; expected a whole image file; got UnidentifiedImageError",
    ),
    "half an image": (
        lambda: Path(FIRST, "a.jpg").write_bytes(_half_a_jpeg()),
        "signs/train/one/a.jpg; expected a whole image file; got OSError: image file is truncated",
    ),
    "another size": (
        lambda: Image.new("L", (9, 8)).save(f"{FIRST}/zzz.png"),
        "zzz.png; expected a grey image of height 8 and width 8 as",
    ),
    "another mode": (
        lambda: Image.new("RGB", (8, 8)).save(f"{FIRST}/zzz.png"),
        "got a colour image of height 8 and width 8. Convert all images to grey or to colour.",
    ),
    "transparency": (
        lambda: Image.new("RGBA", (8, 8)).save(f"{FIRST}/zzz.png"),
        "expected a grey (L) or colour (RGB) image of 8 bits, without transparency; got mode RGBA",
    ),
    "another test class": (
        lambda: shutil.copytree("signs/test/one", "signs/test/three"),
        "signs/test; expected folders of the classes of the training images, one, two, zero; got "
        "three",
    ),
    "no test set": (
        lambda: shutil.rmtree("signs/test"),
        "signs; expected a folder with the folder test or val in it; got a folder without it",
    ),
    "no folder": (lambda: shutil.rmtree("signs"), "signs; expected a folder with the folder train"),
    "mean": (
        lambda: write_recipe(Path("signs.yaml"), "{folder: signs, mean: [0.5, 0.5, 0.5]}"),
        "expected a mean of 1 finite numbers, one for each channel, or of one; got (0.5, 0.5, 0.5)",
    ),
    "class names": (
        lambda: write_recipe(Path("signs.yaml"), "{folder: signs, class_names: [a, b]}"),
        "expected shape (1, 8, 8) and 2 classes",
    ),
    "a known name": (
        lambda: write_recipe(Path("signs.yaml"), "{folder: signs, name: mnist}"),
        "train.data.name (line 2): expected a name of its own beside files of its own; got 'mnist'",
    ),
}


def _half_a_jpeg() -> bytes:
    Image.effect_noise((8, 8), 90).save("noise.jpg")
    whole = Path("noise.jpg").read_bytes()
    Path("noise.jpg").unlink()
    return whole[:-20]


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_bad_folders_are_refused(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folders(Path("signs"))
    write_recipe(Path("signs.yaml"), "{folder: signs}")
    change, told = BAD_FOLDERS[case]
    change()
    assert told in refused("run", "signs.yaml", "--out", "x")


BAD_ARRAYS: dict[str, tuple[Callable[[], object], str]] = {
    "too few labels": (
        lambda: _save("y.npy", lambda labels: labels[:-1]),
        "x (y.npy); expected images N x ... and N labels; got (120, 1, 8, 8) and (119,)",
    ),
    "a negative label": (
        lambda: _save("y.npy", lambda labels: labels - 1),
        "y.npy; expected integers from 0 on; got -1",
    ),
    "labels that are floats": (
        lambda: _save("y.npy", lambda labels: labels.astype(np.float64)),
        "y.npy; expected integers; got float64",
    ),
    "a test class that training has not": (
        lambda: _save("test-y.npy", lambda labels: labels + 1),
        "labels of x (test-y.npy); expected integers from 0 to 2; got 3 at image",
    ),
    "one class": (
        lambda: _save("y.npy", np.zeros_like),
        "y.npy; expected labels of at least 2 classes, integers from 0 on; got 1 class",
    ),
    "more labels than classes": (
        lambda: write_recipe(Path("r.yaml"), f"{ARRAYS[:-1]}, classes: 2}}"),
        "labels of x (test-y.npy); expected integers from 0 to 1; got 2 at image",
    ),
    "test images of another shape": (
        lambda: _save("test-x.npy", lambda images: images[..., :7]),
        "images x (test); expected shape (1, 8, 8) and 3 classes",
    ),
    "pixels of 0 to 255 as floats": (
        lambda: _save("x.npy", lambda images: images.astype(np.float32)),
        "Scale the images to [0, 1], or save them as uint8 0..255.",
    ),
    "no image": (
        lambda: [_save(name, lambda array: array[:0]) for name in ("test-x.npy", "test-y.npy")],
        "test-x.npy; expected at least one image; got none",
    ),
    "a missing file": (
        lambda: Path("test-x.npy").unlink(),
        "test-x.npy; expected a .npy file; got no file. Check the path.",
    ),
    "no array": (
        lambda: Path("x.npy").write_text("no array", encoding="utf-8"),
        "x.npy; expected an array of numbers saved with numpy.save; got ValueError",
    ),
    "no test set": (
        lambda: write_recipe(Path("r.yaml"), "{train: {images: x.npy, labels: y.npy}}"),
        "train.data (line 2): expected train and test, or a folder that holds both; got train",
    ),
    "a known name by chance": (
        lambda: [
            shutil.copy("x.npy", "mnist.npy"),
            write_recipe(Path("r.yaml"), ARRAYS.replace(" x.npy", " mnist.npy", 1)),
        ],
        "would name this data set 'mnist', which a known one is called; give it another name",
    ),
}


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_bad_arrays_are_refused(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_arrays(tmp_path)
    write_recipe(Path("r.yaml"), ARRAYS, SETTINGS)
    change, told = BAD_ARRAYS[case]
    change()
    assert told in refused("run", "r.yaml", "--out", "x")
