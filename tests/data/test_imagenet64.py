"""ImageNet64's npz files: small ones and damaged ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

from verify_pipeline.data.files import Store
from verify_pipeline.data.imagenet64 import read
from verify_pipeline.errors import DataError


def rows(batch: int, count: int) -> np.ndarray:
    return np.random.default_rng(batch).integers(0, 256, (count, 12288), dtype=np.uint8)


def store_of(tmp_path: Path) -> Store:
    return Store(tmp_path, tmp_path / "cache", download=False)


def test_training_batches_follow_each_other(tmp_path: Path) -> None:
    folder = tmp_path / "imagenet64"
    folder.mkdir()
    for batch in range(1, 11):
        np.savez(
            folder / f"train_data_batch_{batch}.npz",
            data=rows(batch, 1 + batch % 2),
            labels=[batch, 1000][: 1 + batch % 2],
            mean=np.zeros(12288),
        )
    train = read("train", store_of(tmp_path))
    expected = np.concatenate([rows(batch, 1 + batch % 2) for batch in range(1, 11)])
    assert train.images.dtype == torch.uint8
    assert np.array_equal(train.images.numpy(), expected.reshape(-1, 3, 64, 64))
    assert train.labels.tolist() == [
        label for batch in range(1, 11) for label in [batch - 1, 999][: 1 + batch % 2]
    ]


def test_rows_hold_red_then_green_then_blue(tmp_path: Path) -> None:
    colours = np.repeat(np.array([[10, 20, 30]], np.uint8), 4096, axis=1)
    np.savez(tmp_path / "val_data.npz", data=colours, labels=np.array([1]))
    images = read("test", store_of(tmp_path)).images
    assert images[0].flatten(1).unique(dim=1).tolist() == [[10], [20], [30]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": rows(0, 2), "labels": [1, 0]}, "from 0 to 999; got -1 at image 1"),
        ({"data": rows(0, 2), "labels": [1001, 1]}, "got 1000 at image 0"),
        ({"data": rows(0, 2), "labels": [1.0, 2.0]}, "N integers"),
        ({"data": rows(0, 2), "labels": [[1, 2]]}, "N integers"),
        ({"data": rows(0, 2), "labels": [1]}, "1 x 12288 bytes"),
        ({"data": rows(0, 2)[:, :3072], "labels": [1, 2]}, "2 x 12288 bytes"),
        ({"data": rows(0, 2) / 255, "labels": [1, 2]}, "got float64"),
        ({"data": rows(0, 2)}, "labels"),
        ({"data": rows(0, 1), "labels": np.array([{}])}, "whole file"),
    ],
)
def test_other_contents_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "val_data.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read("test", store_of(tmp_path))


@pytest.mark.parametrize("damage", ["cut", "flipped", "other"])
def test_damaged_files_are_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "val_data.npz"
    np.savez(path, data=rows(0, 2), labels=[1, 2])
    content = bytearray(path.read_bytes())
    content[5000] ^= 1  # in the pixels, which come first: only the CRC-32 can tell
    damaged = {"cut": content[:9000], "flipped": content, "other": b"no npz"}[damage]
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="whole file"):
        read("test", store_of(tmp_path))


def test_a_missing_batch_is_named_with_the_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train_data_batch_1\.npz") as caught:
        read("train", store_of(tmp_path))
    assert str(tmp_path / "imagenet64" / "Imagenet64_train_npz") in str(caught.value)
    assert "registration" in str(caught.value)
