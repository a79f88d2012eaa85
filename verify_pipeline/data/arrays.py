"""Images in numpy's files: a user's own ``.npy``, and the reading that ``.npz`` sets share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from verify_pipeline.data.archives import DAMAGED, LARGEST, refuse_above, unreadable
from verify_pipeline.data.box_sets import BoxSet
from verify_pipeline.data.sets import ImageSet
from verify_pipeline.errors import DataError

_UNREADABLE = (*DAMAGED, ValueError, KeyError, MemoryError)
"""MemoryError occurs if a file's header claims more data than it has or than memory holds."""


def from_arrays(
    images: Path,
    labels: Path | None,
    classes: int | None,
    name: str = "arrays",
    split: str = "test",
) -> ImageSet:
    """A user's own images from ``.npy`` files.

    Args:
        images: ``N x C x H x W`` or flat ``N x D``: bytes 0..255, or floats in [0, 1].
        labels: ``N`` integers in ``[0, classes)``; None if the question does not use labels: then
            all are 0.
        classes: number of classes; None: any number, if the question does not use labels.
        name: for tables and the ledger.
        split: for tables and the ledger.

    Raises:
        DataError: a file is missing or no array, or what it holds is not as above.
    """
    pixels = read_array(images)
    if labels is None:
        targets, labels = np.zeros(len(pixels), np.int64), images
    else:
        targets = read_array(labels)
    if pixels.dtype != np.uint8 and not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(
            str(images), expected="bytes or floating-point numbers", got=str(pixels.dtype)
        )
    if pixels.ndim not in (2, 4):
        raise DataError(str(images), expected="N x C x H x W or N x D", got=str(pixels.shape))
    if not np.issubdtype(targets.dtype, np.integer):
        raise DataError(str(labels), expected="integers", got=str(targets.dtype))
    if targets.ndim != 1:
        raise DataError(str(labels), expected="N integers", got=f"shape {targets.shape}")
    if pixels.dtype not in (np.uint8, np.float64):
        with np.errstate(over="ignore"):  # overflows become infinity and are refused below
            pixels = pixels.astype(np.float32)
    chosen = torch.from_numpy(targets.astype(np.int64))
    if classes is None:
        if bool((chosen < 0).any()):
            raise DataError(str(labels), expected="integers from 0 on", got="a negative number")
        classes = int(chosen.max()) + 1 if len(chosen) else 1
    return ImageSet(name, split, torch.from_numpy(pixels), chosen, classes)


def boxes_from_arrays(
    lower: Path, upper: Path, labels: Path | None, points: Path | None, name: str
) -> BoxSet:
    """A user's own boxes from ``.npy`` files.

    Args:
        lower: ``N x *X`` lower limits.
        upper: ``N x *X`` upper limits.
        labels: ``N`` classes, or None.
        points: ``N x *X``, one in each box: bytes 0..255, or floats; or None.
        name: for tables and the ledger.

    Raises:
        DataError: a file is missing or no array, or what it holds is not as above.
    """
    chosen = None
    if points is not None:
        chosen = read_numbers(points)
        if read_array(points).dtype == np.uint8:
            chosen = chosen / 255
    classes = None if labels is None else read_classes(labels)
    return BoxSet(name, "boxes", read_numbers(lower), read_numbers(upper), classes, chosen)


def read_numbers(path: Path) -> torch.Tensor:
    """The numbers in a ``.npy`` file, in float64.

    Raises:
        DataError: there is no such file, or it holds something else.
    """
    array = read_array(path)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise DataError(str(path), expected="numbers", got=str(array.dtype))
    return torch.from_numpy(array.astype(np.float64))


def read_classes(path: Path) -> torch.Tensor:
    """The classes in a ``.npy`` file, int64.

    Raises:
        DataError: there is no such file, or it holds something else.
    """
    array = read_array(path)
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(str(path), expected="integers", got=str(array.dtype))
    return torch.from_numpy(array.astype(np.int64))


def read_array(path: Path) -> np.ndarray:
    """The array in a ``.npy`` file.

    Raises:
        DataError: there is no such file, or it holds something else (also an array of objects).
    """
    with _array_file(path), path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


@contextmanager
def _array_file(path: Path) -> Iterator[None]:
    """What goes wrong while a ``.npy`` file is read, as an error that names it."""
    if not path.is_file():
        raise DataError(str(path), expected="a .npy file", got="no file", remedy="Check the path.")
    try:
        yield
    except _UNREADABLE as error:
        raise DataError(
            str(path),
            expected="an array of numbers saved with numpy.save",
            got=f"{type(error).__name__}: {error}",
        ) from error


def array_shape(path: Path) -> tuple[int, ...]:
    """The shape of the array in a ``.npy`` file, whose values are not read.

    Raises:
        DataError: as :func:`read_array`.
    """
    with _array_file(path):
        return tuple(np.lib.format.open_memmap(path, mode="r").shape)


def read_member(path: Path, name: str) -> np.ndarray:
    """One array of an ``.npz`` file; the archive's own CRC-32 is checked while it is read.

    Raises:
        DataError: the file is damaged, has no such array of numbers, or one that is too large.
    """
    try:
        with path.open("rb") as file, np.lib.npyio.NpzFile(file, allow_pickle=False) as arrays:
            for member in arrays.zip.infolist() if arrays.zip else ():
                refuse_above(member.file_size, LARGEST, path / member.filename)
            return np.asarray(arrays[name])
    except _UNREADABLE as error:
        raise unreadable(path, error) from error
