"""SVHN's format: small files as MATLAB writes them, and damaged ones."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from verify_pipeline.data.files import Remote, Store
from verify_pipeline.data.svhn import REMOTES, read
from verify_pipeline.errors import DataError

scipy_io = pytest.importorskip("scipy.io")

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 4), np.uint8)
LABELS = np.array([[10], [1], [9], [10]], np.uint8)


def store_of(root: Path) -> Store:
    return Store(root, root / "cache", download=False)


def written(root: Path, **matrices: np.ndarray) -> Remote:
    """``svhn/train_32x32.mat`` with these matrices, as published."""
    path = root / "svhn" / "train_32x32.mat"
    path.parent.mkdir()
    scipy_io.savemat(path, matrices)
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    return Remote(f"https://example.org/{path.name}", digest)


def test_label_10_is_the_digit_0_and_images_are_channels_first(tmp_path: Path) -> None:
    remote = written(tmp_path, X=PIXELS, y=LABELS)
    train = read("train", store_of(tmp_path), {"train": remote})
    assert train.labels.tolist() == [0, 1, 9, 0]
    assert train.images.shape == (4, 3, 32, 32)
    assert train.images[2, 1].numpy().tolist() == PIXELS[:, :, 1, 2].tolist()


@pytest.mark.parametrize(
    "matrices",
    [
        {"X": PIXELS},
        {"X": PIXELS[..., :3], "y": LABELS},
        {"X": PIXELS, "y": LABELS * 0},
        {"X": PIXELS.astype(np.float64), "y": LABELS},
    ],
)
def test_other_matrices_are_refused(tmp_path: Path, matrices: dict[str, np.ndarray]) -> None:
    remote = written(tmp_path, **matrices)
    with pytest.raises(DataError, match="expected X of 32 x 32 x 3 x N bytes"):
        read("train", store_of(tmp_path), {"train": remote})


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    written(tmp_path, X=PIXELS, y=LABELS)
    with pytest.raises(DataError, match="e26dedcc434d2e4c54c9b2d4a06d8373"):
        read("train", store_of(tmp_path))
    with pytest.raises(DataError, match=r"no such file .*test_32x32.mat|expected test_32x32.mat"):
        read("test", store_of(tmp_path))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "train_32x32.mat").write_bytes(b"no matrix")
    digest = hashlib.md5(b"no matrix", usedforsecurity=False).hexdigest()
    remote = Remote(REMOTES["train"].address, digest)
    with pytest.raises(DataError, match="expected a MATLAB file"):
        read("train", store_of(tmp_path), {"train": remote})
