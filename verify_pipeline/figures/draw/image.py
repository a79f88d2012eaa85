"""The figure of one image: as it is, its amplified change, and the adversarial image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verify_pipeline.figures.style import new_figure, plain
from verify_pipeline.reporting.pictures import ImagePictures, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHTS = {"column": 2.9, "page": 3.0}
"""Inches, of one picture and of three."""


@dataclass(frozen=True)
class ImageCaption:
    """What stands above and below the pictures of an image.

    Attributes:
        title: lines above all of them.
        image: lines below the image.
        adversarial: lines below the adversarial image.
    """

    title: Sequence[str]
    image: Sequence[str]
    adversarial: Sequence[str] = ()


def draw_image(pictures: ImagePictures, caption: ImageCaption) -> Figure:
    """One picture, or three where there is a counterexample.

    Args:
        pictures: of the image.
        caption: its texts.
    """
    panels: list[tuple[Picture, Sequence[str]]] = [(pictures.image, ("image", *caption.image))]
    if pictures.adversarial is not None and pictures.difference is not None:
        amplified = (f"difference × {pictures.factor:.3g}", "grey: not changed")
        found = ("counterexample", *caption.adversarial)
        panels += [(pictures.difference, amplified), (pictures.adversarial, found)]
    width = "column" if len(panels) == 1 else "page"
    figure = new_figure("column" if len(panels) == 1 else "page", HEIGHTS[width])
    for place, (picture, words) in enumerate(panels, 1):
        _draw(figure.add_subplot(1, len(panels), place), picture, words)
    figure.suptitle("\n".join(map(plain, caption.title)))
    return figure


def _draw(axes: Axes, picture: Picture, words: Sequence[str]) -> None:
    axes.grid(visible=False)
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("\n".join(map(plain, words)))
