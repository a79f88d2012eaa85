"""An image, an adversarial image and their difference as pictures of 8 bits, for any renderer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from verify_pipeline.errors import DataError

Picture = NDArray[np.uint8]
"""``H x W`` in grey, or ``H x W x 3`` in red, green and blue; 0 is black."""

CHANNELS = (1, 3)
"""Numbers of channels that can be shown."""

AXES = 3

MIDDLE = 127.5
"""The grey of a pixel that did not change."""


@dataclass(frozen=True, eq=False)
class ImagePictures:
    """ImagePictures of one image.

    Attributes:
        image: as it is.
        adversarial: a counterexample; None: there is none.
        difference: adversarial minus image, times ``factor``, around a middle grey; None likewise.
        factor: by which it is amplified, so that the largest change becomes white or black; 1 where
            nothing changed.
    """

    image: Picture
    adversarial: Picture | None = None
    difference: Picture | None = None
    factor: float = 1.0


def pictures_of(image: Tensor, adversarial: Tensor | None = None) -> ImagePictures:
    """The pictures of an image, and of a counterexample in its box.

    Args:
        image: ``C x H x W`` or ``H x W x C`` with 1 or 3 channels, or ``H x W``; pixels in [0, 1].
        adversarial: of the same shape; None: there is none.

    Raises:
        DataError: the image is of another shape and cannot be shown, or the shapes differ.
    """
    before = _drawable(image)
    if adversarial is None:
        return ImagePictures(_rounded(255 * before))
    if adversarial.shape != image.shape:
        raise DataError(
            "adversarial image",
            expected=f"the image's shape {tuple(image.shape)}",
            got=str(tuple(adversarial.shape)),
        )
    after = _drawable(adversarial)
    change = after - before
    largest = float(np.abs(change).max())
    factor = 1.0 if largest == 0 else 1 / largest
    difference = _rounded(MIDDLE + MIDDLE * factor * change)
    return ImagePictures(_rounded(255 * before), _rounded(255 * after), difference, factor)


def _drawable(image: Tensor) -> NDArray[np.float64]:
    """Pixels ``H x W`` or ``H x W x 3``."""
    pixels: NDArray[np.float64] = image.detach().cpu().double().numpy()
    if pixels.ndim == AXES and pixels.shape[0] in CHANNELS:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == AXES and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    shown = pixels.ndim == AXES - 1 or (pixels.ndim == AXES and pixels.shape[-1] in CHANNELS)
    if not shown or pixels.size == 0:
        raise DataError(
            "picture of an image",
            expected="shape C x H x W with 1 or 3 channels",
            got=f"shape {tuple(image.shape)}, which is not drawn",
        )
    return pixels


def _rounded(values: NDArray[np.float64]) -> Picture:
    return np.rint(values).clip(0, 255).astype(np.uint8)
