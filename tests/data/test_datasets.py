"""Images of torch's and Hugging Face's data sets, as these libraries hand them out."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from verify_pipeline.api import DataSetInfo, images_of_dataset
from verify_pipeline.errors import DataError

COLOURS = [(10, 20, 30), (40, 50, 60), (70, 80, 90)]


class Pictures(Dataset[Any]):
    """As torchvision's: an exception of its own at the end, class names in ``classes``."""

    classes = ("cat", "dog", "hen")

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> Any:
        return self.items[place]


class Rows:
    """As Hugging Face's: rows are mappings, and features know the classes."""

    def __init__(self, rows: list[dict[str, Any]], **features: Any) -> None:
        self.rows, self.features = rows, features

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        return self.rows[place]


def pictures() -> list[Image.Image]:
    return [Image.new("RGB", (3, 2), colour) for colour in COLOURS]


def test_pairs_of_pil_images() -> None:
    images = images_of_dataset(
        Pictures(list(zip(pictures(), (2, 0, 1), strict=True))), name="pets", split="test"
    )
    assert (images.name, images.split, images.classes) == ("pets", "test", 3)
    assert images.class_names == ("cat", "dog", "hen")
    assert images.images.dtype == torch.uint8
    assert images.images.shape == (3, 3, 2, 3)
    assert images.images[:, :, 1, 2].tolist() == [list(colour) for colour in COLOURS]
    assert images.labels.tolist() == [2, 0, 1]
    info = DataSetInfo.of(images)
    assert (info.shape, info.class_names, info.mean) == ((3, 2, 3), images.class_names, (0.0,))


def test_rows_whose_features_know_the_columns_and_the_classes() -> None:
    features = {
        "img": SimpleNamespace(),
        "fine": SimpleNamespace(names=["a", "b", "c", "d"]),
        "label": SimpleNamespace(),
    }
    rows = [{"img": image, "fine": 1, "label": 9} for image in pictures()]
    images = images_of_dataset(Rows(rows, **features), name="rows")
    assert images.labels.tolist() == [1, 1, 1]
    assert (images.classes, images.class_names) == (4, ("a", "b", "c", "d"))


def test_columns_by_name() -> None:
    rows = [{"picture": image, "kind": place} for place, image in enumerate(pictures())]
    columns = {"image_column": "picture", "label_column": "kind"}
    assert images_of_dataset(Rows(rows), name="rows", **columns).labels.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"item 0 .*expected the column image or img"):
        images_of_dataset(Rows(rows), name="rows")


@pytest.mark.parametrize(
    ("image", "shape"),
    [
        (np.zeros((4, 5), np.uint8), (1, 4, 5)),
        (np.zeros((4, 5, 3), np.uint8), (3, 4, 5)),
        (np.zeros((3, 4, 5), np.float64), (3, 4, 5)),
        (torch.zeros(3, 4, 5, dtype=torch.uint8), (3, 4, 5)),
        (torch.zeros(4, 5), (1, 4, 5)),
        (torch.zeros(7), (7,)),
        (Image.new("L", (5, 4)), (1, 4, 5)),
        (Image.new("P", (5, 4)), (3, 4, 5)),
        (Image.new("1", (5, 4)), (1, 4, 5)),
    ],
)
def test_what_images_may_be(image: Any, shape: tuple[int, ...]) -> None:
    assert images_of_dataset([(image, 0), (image, np.int64(1))], name="x").shape == shape


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((6, 5, 3), np.float32), r"expected C x H x W.*; got shape \(6, 5, 3\)"),
        (torch.zeros(6, 5, 3, dtype=torch.uint8), r"expected C x H x W.*; got shape .*6, 5, 3"),
        (np.zeros((1, 6, 5), np.uint8), r"expected H x W x C.*; got shape \(1, 6, 5\)"),
    ],
)
def test_channels_in_the_wrong_place(image: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        images_of_dataset([(image, 0), (image, 1)], name="mine")


def test_torchs_own_sets() -> None:
    pixels, labels = torch.rand(6, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    whole = TensorDataset(pixels, labels)
    images = images_of_dataset(Subset(whole, [5, 1]), name="x")
    assert images.images.tolist() == pixels[[5, 1]].tolist()
    assert images.labels.tolist() == [2, 1]

    class Stream(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield from zip(pixels, labels.tolist(), strict=True)

    assert len(images_of_dataset(Stream(), name="x")) == 6


GREY = np.zeros((2, 2), np.uint8)


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([], "data set x .train.; expected at least one image; got none"),
        ([(GREY, 0), (GREY[:1], 0)], r"item 1 .*expected shape \(1, 2, 2\)"),
        ([(GREY, 0), (GREY / 255, 0)], "item 1 .*torch.float32"),
        ([(GREY, 0.0)], "item 0 .*expected a label that is an integer; got 0.0"),
        ([(GREY, True)], "item 0 .*expected a label that is an integer; got True"),
        ([(GREY, torch.tensor(True))], "expected a label that is an integer"),
        ([(GREY, None)], "expected a label that is an integer; got None"),
        ([(GREY, 0), (GREY, -1)], "labels of x .*got -1 at image 1"),
        ([(GREY, 0, 1)], "expected a pair .image, label., or a mapping.*got 3 parts"),
        ([7], "got int"),
        ([("a.png", 0)], "expected an image"),
        ([(GREY.astype(np.int32), 0)], "uint8, or of floats in .0, 1.; got torch.int32"),
        ([(np.full((2, 2), 255.0), 0)], "Scale the images"),
        ([(np.zeros((1, 1, 2, 2)), 0)], "got shape .1, 1, 2, 2."),
        ([(Image.new("RGBA", (2, 2)), 0)], "got mode RGBA"),
    ],
)
def test_what_is_refused(items: list[Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        images_of_dataset(items, name="x")


def test_labels_beyond_the_classes_are_refused() -> None:
    with pytest.raises(DataError, match="integers from 0 to 1; got 2"):
        images_of_dataset([(GREY, 2)], name="x", classes=2)
