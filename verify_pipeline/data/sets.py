"""The words of this layer: a set of images, what is known of a data set, how it is augmented.

Shape letters: ``N`` images, ``C x H x W`` channels, height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from verify_pipeline.errors import DataError

Split = Literal["train", "test"]

IMAGE_AXES = 3
"""Axes ``C x H x W`` of an image; a vector has one."""

ClassOrder = Literal["sorted", "published"]
"""How classes of WordNet ids are numbered: by the ids in alphabetical order, as torchvision numbers
folders, or as the data set's own files number them."""


def _is_count(value: object, least: int) -> bool:
    """Whether something is a whole number that is not below ``least``; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_finite(values: object) -> bool:
    """Whether these are several finite numbers."""
    return isinstance(values, tuple | list) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    )


@dataclass(frozen=True)
class Augmentation:
    """Random horizontal flip and random crop from the padded image.

    Attributes:
        flip: whether an image is mirrored with probability 1/2.
        padding: pixels added on each side before an ``H x W`` window is cut out; 0 for no crop.
        mode: what is added: ``edge`` repeats the border pixel, ``zero`` is black.

    Raises:
        DataError: a negative padding, or another mode.
    """

    flip: bool = False
    padding: int = 0
    mode: Literal["edge", "zero"] = "zero"

    def __post_init__(self) -> None:
        if not _is_count(self.padding, 0) or self.mode not in ("edge", "zero"):
            raise DataError(
                "augmentation",
                expected="a padding of 0 pixels or more, with the mode edge or zero",
                got=f"padding {self.padding!r}, mode {self.mode!r}",
            )


@dataclass(frozen=True)
class DataSetInfo:
    """What is known of a data set before it is read.

    Attributes:
        name: as in recipes and on the command line.
        shape: ``(C, H, W)`` of images or ``(D,)`` of vectors, each at least 1.
        classes: number of classes, at least 2.
        mean: per channel (of vectors: per number) or one for all, of pixels in [0, 1]; what a
            network's first layer subtracts.
        std: as many, > 0, of pixels in [0, 1]; what it then divides by.
        augmentation: the standard one for training; vectors have none.
        class_names: one for each class, in order; empty: classes have numbers only.

    Raises:
        DataError: a number that cannot be, or numbers that do not fit each other.
    """

    name: str
    shape: tuple[int, ...]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation = Augmentation()
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"data set information of {self.name}"
        several = isinstance(self.shape, tuple | list) and len(self.shape) in (1, IMAGE_AXES)
        if not (several and all(_is_count(n, 1) for n in self.shape)):
            raise DataError(
                where, expected="a shape (C, H, W) or (D,), each at least 1", got=repr(self.shape)
            )
        if len(self.shape) != IMAGE_AXES and self.augmentation != Augmentation():
            raise DataError(
                where,
                expected="no augmentation of vectors",
                got=repr(self.augmentation),
                remedy="Flips and crops are of images C x H x W.",
            )
        if not _is_count(self.classes, 2):
            raise DataError(where, expected="at least 2 classes", got=repr(self.classes))
        if len(self.class_names) not in (0, self.classes):
            raise DataError(
                where,
                expected=f"a name for each of {self.classes} classes",
                got=repr(self.class_names),
            )
        self._check_each(where, "mean", self.mean)
        self._check_each(where, "std", self.std)
        if not all(value > 0 for value in self.std):
            raise DataError(where, expected="a std > 0 in each channel", got=repr(self.std))

    @staticmethod
    def of(images: ImageSet) -> DataSetInfo:
        """What the images themselves say: pixels stay as they are, and nothing is augmented.

        Raises:
            DataError: there is one class only, or another shape than images or vectors have.
        """
        names = images.class_names
        return DataSetInfo(
            images.name, images.shape, images.classes, (0.0,), (1.0,), class_names=names
        )

    def _check_each(self, where: str, what: str, values: Sequence[float]) -> None:
        channels = self.shape[0]
        if not _are_finite(values) or len(values) not in (1, channels):
            each = "channel" if len(self.shape) == IMAGE_AXES else "number of a vector"
            raise DataError(
                where,
                expected=f"a {what} of {channels} finite numbers, one for each {each}, or of one",
                got=repr(values),
            )

    def check_fits(self, images: ImageSet) -> None:
        """Refuse images that this does not describe.

        Raises:
            DataError: their shape or their number of classes is another one.
        """
        described = (tuple(self.shape), self.classes)
        if described != (images.shape, images.classes):
            raise DataError(
                f"images {images.name} ({images.split})",
                expected=f"shape {described[0]} and {self.classes} classes, as the information on "
                f"data set {self.name} says",
                got=f"shape {images.shape} and {images.classes} classes",
                remedy="Give the information that belongs to these images.",
            )


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with their labels, whole in memory.

    Attributes:
        name: of the data set.
        split: ``train`` or ``test``, or a user's word.
        images: ``N x C x H x W`` (or any ``N x *X`` of a user's arrays): uint8, or float32 or
            float64 in [0, 1].
        labels: ``N`` int64, in ``[0, classes)``.
        classes: number of classes.
        class_names: one for each class, in order; empty: classes have numbers only.

    Raises:
        DataError: wrong shapes or types, a NaN, a pixel outside [0, 1], a label out of range.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: int
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"{self.name} ({self.split})"
        if self.images.dim() < 2 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                where,
                expected="images N x ... and N labels",
                got=f"{tuple(self.images.shape)} and {tuple(self.labels.shape)}",
            )
        if (
            self.images.dtype not in (torch.uint8, torch.float32, torch.float64)
            or self.labels.dtype != torch.int64
        ):
            raise DataError(
                where,
                expected="uint8, float32 or float64 images and int64 labels",
                got=f"{self.images.dtype} and {self.labels.dtype}",
            )
        _check_pixels(where, self.images)
        _check_labels(where, self.labels, self.classes)

    def __repr__(self) -> str:
        dtype = str(self.images.dtype).removeprefix("torch.")
        about = f"{len(self)} of shape {self.shape}, {dtype}, {self.classes} classes"
        return f"ImageSet({self.name} {self.split}: {about})"

    def __len__(self) -> int:
        return self.images.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image, ``*X``."""
        return tuple(self.images.shape[1:])

    def pixels(
        self, index: Tensor | slice | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Images as the networks take them: in [0, 1], ``N x C x H x W``.

        Args:
            index: which images; None for all.
            dtype: that the network takes.

        Returns:
            uint8 images divided by 255, and float images, correctly rounded.
        """
        images = self.images if index is None else self.images[index]
        return images.to(dtype) / 255 if images.dtype == torch.uint8 else images.to(dtype)

    def subset(self, indices: Tensor | slice) -> ImageSet:
        """The images at ``indices``, in that order."""
        return replace(self, images=self.images[indices], labels=self.labels[indices])

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set with its tensors on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def split_validation(images: ImageSet, count: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """Hold ``count`` images out for validation, chosen by a seeded permutation.

    Returns:
        The remaining images and the held-out ones, each in the order of the whole set.

    Raises:
        DataError: ``count`` is negative or leaves no image to train on.
    """
    if not 0 <= count < len(images):
        raise DataError(
            f"validation images of {images.name}",
            expected=f"a number from 0 to {len(images) - 1}",
            got=str(count),
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    held_out = order[:count].sort().values.to(images.labels.device)
    remaining = order[count:].sort().values.to(images.labels.device)
    return images.subset(remaining), images.subset(held_out)


def _check_pixels(where: str, images: Tensor) -> None:
    if images.dtype == torch.uint8 or images.numel() == 0:
        return
    # A NaN makes minimum and maximum NaN, and every comparison with it false.
    least, greatest = float(images.min()), float(images.max())
    if not (least >= 0 and greatest <= 1):
        raise DataError(
            f"pixels of {where}",
            expected="finite numbers in [0, 1]",
            got=f"values from {least:g} to {greatest:g}",
            remedy="Scale the images to [0, 1], or save them as uint8 0..255.",
        )


def _check_labels(where: str, labels: Tensor, classes: int) -> None:
    wrong = (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        place = int(wrong.nonzero()[0])
        raise DataError(
            f"labels of {where}",
            expected=f"integers from 0 to {classes - 1}",
            got=f"{int(labels[place])} at image {place}",
            remedy="Check that the labels belong to these images and this number of classes.",
        )
