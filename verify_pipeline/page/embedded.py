"""Pictures as PNG files inside a page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from verify_pipeline.reporting.pictures import Picture

LARGEST = 128
"""Pixels of a picture's longer side, at most: larger images are scaled down to it."""


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture that needs no other file.

    Attributes:
        address: a ``data:`` URI of a PNG file.
        width: in pixels.
        height: in pixels.
        alternative: what it shows, for those who do not see it.
        caption: below it; empty: none.
    """

    address: str
    width: int
    height: int
    alternative: str
    caption: str


def embedded(picture: Picture, alternative: str, caption: str) -> EmbeddedPicture:
    """A picture as a small PNG file.

    Args:
        picture: ``H x W`` or ``H x W x 3``, 8 bits.
        alternative: what it shows.
        caption: below it.
    """
    image = Image.fromarray(picture)
    image.thumbnail((LARGEST, LARGEST))
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    address = "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")
    return EmbeddedPicture(address, image.width, image.height, alternative, caption)
