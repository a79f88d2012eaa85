"""GTSRB's layout: a small tree, its zips, and damaged ones."""

import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from verify_pipeline.data.files import Store
from verify_pipeline.data.gtsrb import LABELS, TEST, TRAIN, read
from verify_pipeline.errors import DataError

CSV = (
    "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\r\n"
    "00000.ppm;53;54;6;5;48;49;16\r\n"
    "00001.ppm;42;45;5;5;36;40;1\r\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root as torchvision leaves it: two training images of class 0, one of the others."""
    folder = tmp_path / "root" / "gtsrb"
    for label in range(43):
        inside = folder / "GTSRB" / "Training" / f"{label:05d}"
        inside.mkdir(parents=True)
        for number in range(2 if label == 0 else 1):
            sign = Image.new("RGB", (29 + label, 30), (label, 2 * label, 200))
            sign.save(inside / f"00000_{number:05d}.ppm")
        (inside / f"GT-{label:05d}.csv").write_text("Filename;Width\n", encoding="ascii")
    inside = folder / "GTSRB" / "Final_Test" / "Images"
    inside.mkdir(parents=True)
    for number in range(2):
        whole = Image.new("RGB", (64, 64), (0, 0, 0))
        whole.paste((255, 255, 255), (0, 0, 32, 64))  # the left half is white
        whole.save(inside / f"{number:05d}.ppm")
    (folder / "GT-final_test.csv").write_text(CSV, encoding="ascii")
    return tmp_path / "root"


def store_of(root: Path) -> Store:
    return Store(root, root / "cache", download=False)


def check_small(root: Path) -> None:
    train, test = read("train", store_of(root)), read("test", store_of(root))
    assert train.labels.tolist() == [0, *range(43)]
    assert train.images.shape == (44, 3, 32, 32)
    assert train.images[8].float().mean((1, 2)).tolist() == [7, 14, 200]
    assert test.labels.tolist() == [16, 1]
    # whole images: the region of the sign, which begins at 6, is not cut out
    assert test.images[0, 0, 16, [0, 14, 17, 31]].tolist() == [255, 255, 0, 0]


def test_small_tree(root: Path) -> None:
    check_small(root)


def test_zips(root: Path) -> None:
    folder = root / "gtsrb"
    for archive, inside in ((TRAIN, "GTSRB/Training"), (TEST, "GTSRB/Final_Test/Images")):
        with zipfile.ZipFile(folder / archive.name, "w") as zipped:
            zipped.writestr("GTSRB/Readme.txt", "signs")
            for path in sorted((folder / inside).rglob("*.*")):
                zipped.write(path, path.relative_to(folder).as_posix())
    with zipfile.ZipFile(folder / LABELS.name, "w") as zipped:
        zipped.write(folder / "GT-final_test.csv", "GT-final_test.csv")
    shutil.rmtree(folder / "GTSRB")
    (folder / "GT-final_test.csv").unlink()
    check_small(root)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("00000.ppm;53;54;6;5;48;49;43", "line 2 of GT-final_test.csv; expected a Filename"),
        ("00000.ppm;53;54;6;5;48;49", "ClassId from 0 to 42"),
        ("00009.ppm;53;54;6;5;48;49;1", "expected the file 00009.ppm"),
    ],
)
def test_wrong_labels_are_refused(root: Path, row: str, told: str) -> None:
    text = f"{CSV.splitlines()[0]}\n{row}\n"
    (root / "gtsrb" / "GT-final_test.csv").write_text(text, encoding="ascii")
    with pytest.raises(DataError, match=told):
        read("test", store_of(root))


def test_a_class_without_images_and_a_damaged_image_are_refused(root: Path) -> None:
    inside = root / "gtsrb" / "GTSRB" / "Training"
    (inside / "00003" / "00000_00000.ppm").write_bytes(b"P6\n9 9\n255\n")
    with pytest.raises(DataError, match=r"00003/00000_00000.ppm; expected a readable, whole file"):
        read("train", store_of(root))
    (inside / "00003" / "00000_00000.ppm").unlink()
    with pytest.raises(DataError, match="00003; expected the training images of a class; got none"):
        read("train", store_of(root))


def test_damaged_and_wrong_zips_are_refused(tmp_path: Path) -> None:
    (tmp_path / "gtsrb").mkdir()
    path = tmp_path / "gtsrb" / TRAIN.name
    path.write_bytes(b"no zip")
    with pytest.raises(DataError, match="expected a readable, whole file"):
        read("train", store_of(tmp_path))
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("GTSRB/Final_Training/a.ppm", "")
    with pytest.raises(DataError, match="expected the file Training/"):
        read("train", store_of(tmp_path))


def test_the_labels_are_asked_for_by_name(root: Path) -> None:
    (root / "gtsrb" / "GT-final_test.csv").unlink()
    with pytest.raises(DataError, match=r"GT-final_test.csv or GTSRB_Final_Test_GT.zip"):
        read("test", store_of(root))
