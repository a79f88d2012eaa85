"""TinyImageNet's layout: a small tree, its zip, damaged ones, and the published images."""

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from verify_pipeline.data import load
from verify_pipeline.data.files import Store
from verify_pipeline.data.tinyimagenet import REMOTE, read
from verify_pipeline.errors import DataError

WORDNET_IDS = [f"n{number:08d}" for number in range(200)]


def jpeg(level: int, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> bytes:
    """An image of one colour, which JPEG keeps to within a few levels."""
    colour = (level, 255 - level, 60) if mode == "RGB" else level
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with one training image of each class and two validation images."""
    folder = tmp_path / "root" / "tiny-imagenet-200"
    content = jpeg(100)
    for wordnet_id in WORDNET_IDS:
        images = folder / "train" / wordnet_id / "images"
        images.mkdir(parents=True)
        (images / f"{wordnet_id}_0.JPEG").write_bytes(content)
    images = folder / "val" / "images"
    images.mkdir(parents=True)
    (images / "val_0.JPEG").write_bytes(jpeg(200))
    (images / "val_1.JPEG").write_bytes(jpeg(30, mode="L"))
    lines = (
        f"val_0.JPEG\t{WORDNET_IDS[7]}\t0\t32\t44\t62\nval_1.JPEG\t{WORDNET_IDS[199]}\t1\t2\t3\t4\n"
    )
    (folder / "val" / "val_annotations.txt").write_text(lines)
    (folder / "wnids.txt").write_text("".join(f"{w}\n" for w in reversed(WORDNET_IDS)))
    return tmp_path / "root"


def store_of(root: Path) -> Store:
    return Store(root, root / "cache", download=False)


def near(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((np.abs(image.astype(int) - np.array(colour)[:, None, None]) <= 3).all())


def check_small(root: Path) -> None:
    train, test = read("train", store_of(root)), read("test", store_of(root))
    assert train.images.shape == (200, 3, 64, 64)
    assert train.labels.tolist() == list(range(200))
    assert near(train.images[17].numpy(), (100, 155, 60))
    assert test.labels.tolist() == [7, 199]
    assert near(test.images[0].numpy(), (200, 55, 60))
    assert near(test.images[1].numpy(), (30, 30, 30))


def test_small_tree(root: Path) -> None:
    check_small(root)


def test_the_same_tree_as_the_published_zip(root: Path) -> None:
    tree = root / "tiny-imagenet-200"
    with zipfile.ZipFile(root / REMOTE.name, "w") as archive:
        for path in tree.rglob("*"):
            archive.write(path, path.relative_to(root))
    shutil.rmtree(tree)
    check_small(root)
    assert [path.name for path in root.iterdir()] == [REMOTE.name]


def test_without_training_images_the_remedy_is_named(root: Path) -> None:
    shutil.rmtree(root / "tiny-imagenet-200" / "train")
    assert len(read("test", store_of(root))) == 2
    with pytest.raises(DataError, match="validation split only") as caught:
        read("train", store_of(root))
    assert REMOTE.address in str(caught.value)


def test_a_class_without_images_is_named(root: Path) -> None:
    (folder,) = (root / "tiny-imagenet-200" / "train").glob(f"{WORDNET_IDS[5]}/images")
    shutil.rmtree(folder)
    with pytest.raises(DataError, match=WORDNET_IDS[5]):
        read("train", store_of(root))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("val/images/val_1.JPEG", None, "val_1.JPEG"),
        ("val/images/val_1.JPEG", b"no image", "whole file"),
        ("val/images/val_1.JPEG", jpeg(10)[:-200], "whole file"),
        ("val/images/val_1.JPEG", jpeg(10, size=(32, 64)), "got 32 x 64"),
        ("val/val_annotations.txt", None, "val_annotations.txt"),
        ("val/val_annotations.txt", b"val_0.JPEG\tn99999999\t0\t0\t0\t0\n", "line 1"),
        ("val/val_annotations.txt", b"val_0.JPEG\n", "line 1"),
        ("val/val_annotations.txt", b"\xff\n", "val_annotations.txt"),
        ("wnids.txt", b"n00000000\n", "200 different WordNet ids; got 1"),
    ],
)
def test_a_damaged_tree_is_refused(
    root: Path, name: str, content: bytes | None, message: str
) -> None:
    path = root / "tiny-imagenet-200" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read("test", store_of(root))


def test_a_damaged_zip_is_refused(root: Path) -> None:
    shutil.rmtree(root / "tiny-imagenet-200")
    (root / REMOTE.name).write_bytes(b"no zip")
    with pytest.raises(DataError, match="whole file"):
        read("test", store_of(root))


def test_the_real_validation_images(shared_data: Path, tmp_path: Path) -> None:
    for part in ("meta", "val"):
        with tarfile.open(shared_data / "tinyimagenet" / f"tiny-imagenet-200-{part}.tar.xz") as tar:
            tar.extractall(tmp_path, filter="data")
    test = load("tinyimagenet", "test", root=tmp_path, download=False)
    assert test.images.shape == (10_000, 3, 64, 64)
    assert test.labels.bincount().tolist() == [50] * 200
    # val_0 is n03444034, val_1 n04067472: 107 and 139 of the 200 ids come before them.
    ids = sorted((tmp_path / "tiny-imagenet-200" / "wnids.txt").read_text().split())
    assert [ids[label] for label in test.labels[:3]] == ["n03444034", "n04067472", "n04070727"]
    assert test.labels[:3].tolist() == [107, 139, 140]
    # Near the published means of the training images.
    means = test.images.double().mean((0, 2, 3)) / 255
    assert np.allclose(means, [0.4802, 0.4481, 0.3975], atol=0.01)
    with pytest.raises(DataError, match="validation split only"):
        load("tinyimagenet", "train", root=tmp_path, download=False)
