"""The pictures of one image as a PNG file: the image, the difference, the adversarial image."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verify_pipeline.errors import DependencyError
from verify_pipeline.reporting.pictures import ImagePictures, Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE = 2.6
"""Inches of a picture's side."""


@dataclass(frozen=True)
class Caption:
    """What stands above and below the pictures of an image.

    Attributes:
        title: one line above all of them.
        image: lines below the image.
        adversarial: lines below the adversarial image.
    """

    title: str
    image: Sequence[str]
    adversarial: Sequence[str] = ()


def image_png(pictures: ImagePictures, caption: Caption, command: str) -> bytes:
    """A PNG file's content: one picture, or three where there is a counterexample.

    Args:
        pictures: of the image.
        caption: its texts.
        command: what makes the file; it stands in its metadata.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(
            "matplotlib is not installed",
            remedy="Install it with: pip install 'verify_pipeline[plots]'",
        ) from error
    panels: list[tuple[Picture, Sequence[str]]] = [(pictures.image, caption.image)]
    if pictures.adversarial is not None and pictures.difference is not None:
        amplified = (f"difference × {pictures.factor:.3g}", "grey: not changed")
        panels += [(pictures.difference, amplified), (pictures.adversarial, caption.adversarial)]
    figure = Figure(figsize=(SIDE * max(len(panels), 2), SIDE + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (picture, words) in enumerate(panels, 1):
        _draw(figure.add_subplot(1, len(panels), place), picture, words)
    figure.suptitle(_plain(caption.title), fontsize=9)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=200, metadata={"Description": command})
    return out.getvalue()


def _draw(axes: Axes, picture: Picture, words: Sequence[str]) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel("\n".join(map(_plain, words)), fontsize=8)


def _plain(text: str) -> str:
    """A text that matplotlib shows as it is: a dollar sign begins no formula."""
    return text.replace("$", r"\$")
