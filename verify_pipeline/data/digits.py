"""The 8 x 8 digits that come with scikit-learn: real images without a download.

Optical recognition of handwritten digits, test part (Alpaydin, Kaynak 1998, UCI repository):
1,797 images of values 0..16.
"""

from __future__ import annotations

import numpy as np
import torch

from verify_pipeline.data.files import Store
from verify_pipeline.data.sets import DataSetInfo, ImageSet, Split
from verify_pipeline.errors import DependencyError

INFO = DataSetInfo("digits", (1, 8, 8), 10, mean=(0.0,), std=(1.0,))

TEST_IMAGES = 360
_SPLIT_SEED = 0


def read(split: Split, store: Store) -> ImageSet:
    """One split, ``N x 1 x 8 x 8`` uint8: 1,437 images to train on, 360 to test.

    A value v of 0..16 becomes the grey level ``floor(v * 255 / 16 + 1/2)``. The split comes from a
    permutation by numpy's PCG64 with a fixed seed, so it never changes.

    Args:
        split: which.
        store: not used, the images are in the package.

    Raises:
        DependencyError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DependencyError(
            "data set digits",
            expected="the package scikit-learn",
            got="none installed",
            remedy="Install it with: pip install scikit-learn",
        ) from error
    values, labels = load_digits(return_X_y=True)
    levels = (values.astype(np.int64) * 255 * 2 + 16) // 32
    order = np.random.Generator(np.random.PCG64(_SPLIT_SEED)).permutation(len(labels))
    chosen = np.sort(order[:TEST_IMAGES] if split == "test" else order[TEST_IMAGES:])
    return ImageSet(
        INFO.name,
        split,
        torch.from_numpy(levels[chosen].astype(np.uint8).reshape(-1, *INFO.shape)),
        torch.from_numpy(labels[chosen].astype(np.int64)),
        INFO.classes,
    )
