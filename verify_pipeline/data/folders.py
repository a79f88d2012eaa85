"""Images in folders, one folder for each class, as torchvision's ``ImageFolder`` has them.

Classes are numbered by the names of their folders in alphabetical order; images come class by
class, in the order of their paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from verify_pipeline.data.sets import ImageSet
from verify_pipeline.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""Endings of the files that are images; other files are not looked at."""

Size = tuple[int, int]
"""Height and width."""

_CHANNELS = {"L": 1, "RGB": 3}
_EXACT = {"1": "L", "P": "RGB"}
"""Modes of PIL that convert to another without loss."""


def class_names(folder: Path) -> tuple[str, ...]:
    """The classes of a folder of training images: the names of the folders in it, in order.

    Raises:
        DataError: there is no such folder, or it has fewer than two folders.
    """
    names = _subfolders(folder)
    if len(names) < 2:
        raise DataError(
            str(folder),
            expected="a folder for each class, at least 2",
            got=", ".join(names) or "none",
        )
    return names


def image_shape(folder: Path, size: Size | None = None) -> tuple[int, ...]:
    """``C x H x W`` of a folder's images, told by the first one.

    Raises:
        DataError: there is no image, or the first one cannot be read.
    """
    first = next((path for name in class_names(folder) for path in _files(folder / name)), None)
    if first is None:
        raise _no_image(folder)
    return tuple(_decoded(first, size).shape)


def read_folder(
    folder: Path, names: Sequence[str], name: str, split: str, size: Size | None = None
) -> ImageSet:
    """The images of a folder, ``N x C x H x W`` uint8.

    Args:
        folder: of the folders of the classes.
        names: of the classes, in order; a class may be without a folder.
        name: of the data set.
        split: for tables and the ledger.
        size: that images are resized to (bilinear); None: all have one size.

    Raises:
        DataError: a folder is no class or has no image, an image cannot be read, or images differ
            in size or mode.
    """
    unknown = [each for each in _subfolders(folder) if each not in names]
    if unknown:
        raise DataError(
            str(folder),
            expected=f"folders of the classes of the training images, {', '.join(names)}",
            got=", ".join(unknown),
        )
    by_class = [list(_files(folder / each)) for each in names]
    empty = [each for each in _subfolders(folder) if not by_class[names.index(each)]]
    if empty or not any(by_class):
        raise _no_image(folder / empty[0] if empty else folder)
    listed = [(path, label) for label, paths in enumerate(by_class) for path in paths]
    first = _decoded(listed[0][0], size)
    images = torch.empty(len(listed), *first.shape, dtype=torch.uint8)
    for place, (path, _) in enumerate(listed):
        images[place] = _like(first, listed[0][0], path, size)
    labels = torch.tensor([label for _, label in listed])
    return ImageSet(name, split, images, labels, len(names), tuple(names))


def _like(first: Tensor, first_path: Path, path: Path, size: Size | None) -> Tensor:
    """An image of the first one's shape.

    Raises:
        DataError: it has another one.
    """
    image = _decoded(path, size)
    if image.shape == first.shape:
        return image
    same_mode = image.shape[0] == first.shape[0]
    remedy = "Give a size that all are resized to, such as size: [32, 32]."
    raise DataError(
        f"image {path}",
        expected=f"{_words(first)} as {first_path} is",
        got=_words(image),
        remedy=remedy if same_mode else "Convert all images to grey or to colour.",
    )


def _words(image: Tensor) -> str:
    channels, height, width = image.shape
    return f"a {'grey' if channels == 1 else 'colour'} image of height {height} and width {width}"


def _subfolders(folder: Path) -> tuple[str, ...]:
    """Names of the folders in a folder, in order, without hidden ones."""
    if not folder.is_dir():
        raise DataError(
            str(folder),
            expected="a folder with a folder of images for each class",
            got="a file" if folder.exists() else "no such folder",
            remedy="Check the path.",
        )
    try:
        inside = [each.name for each in folder.iterdir() if each.is_dir()]
    except OSError as error:
        raise DataError(str(folder), expected="a readable folder", got=str(error)) from error
    return tuple(sorted(name for name in inside if not name.startswith(".")))


def _files(folder: Path) -> Iterator[Path]:
    """The images below a folder, in order of their paths; hidden ones are left out."""
    for place, names in sorted(_walked(folder)):
        for name in sorted(names):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(place, name)


def _walked(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The folders below a folder, and their files; a link to a folder above it is not followed."""
    for place, inside, names in os.walk(folder, followlinks=True):
        above = Path(place).resolve()
        inside[:] = [
            each
            for each in inside
            if not each.startswith(".") and not above.is_relative_to(Path(place, each).resolve())
        ]
        yield place, names


def _no_image(folder: Path) -> DataError:
    return DataError(
        str(folder),
        expected=f"images ({', '.join(SUFFIXES)})",
        got="none",
    )


def _decoded(path: Path, size: Size | None) -> Tensor:
    """``C x H x W`` uint8 of a grey or a colour image.

    Raises:
        DataError: it cannot be read, or is neither.
    """
    try:
        with Image.open(path) as image:
            return _pixels(path, image, size)
    except DataError:
        raise
    except Exception as error:  # damaged images raise almost any exception
        raise DataError(
            f"image {path}",
            expected="a whole image file",
            got=f"{type(error).__name__}: {error}",
            remedy="Replace or remove it.",
        ) from error


def _pixels(path: Path, image: Image.Image, size: Size | None) -> Tensor:
    mode = _EXACT.get(image.mode, image.mode)
    if mode not in _CHANNELS or "transparency" in image.info or _has_more_bits(image):
        raise DataError(
            f"image {path}",
            expected="a grey (L) or colour (RGB) image of 8 bits, without transparency",
            got=f"mode {image.mode}" + (" of more bits" if _has_more_bits(image) else ""),
            remedy="Convert it.",
        )
    plain: Image.Image = image if image.mode == mode else image.convert(mode)
    if size is not None:
        plain = plain.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.array(plain))
    return values.unsqueeze(0) if values.dim() == 2 else values.permute(2, 0, 1)


def _has_more_bits(image: Image.Image) -> bool:
    """Whether a file has more than 8 bits a channel, which PIL cuts off where they are colours."""
    for tile in getattr(image, "tile", ()):
        layout, *more = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        greatest = more[0] if more and image.format == "PPM" else 255
        if ";16" in str(layout) or greatest > 255:
            return True
    return False
