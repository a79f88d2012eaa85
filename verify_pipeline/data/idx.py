"""MNIST and FashionMNIST in their idx files, gzipped or not.

MNIST: LeCun, Cortes, Burges 1998. FashionMNIST: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747.
The format: two zero bytes, a type byte, the number of axes, each axis's length as a big-endian
32-bit integer, then the values in C order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from verify_pipeline.data.archives import read_unpacked
from verify_pipeline.data.files import Remote, Store, check_md5
from verify_pipeline.data.sets import DataSetInfo, ImageSet, Split
from verify_pipeline.errors import DataError

_UNSIGNED_BYTE = 0x08


@dataclass(frozen=True)
class IdxFile:
    """One published idx file.

    Attributes:
        name: without ``.gz``.
        md5: of the content, decompressed.
        remote: its gzipped form.
    """

    name: str
    md5: str
    remote: Remote


@dataclass(frozen=True)
class IdxSet:
    """A data set whose splits are each a file of images and a file of labels.

    Attributes:
        info: what is known of it.
        subfolders: of the data root in which its files may lie.
        files: per split, images and labels.
    """

    info: DataSetInfo
    subfolders: tuple[str, ...]
    files: Mapping[Split, tuple[IdxFile, IdxFile]]

    def read(self, split: Split, store: Store) -> ImageSet:
        """One split, ``N x 1 x H x W`` uint8.

        Raises:
            DataError: a file is missing, damaged, or not the published one.
        """
        images, labels = (self._values(file, store) for file in self.files[split])
        name = self.info.name
        if images.dim() != 3 or labels.dim() != 1:
            raise DataError(
                f"{name} ({split})",
                expected="images with 3 axes and labels with 1",
                got=f"{images.dim()} and {labels.dim()}",
            )
        return ImageSet(name, split, images.unsqueeze(1), labels.long(), self.info.classes)

    def _values(self, file: IdxFile, store: Store) -> Tensor:
        names = (file.name, file.name + ".gz")
        path = store.obtain(f"{self.info.name} data", self.subfolders, names, file.remote)
        content = read_unpacked(path)
        check_md5(path, content, file.md5)
        return parse_idx(path, content)


def parse_idx(path: Path, content: bytes) -> Tensor:
    """The uint8 values of an idx file, in the file's shape.

    Args:
        path: to name in messages.
        content: of the file.

    Raises:
        DataError: a header that is not one of unsigned bytes, or too few or too many values.
    """
    if len(content) < 4 or content[:3] != bytes((0, 0, _UNSIGNED_BYTE)):
        raise DataError(
            str(path),
            expected="an idx file of unsigned bytes, which starts with 00 00 08",
            got=content[:4].hex(" ") or "an empty file",
        )
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4))
    if len(content) != start + math.prod(shape):
        raise DataError(
            str(path),
            expected=f"{start + math.prod(shape)} bytes for shape {shape}",
            got=f"{len(content)} bytes",
            remedy="The file is damaged: delete it and fetch it again.",
        )
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def _files(
    mirror: str, digests: Mapping[Split, tuple[tuple[str, str], tuple[str, str]]]
) -> Mapping[Split, tuple[IdxFile, IdxFile]]:
    """The four files of a set; ``digests``: MD5 of (content, gzipped) for images and labels."""

    def file(name: str, content: str, gzipped: str) -> IdxFile:
        return IdxFile(name, content, Remote(f"{mirror}/{name}.gz", gzipped))

    prefixes: dict[Split, str] = {"train": "train", "test": "t10k"}
    return {
        split: (
            file(f"{prefixes[split]}-images-idx3-ubyte", *images),
            file(f"{prefixes[split]}-labels-idx1-ubyte", *labels),
        )
        for split, (images, labels) in digests.items()
    }


MNIST = IdxSet(
    DataSetInfo("mnist", (1, 28, 28), 10, mean=(0.0,), std=(1.0,)),
    ("mnist", "MNIST/raw"),
    _files(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        {
            "train": (
                ("6bbc9ace898e44ae57da46a324031adb", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
                ("a25bea736e30d166cdddb491f175f624", "d53e105ee54ea40749a09fcbcd1e9432"),
            ),
            "test": (
                ("2646ac647ad5339dbf082846283269ea", "9fb629c4189551a2d022fa330f9573f3"),
                ("27ae3e4e09519cfbb04c329615203637", "ec29112dd5afa0611ce80d1b7f02629c"),
            ),
        },
    ),
)

_CLOTHES = "T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"

FASHION_MNIST = IdxSet(
    DataSetInfo(
        "fashionmnist",
        (1, 28, 28),
        10,
        mean=(0.0,),
        std=(1.0,),
        class_names=tuple(_CLOTHES.split(",")),
    ),
    ("fashionmnist", "FashionMNIST/raw"),
    _files(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        {
            "train": (
                ("f4a8712d7a061bf5bd6d2ca38dc4d50a", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                ("9018921c3c673c538a1fc5bad174d6f9", "25c81989df183df01b3e8a0aad5dffbe"),
            ),
            "test": (
                ("8181f5470baa50b63fa0f6fddb340f0a", "bef4ecab320f06d8554ea6380940ec79"),
                ("15d484375f8d13e6eb1aabb0c3f46965", "bb300cfdad3c16e7a12a480ee83cd310"),
            ),
        },
    ),
)
