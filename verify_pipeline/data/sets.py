"""The words of this layer: a set of images, what is known of a data set, how it is augmented.

Shape letters: ``N`` images, ``C x H x W`` channels, height and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from verify_pipeline.errors import DataError

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Augmentation:
    """Random horizontal flip and random crop from the padded image.

    Attributes:
        flip: whether an image is mirrored with probability 1/2.
        padding: pixels added on each side before an ``H x W`` window is cut out; 0 for no crop.
        mode: what is added: ``edge`` repeats the border pixel, ``zero`` is black.
    """

    flip: bool = False
    padding: int = 0
    mode: Literal["edge", "zero"] = "zero"


@dataclass(frozen=True)
class DataSetInfo:
    """What is known of a data set before it is read.

    Attributes:
        name: as in recipes and on the command line.
        shape: ``(C, H, W)``.
        classes: number of classes.
        mean: per channel, of pixels in [0, 1]; what a network's first layer subtracts.
        std: per channel, of pixels in [0, 1]; what it then divides by.
        augmentation: the standard one for training.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augmentation: Augmentation = Augmentation()


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

    Raises:
        DataError: wrong shapes or types, a NaN, a pixel outside [0, 1], a label out of range.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: int

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
        return ImageSet(
            self.name, self.split, self.images[indices], self.labels[indices], self.classes
        )

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set with its tensors on another device."""
        return ImageSet(
            self.name, self.split, self.images.to(device), self.labels.to(device), self.classes
        )


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
