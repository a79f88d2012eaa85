"""SVHN's cropped digits (its format 2) in its published ``.mat`` files.

Netzer, Wang, Coates, Bissacco, Wu, Ng 2011, Reading Digits in Natural Images with Unsupervised
Feature Learning: 73,257 images to train on, 26,032 to test. The additional easier ones are not
used. The files' label 10 is the digit 0.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from verify_pipeline.data.archives import read_unpacked
from verify_pipeline.data.files import Remote, Store, check_md5
from verify_pipeline.data.sets import Augmentation, DataSetInfo, ImageSet, Split
from verify_pipeline.errors import DataError, DependencyError

INFO = DataSetInfo(
    "svhn",
    (3, 32, 32),
    10,
    mean=(0.4377, 0.4438, 0.4728),
    std=(0.1980, 0.2010, 0.1970),
    augmentation=Augmentation(flip=False, padding=2, mode="edge"),
)

SUBFOLDERS = ("svhn", "SVHN", ".")
REMOTES: Mapping[Split, Remote] = {
    "train": Remote(
        "http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
        "e26dedcc434d2e4c54c9b2d4a06d8373",
    ),
    "test": Remote(
        "http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
        "eb5a983be6a315427106f1b164d9cef3",
    ),
}


def read(split: Split, store: Store, remotes: Mapping[Split, Remote] = REMOTES) -> ImageSet:
    """One split, ``N x 3 x 32 x 32`` uint8, in the order of the file.

    Args:
        split: which.
        store: where the files are looked for.
        remotes: the published files.

    Raises:
        DataError: the file is missing, damaged, or not the published one.
        DependencyError: scipy is not installed.
    """
    remote = remotes[split]
    path = store.obtain("SVHN (cropped digits)", SUBFOLDERS, (remote.name,), remote)
    content = read_unpacked(path)
    check_md5(path, content, remote.md5)
    found = _matrices(path, content)
    images, labels = found.get("X"), found.get("y")
    if (
        not isinstance(images, np.ndarray)
        or not isinstance(labels, np.ndarray)
        or images.dtype != np.uint8
        or images.shape != (32, 32, 3, labels.size)
        or not np.isin(labels, range(1, 11)).all()
    ):
        raise DataError(
            str(path),
            expected="X of 32 x 32 x 3 x N bytes and y of N digits from 1 to 10",
            got="something else",
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(3, 2, 0, 1)))
    digits = torch.from_numpy(labels.reshape(-1).astype(np.int64) % 10)
    return ImageSet(INFO.name, split, pixels, digits, INFO.classes)


def _matrices(path: Path, content: bytes) -> dict[str, Any]:
    """The matrices of a MATLAB file by name."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DependencyError(
            "data set svhn",
            expected="the package scipy",
            got="none installed",
            remedy="Install it with: pip install scipy",
        ) from error
    try:
        return dict(loadmat(io.BytesIO(content)))
    except Exception as error:  # damaged files raise almost any exception
        raise DataError(
            str(path),
            expected="a MATLAB file",
            got=f"{type(error).__name__}: {error}",
            remedy="Delete it and fetch it again.",
        ) from error
