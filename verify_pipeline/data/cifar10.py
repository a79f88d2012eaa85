"""CIFAR-10 in its python batches (pickles of 2009) or its binary ones, in a folder or an archive.

Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from verify_pipeline.data.archives import open_files
from verify_pipeline.data.files import Remote, Store, check_md5
from verify_pipeline.data.pickles import read_pickle
from verify_pipeline.data.sets import Augmentation, DataSetInfo, ImageSet, Split
from verify_pipeline.errors import DataError

INFO = DataSetInfo(
    "cifar10",
    (3, 32, 32),
    10,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    augmentation=Augmentation(flip=True, padding=2, mode="edge"),
    class_names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
)

_PIXELS = 3 * 32 * 32
SUBFOLDERS = (
    "cifar10",
    "cifar-10-batches-py",
    "cifar-10-batches-bin",
    "cifar10/cifar-10-batches-py",
    "cifar10/cifar-10-batches-bin",
    ".",
)
_BATCHES: dict[Split, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}
# What the six files name: the parts of a numpy array. Its maker is taken from an array, because
# numpy has moved it since 2009.
_ARRAY_PARTS: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}

Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Form:
    """One of the two published forms.

    Attributes:
        suffix: of the batches' names.
        archive: the published archive.
        md5: of each batch.
        parse: from a batch's path (for messages) and content to pixels ``N x 3072`` uint8 and
            labels ``N``.
    """

    suffix: str
    archive: Remote
    md5: dict[str, str]
    parse: Callable[[Path, bytes], Arrays]


def parse_python(path: Path, content: bytes) -> Arrays:
    """Pixels and labels of a python batch.

    Raises:
        DataError: a pickle that is damaged, asks for anything but arrays, or holds other things.
    """
    batch = read_pickle(path, content, _ARRAY_PARTS)
    pixels = batch.get(b"data") if isinstance(batch, dict) else None
    labels = batch.get(b"labels") if isinstance(batch, dict) else None
    if (
        not isinstance(pixels, np.ndarray)
        or not isinstance(labels, list)
        or pixels.dtype != np.uint8
        or pixels.shape != (len(labels), _PIXELS)
        or not all(type(label) is int for label in labels)
    ):
        raise DataError(
            str(path),
            expected=f"data N x {_PIXELS} of bytes and N integer labels",
            got="something else",
            remedy="Fetch the published file again.",
        )
    return pixels, np.array(labels)


def parse_binary(path: Path, content: bytes) -> Arrays:
    """Pixels and labels of a binary batch: a byte for the label, then the image, and so on.

    Raises:
        DataError: its size is not that of a whole number of images.
    """
    if len(content) % (1 + _PIXELS) != 0:
        raise DataError(
            str(path),
            expected=f"a multiple of {1 + _PIXELS} bytes",
            got=f"{len(content)} bytes",
            remedy="The file is damaged: delete it and fetch it again.",
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return rows[:, 1:], rows[:, 0]


FORMS = (
    Form(
        "",
        Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
        ),
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
        },
        parse_python,
    ),
    Form(
        ".bin",
        Remote(
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "c32a1d4ab5d03f1284b67883e8d87530",
        ),
        {
            "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
            "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
            "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
            "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
            "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
            "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
        },
        parse_binary,
    ),
)


def read(split: Split, store: Store, forms: Sequence[Form] = FORMS) -> ImageSet:
    """One split, ``N x 3 x 32 x 32`` uint8, in the order of the batches.

    Args:
        split: which.
        store: where the batches, or an archive of them, are looked for.
        forms: the published forms, the one to download first.

    Raises:
        DataError: a batch is missing, damaged, or not the published one.
    """
    first = _BATCHES[split][0]
    names = [first + form.suffix for form in forms] + [form.archive.name for form in forms]
    path = store.obtain("CIFAR-10", SUBFOLDERS, names, forms[0].archive)
    form = next(f for f in forms if path.name in (first + f.suffix, f.archive.name))
    with open_files(path, first + form.suffix) as files:
        batches = []
        for name in _BATCHES[split]:
            batch = files.place / (name + form.suffix)
            content = files.read(batch.name)
            check_md5(batch, content, form.md5[name])
            batches.append(form.parse(batch, content))
    images = np.concatenate([pixels for pixels, _ in batches]).reshape(-1, *INFO.shape)
    labels = np.concatenate([labels for _, labels in batches]).astype(np.int64)
    return ImageSet(
        INFO.name, split, torch.from_numpy(images), torch.from_numpy(labels), INFO.classes
    )
