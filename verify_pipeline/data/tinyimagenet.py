"""TinyImageNet in its official layout, unpacked or as the published zip.

Le, Yang 2015 (Stanford CS231n): 200 classes, 500 training and 50 validation images each, as JPEG
of 64 x 64. The labels of its test images are not public, so the split ``test`` is the validation
split, as in the literature.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from verify_pipeline.data.archives import Files, open_files, unreadable
from verify_pipeline.data.files import Remote, Store
from verify_pipeline.data.sets import Augmentation, ClassOrder, DataSetInfo, ImageSet, Split
from verify_pipeline.errors import DataError

INFO = DataSetInfo(
    "tinyimagenet",
    (3, 64, 64),
    200,
    mean=(0.4802, 0.4481, 0.3975),
    std=(0.2302, 0.2265, 0.2262),
    augmentation=Augmentation(flip=True, padding=4, mode="edge"),
)

REMOTE = Remote(
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"
)
SUBFOLDERS = ("tinyimagenet", "tiny-imagenet-200", "tinyimagenet/tiny-imagenet-200", ".")
CLASS_ORDER: ClassOrder = "sorted"
"""Without another word; ``published`` is the order of ``wnids.txt``."""

_LANDMARK = "wnids.txt"
_ANNOTATIONS = "val/val_annotations.txt"


def read(split: Split, store: Store, order: ClassOrder = CLASS_ORDER) -> ImageSet:
    """One split, ``N x 3 x 64 x 64`` uint8.

    Training images come class by class, validation images in the order of ``val_annotations.txt``.

    Args:
        split: which.
        store: where the files, or the archive, are looked for.
        order: class k is the k-th WordNet id in alphabetical order (``sorted``, as when folders are
            listed), or the k-th of ``wnids.txt`` (``published``).

    Raises:
        DataError: a file is missing or damaged, or names a class or an image that is not there.
    """
    path = store.obtain("TinyImageNet", SUBFOLDERS, (_LANDMARK, REMOTE.name), REMOTE)
    with open_files(path, _LANDMARK) as files:
        published = _lines(files, _LANDMARK)
        classes = sorted(published) if order == "sorted" else published
        if len(set(classes)) != INFO.classes:
            raise DataError(
                str(files.place / _LANDMARK),
                expected=f"{INFO.classes} different WordNet ids",
                got=str(len(set(classes))),
            )
        listed = _training(files, classes) if split == "train" else _validation(files, classes)
        images = _decode(files, [name for name, _ in listed])
    labels = torch.tensor([label for _, label in listed])
    return ImageSet(INFO.name, split, images, labels, INFO.classes)


def _lines(files: Files, name: str) -> list[str]:
    try:
        return files.read(name).decode("ascii").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise unreadable(files.place / name, error) from error


def _training(files: Files, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Paths and labels of the training images."""
    listed = []
    for label, wordnet_id in enumerate(classes):
        folder = f"train/{wordnet_id}/images"
        names = files.names(folder)
        if not names:
            raise DataError(
                str(files.place / folder),
                expected="the training images of a class",
                got="none",
                remedy="This copy may hold the validation split only: fetch the whole data set "
                f"from {REMOTE.address}.",
            )
        listed += [(f"{folder}/{name}", label) for name in names]
    return listed


def _validation(files: Files, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Paths and labels of the validation images."""
    label_of = {wordnet_id: label for label, wordnet_id in enumerate(classes)}
    listed = []
    for number, line in enumerate(_lines(files, _ANNOTATIONS), 1):
        name, wordnet_id, *_ = [*line.split("\t"), ""]
        if wordnet_id not in label_of:
            raise DataError(
                f"{files.place / _ANNOTATIONS}, line {number}",
                expected=f"an image and a WordNet id of {_LANDMARK}",
                got=repr(line),
            )
        listed.append((f"val/images/{name}", label_of[wordnet_id]))
    return listed


def _decode(files: Files, names: Sequence[str]) -> torch.Tensor:
    """The JPEGs as ``N x 3 x 64 x 64`` uint8; grey ones get three equal channels."""
    channels, height, width = INFO.shape
    images = torch.empty(len(names), channels, height, width, dtype=torch.uint8)
    for place, name in enumerate(names):
        content = files.read(name)
        try:
            with Image.open(io.BytesIO(content)) as image:
                pixels = np.array(image.convert("RGB"))
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise unreadable(Path(files.place, name), error) from error
        if pixels.shape != (height, width, channels):
            raise DataError(
                str(files.place / name),
                expected=f"an image of {width} x {height}",
                got=f"{pixels.shape[1]} x {pixels.shape[0]}",
            )
        images[place] = torch.from_numpy(pixels).permute(2, 0, 1)
    return images
