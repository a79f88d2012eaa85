"""MNIST's idx files: small ones, damaged ones, and the published ones."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from verify_pipeline.data import info, load
from verify_pipeline.data.files import Remote, Store
from verify_pipeline.data.idx import FASHION_MNIST, MNIST, IdxFile, IdxSet, parse_idx
from verify_pipeline.errors import DataError


def idx(values: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.astype(np.uint8).tobytes()


IMAGES = np.arange(2 * 3 * 4).reshape(2, 3, 4)
LABELS = np.array([7, 0])


def small_set(tmp_path: Path, contents: tuple[bytes, bytes], gzipped: bool) -> tuple[IdxSet, Store]:
    """A set of two files in a data root; its digests are those of the contents."""
    folder = tmp_path / "root" / "mnist"
    folder.mkdir(parents=True)
    published = []
    for name, content in zip(("images", "labels"), contents, strict=True):
        suffix, stored = (".gz", gzip.compress(content)) if gzipped else ("", content)
        (folder / (name + suffix)).write_bytes(stored)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        published.append(IdxFile(name, digest, Remote("http://127.0.0.1:9/none", digest)))
    files = (published[0], published[1])
    store = Store(tmp_path / "root", tmp_path / "cache", download=False)
    return IdxSet(info("mnist"), ("mnist",), {"train": files, "test": files}), store


@pytest.mark.parametrize("gzipped", [False, True])
def test_small_files_are_read_whole(tmp_path: Path, gzipped: bool) -> None:
    idx_set, store = small_set(tmp_path, (idx(IMAGES), idx(LABELS)), gzipped)
    images = idx_set.read("test", store)
    assert images.images.dtype == torch.uint8
    assert images.images.tolist() == IMAGES[:, None].tolist()
    assert images.labels.tolist() == [7, 0]


def test_a_label_out_of_range_is_refused(tmp_path: Path) -> None:
    idx_set, store = small_set(tmp_path, (idx(IMAGES), idx(np.array([1, 10]))), gzipped=True)
    with pytest.raises(DataError, match="from 0 to 9; got 10 at image 1"):
        idx_set.read("train", store)


def test_images_without_their_labels_are_refused(tmp_path: Path) -> None:
    idx_set, store = small_set(tmp_path, (idx(IMAGES), idx(np.array([1, 2, 3]))), gzipped=False)
    with pytest.raises(DataError, match="N labels"):
        idx_set.read("train", store)


def test_labels_in_place_of_images_are_refused(tmp_path: Path) -> None:
    idx_set, store = small_set(tmp_path, (idx(LABELS), idx(IMAGES)), gzipped=False)
    with pytest.raises(DataError, match="images with 3 axes"):
        idx_set.read("train", store)


def test_a_changed_byte_is_refused(tmp_path: Path) -> None:
    idx_set, store = small_set(tmp_path, (idx(IMAGES), idx(LABELS)), gzipped=False)
    path = tmp_path / "root" / "mnist" / "images"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match="MD5") as caught:
        idx_set.read("train", store)
    assert str(path) in str(caught.value)


def test_a_cut_gzip_is_refused(tmp_path: Path) -> None:
    idx_set, store = small_set(tmp_path, (idx(IMAGES), idx(LABELS)), gzipped=True)
    path = tmp_path / "root" / "mnist" / "images.gz"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="whole file"):
        idx_set.read("train", store)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"\x89PNG", "89 50 4e 47"),
        (b"\0\0\x0d\x01" + struct.pack(">I", 1) + bytes(4), "unsigned bytes"),
        (idx(IMAGES)[:-1], "got 39 bytes"),
        (idx(IMAGES) + b"\0", "got 41 bytes"),
        (idx(IMAGES)[:9], "got 9 bytes"),
    ],
)
def test_damaged_idx_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_idx(Path("images"), content)


def test_fashion_mnist_says_where_it_was_looked_for(tmp_path: Path) -> None:
    store = Store(tmp_path, tmp_path / "cache", download=False)
    with pytest.raises(DataError, match="FashionMNIST/raw"):
        FASHION_MNIST.read("train", store)


def test_all_published_digests_differ() -> None:
    files = [file for s in (MNIST, FASHION_MNIST) for pair in s.files.values() for file in pair]
    assert len({file.md5 for file in files} | {file.remote.md5 for file in files}) == 16


def test_the_real_mnist(shared_data: Path) -> None:
    train, test = (load("mnist", split, root=shared_data) for split in ("train", "test"))
    assert train.images.shape == (60_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    assert train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert train.labels.bincount()[:3].tolist() == [5923, 6742, 5958]
    # The mean of all training pixels, as often published: 0.1307.
    assert abs(float(train.images.double().mean()) / 255 - 0.1307) < 5e-5
