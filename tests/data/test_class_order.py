"""Both orders of the classes of WordNet ids: labels, names, and who refuses what."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from verify_pipeline import data
from verify_pipeline.config import load_recipe
from verify_pipeline.data.imagenet64 import alphabetical_places
from verify_pipeline.data.settings import DataSettings
from verify_pipeline.errors import ConfigError

WORDNET_IDS = [f"n{(37 * k) % 1000:08d}" for k in range(200)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with three validation images of TinyImageNet and four of ImageNet64."""
    folder = tmp_path / "tiny-imagenet-200"
    (folder / "val" / "images").mkdir(parents=True)
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG")
    lines = []
    for number, place in enumerate((0, 1, 199)):
        (folder / "val" / "images" / f"{number}.JPEG").write_bytes(stream.getvalue())
        lines.append(f"{number}.JPEG\t{WORDNET_IDS[place]}\t0\t0\t0\t0\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("".join(f"{w}\n" for w in WORDNET_IDS))
    np.savez(
        tmp_path / "val_data.npz",
        data=np.zeros((4, 12288), np.uint8),
        labels=np.array([1, 2, 500, 1000]),
    )
    return tmp_path


def labels(name: str, root: Path, order: data.ClassOrder | None = None) -> list[int]:
    images = data.load(name, "test", root, download=False, class_order=order)
    return images.labels.tolist()


def test_tinyimagenet(root: Path) -> None:
    in_order = sorted(WORDNET_IDS)
    expected = [in_order.index(WORDNET_IDS[place]) for place in (0, 1, 199)]
    assert labels("tinyimagenet", root) == labels("tinyimagenet", root, "sorted") == expected
    assert labels("tinyimagenet", root, "published") == [0, 1, 199]
    assert labels("tinyimagenet:published", root) == [0, 1, 199]
    assert labels("tinyimagenet:published", root, "sorted") == expected


def test_imagenet64(root: Path) -> None:
    assert labels("imagenet64", root) == labels("imagenet64", root, "published") == [0, 1, 499, 999]
    # kit fox n02119789, English setter n02100735, a class between, dumbbell n03255030: the places
    # of these WordNet ids among the thousand (the first is 0, tench, n01440764)
    got = labels("imagenet64", root, "sorted")
    assert (got[0], got[1], got[3]) == (278, 212, 543)


def test_the_places_are_a_permutation() -> None:
    places = alphabetical_places()
    assert places.dtype == torch.int64
    assert places.sort().values.tolist() == list(range(1000))


@pytest.mark.parametrize(
    ("name", "order", "full"),
    [
        ("tinyimagenet", None, "tinyimagenet"),
        ("tinyimagenet", "sorted", "tinyimagenet"),
        ("tinyimagenet", "published", "tinyimagenet:published"),
        ("imagenet64", "published", "imagenet64"),
        ("imagenet64", "sorted", "imagenet64:sorted"),
        ("imagenet64:sorted", None, "imagenet64:sorted"),
        ("imagenet64:sorted", "published", "imagenet64"),
        ("mine", None, "mine"),
    ],
)
def test_other_labels_have_another_name(name: str, order: str | None, full: str) -> None:
    assert data.with_class_order(name, order) == full
    assert DataSettings(name=name, class_order=order).full_name == full
    if name != "mine":
        assert data.knows(full)
        assert data.info(full).name == full
        assert data.info(full) == replace(data.info(full.partition(":")[0]), name=full)


def test_images_are_called_by_it(root: Path) -> None:
    images = data.load("imagenet64", "test", str(root), download=False, class_order="sorted")
    assert images.name == "imagenet64:sorted"
    assert data.class_order(images.name) == "sorted"
    assert data.class_order("tinyimagenet") == "sorted"
    assert data.class_order("imagenet64") == "published"
    assert data.class_order("cifar10") is None


def test_what_has_one_order_is_refused(root: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"several orders, tinyimagenet or imagenet64; got 'sorted'. Leave it out"
    ):
        data.load("cifar10", "test", root, download=False, class_order="sorted")
    with pytest.raises(
        ConfigError, match="class order of imagenet64; expected sorted or published"
    ):
        data.with_class_order("imagenet64", "random")
    with pytest.raises(ValueError, match="class order of mnist"):
        DataSettings(name="mnist", class_order="sorted")
    for name in ("imagenet64:published", "cifar10:sorted", "imagenet64:"):
        assert not data.knows(name)
        with pytest.raises(ConfigError, match="data set; expected one of"):
            data.info(name)


def test_a_recipe_names_it() -> None:
    name = "imagenet64-1-255-cnn7-mtl-ibp"
    assert load_recipe(name).train.data.full_name == "imagenet64"
    other = load_recipe(name, {"train.data.class_order": "sorted"})
    assert other.train.data.full_name == "imagenet64:sorted"
    with pytest.raises(ConfigError, match=r"train\.data \(line \d+\): class order of mnist"):
        load_recipe("mnist-0.1-cnn7-cc-ibp", {"train.data.class_order": "sorted"})
