"""ImageNet downsampled to 64 x 64, in its published ``.npz`` files.

Chrabaszcz, Loshchilov, Hutter 2017, arXiv:1707.08819. Downloading the files requires a
registration, so this module does not fetch them. Their labels 1..1000 number the WordNet ids of
ILSVRC 2012 as its development kit does, from kit fox to dumbbell, which is no alphabetical order.
"""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import resources
from pathlib import Path

import torch

from verify_pipeline.data.arrays import read_member
from verify_pipeline.data.files import Store
from verify_pipeline.data.sets import Augmentation, ClassOrder, DataSetInfo, ImageSet, Split
from verify_pipeline.errors import DataError

INFO = DataSetInfo(
    "imagenet64",
    (3, 64, 64),
    1000,
    mean=(0.4815, 0.4578, 0.4082),
    std=(0.2153, 0.2111, 0.2121),
    augmentation=Augmentation(flip=True, padding=4, mode="edge"),
)

CLASS_ORDER: ClassOrder = "published"
"""The default order; ``sorted`` is the alphabetical order of the WordNet ids."""

SUBFOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("imagenet64", "imagenet64/Imagenet64_train_npz", "Imagenet64_train_npz", "."),
    "test": ("imagenet64", "imagenet64/Imagenet64_val_npz", "Imagenet64_val_npz", "."),
}
_PLACES = "imagenet_class_places.txt"
_FILES: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"train_data_batch_{number}.npz" for number in range(1, 11)),
    "test": ("val_data.npz",),
}


def read(split: Split, store: Store, order: ClassOrder = CLASS_ORDER) -> ImageSet:
    """One split, ``N x 3 x 64 x 64`` uint8, in the order of the files; ``test`` is validation.

    The training images are 15.7 GB; memory is taken for them once, and for one file more while it
    is read.

    Args:
        split: which.
        store: where the files are looked for.
        order: the published labels 1..1000 become classes 0..999 (``published``), or the places
            of their WordNet ids in alphabetical order (``sorted``).

    Raises:
        DataError: a file is missing or damaged, or holds something else.
    """
    what = "ImageNet64 (64 x 64, npz format, given by image-net.org after registration)"
    paths = [store.obtain(what, SUBFOLDERS[split], (name,), None) for name in _FILES[split]]
    labels = [_labels(path) for path in paths]
    images = torch.empty(sum(map(len, labels)), *INFO.shape, dtype=torch.uint8)
    for path, part in zip(paths, images.split([len(each) for each in labels]), strict=True):
        part.copy_(_images(path, len(part)))
    published = ImageSet(INFO.name, split, images, torch.cat(labels) - 1, INFO.classes)
    if order == "published":
        return published
    return replace(published, labels=alphabetical_places()[published.labels])


def alphabetical_places() -> torch.Tensor:
    """For each published class, the alphabetical rank of its WordNet id: 1000 int64."""
    text = (resources.files(__package__) / _PLACES).read_text(encoding="ascii")
    return torch.tensor([int(word) for line in text.splitlines()[1:] for word in line.split()])


def _labels(path: Path) -> torch.Tensor:
    """The labels of one file, unchanged, ``N``."""
    labels = read_member(path, "labels")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"labels of {path}",
            expected="N integers",
            got=f"{labels.dtype} of shape {labels.shape}",
        )
    return torch.from_numpy(labels.astype("int64"))


def _images(path: Path, count: int) -> torch.Tensor:
    """The images of one file, ``N x 3 x 64 x 64``; each row holds red, green, then blue."""
    data = read_member(path, "data")
    if data.shape != (count, math.prod(INFO.shape)) or data.dtype != "uint8":
        raise DataError(
            f"images of {path}",
            expected=f"{count} x {math.prod(INFO.shape)} bytes",
            got=f"{data.dtype} of shape {data.shape}",
        )
    return torch.from_numpy(data).reshape(count, *INFO.shape)
