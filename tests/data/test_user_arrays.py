"""A user's own images in numpy's files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from verify_pipeline.data import from_arrays
from verify_pipeline.errors import DataError

LABELS = np.array([2, 0])


def saved(tmp_path: Path, images: np.ndarray, labels: np.ndarray = LABELS) -> tuple[Path, Path]:
    paths = tmp_path / "images.npy", tmp_path / "labels.npy"
    for path, array in zip(paths, (images, labels), strict=True):
        np.save(path, array, allow_pickle=True)
    return paths


def test_bytes_stay_bytes(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 2 * 2, dtype=np.uint8).reshape(2, 3, 2, 2)
    own = from_arrays(*saved(tmp_path, images), classes=3, name="own")
    assert (own.name, own.classes, own.images.dtype) == ("own", 3, torch.uint8)
    assert own.images.tolist() == images.tolist()
    assert own.labels.tolist() == [2, 0]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f8"])
@pytest.mark.parametrize("shape", [(2, 5), (2, 1, 2, 3)])
def test_floats_become_float32(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    images = (np.arange(np.prod(shape)) / 16).reshape(shape).astype(dtype)
    own = from_arrays(*saved(tmp_path, images, LABELS.astype("uint8")), classes=3)
    assert own.pixels().dtype == torch.float32
    assert own.pixels().tolist() == images.tolist()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.full((2, 5), np.nan), LABELS, "nan"),
        (np.full((2, 5), 1e300), LABELS, r"in \[0, 1\]; got values from 1e\+300"),
        (np.full((2, 5), 1.01), LABELS, r"in \[0, 1\]"),
        (np.full((2, 5), -1e-3), LABELS, r"in \[0, 1\]"),
        (np.full((2, 5), 1), LABELS, "bytes or floating-point"),
        (np.full((2, 5), "a"), LABELS, "bytes or floating-point"),
        (np.zeros((2, 5, 5)), LABELS, "N x C x H x W or N x D"),
        (np.zeros(()), LABELS, "N x C x H x W or N x D"),
        (np.zeros((3, 5)), LABELS, "N labels"),
        (np.zeros((2, 5)), LABELS[:, None], "N integers"),
        (np.zeros((2, 5)), LABELS / 2, "integers"),
        (np.zeros((2, 5)), np.array([0, 3]), "from 0 to 2; got 3 at image 1"),
        (np.zeros((2, 5)), np.array([{}, {}]), "array of numbers"),
    ],
)
def test_other_arrays_are_refused(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        from_arrays(*saved(tmp_path, images, labels), classes=3)


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00", None])
def test_a_file_that_is_no_array_is_refused(tmp_path: Path, content: bytes | None) -> None:
    images, labels = saved(tmp_path, np.zeros((2, 5)))
    images.write_bytes(images.read_bytes()[:-8] if content is None else content)  # None: cut
    with pytest.raises(DataError, match=r"numpy\.save"):
        from_arrays(images, labels, classes=3)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    _, labels = saved(tmp_path, np.zeros((2, 5)))
    with pytest.raises(DataError, match=r"none\.npy"):
        from_arrays(tmp_path / "none.npy", labels, classes=3)
