"""Images of other libraries' data sets: torch's ``Dataset``, and Hugging Face's.

Neither library is imported: items are pairs or mappings, images are tensors, arrays, or whatever
numpy takes for an array, such as an image of PIL.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from verify_pipeline.data.sets import ImageSet
from verify_pipeline.errors import DataError

IMAGE_COLUMNS = ("image", "img", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "target")
"""Names of columns that are looked for, in this order."""

_EXACT = {"1": "L", "P": "RGB"}
"""Modes of PIL's images that convert to another without loss."""


def images_of_dataset(
    dataset: Iterable[Any],
    *,
    name: str,
    split: str = "train",
    classes: int | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> ImageSet:
    """All images of a data set of torch or Hugging Face, in its order, whole in memory.

    Args:
        dataset: of ``(image, label)`` pairs, as torchvision's, or of mappings with a column of
            images and one of labels. An image is one of PIL, grey or colour; an array of bytes
            ``H x W`` or ``H x W x C``; a tensor ``H x W`` or ``C x H x W``, or an array of floats
            of these shapes, in [0, 1]; or a vector ``D``. All have one shape and type.
        name: for ledgers and tables.
        split: ``train``, ``test``, or another word.
        classes: K; None: as many as class names, or one more than the greatest label.
        image_column: of mappings; None: one of :data:`IMAGE_COLUMNS`.
        label_column: of mappings; None: the one whose feature has names, or one of
            :data:`LABEL_COLUMNS`.

    Returns:
        ``N x C x H x W`` or ``N x D``, uint8 or float32; with class names if the data set's
        ``features`` or ``classes`` have them.

    Raises:
        DataError: there is no image; an item, an image or a label is none of these; images differ
            in shape or type; pixels are outside [0, 1]; a label is out of range.
    """
    where = f"data set {name} ({split})"
    features = getattr(dataset, "features", None)
    features = features if isinstance(features, Mapping) else {}
    named = next((key for key, value in features.items() if _names(value)), None)
    columns = (image_column, label_column or named)
    pixels: list[Tensor] = []
    labels: list[int] = []
    for place, item in enumerate(_items(dataset)):
        at = f"item {place} of {where}"
        image, label = _pair(item, columns, at)
        pixels.append(_pixels(image, at))
        labels.append(_label(label, at))
        _check_like(pixels[0], pixels[-1], at)
    if not pixels:
        raise DataError(where, expected="at least one image", got="none")
    names = _names(features.get(columns[1])) or _classes(dataset)
    count = classes or len(names) or max(*labels, 0) + 1
    given = names if len(names) == count else ()
    return ImageSet(name, split, torch.stack(pixels), torch.tensor(labels), count, given)


def _items(dataset: Any) -> Iterator[Any]:
    """The items by their places; torch's data sets end by their length, not by an exception."""
    try:
        count = len(dataset)
    except TypeError:
        return iter(dataset)
    return (dataset[place] for place in range(count))


def _names(feature: Any) -> tuple[str, ...]:
    """The class names of a Hugging Face ``ClassLabel``; of anything else none."""
    return _texts(getattr(feature, "names", None))


def _classes(dataset: Any) -> tuple[str, ...]:
    """The class names of torchvision's data sets."""
    return _texts(getattr(dataset, "classes", None))


def _texts(value: Any) -> tuple[str, ...]:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(value) if is_list and all(isinstance(each, str) for each in value) else ()


def _pair(item: Any, columns: tuple[str | None, str | None], at: str) -> tuple[Any, Any]:
    """Image and label of an item."""
    if isinstance(item, Mapping):
        known = (IMAGE_COLUMNS, LABEL_COLUMNS)
        image, label = (
            _column(item, chosen, looked_for, at)
            for chosen, looked_for in zip(columns, known, strict=True)
        )
        return image, label
    if isinstance(item, tuple | list) and len(item) == len(columns):
        return item[0], item[1]
    raise DataError(
        at,
        expected="a pair (image, label), or a mapping with these two",
        got=f"{len(item)} parts" if isinstance(item, tuple | list) else type(item).__name__,
    )


def _column(item: Mapping[str, Any], chosen: str | None, known: Sequence[str], at: str) -> Any:
    found = next((key for key in ([chosen] if chosen else known) if key in item), None)
    if found is None:
        raise DataError(
            at,
            expected=f"the column {chosen or ' or '.join(known)}",
            got=", ".join(map(str, item)),
            remedy="Name the columns with image_column and label_column.",
        )
    return item[found]


def _pixels(image: Any, at: str) -> Tensor:
    """``C x H x W`` or ``D``, uint8 or float32."""
    mode = getattr(image, "mode", None)
    if isinstance(mode, str):
        image = _plain(image, mode, at)
    is_tensor = isinstance(image, Tensor)
    try:
        found = image.detach().cpu() if is_tensor else torch.from_numpy(np.array(image))
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            at, expected="an image: PIL, array or tensor", got=type(image).__name__
        ) from None
    if found.dtype != torch.uint8:
        if not found.is_floating_point():
            raise DataError(
                at, expected="an image of uint8, or of floats in [0, 1]", got=str(found.dtype)
            )
        found = found.to(torch.float32)
    if found.dim() not in (1, 2, 3):
        raise DataError(
            at, expected="an image, or a vector of numbers", got=f"shape {tuple(found.shape)}"
        )
    if found.dim() == 2:
        return found.unsqueeze(0)
    channels_last = found.dim() == 3 and not is_tensor and found.dtype == torch.uint8
    found = found.permute(2, 0, 1) if channels_last else found
    if found.dim() == 3 and not _has_channels_first(found):
        raise DataError(
            at,
            expected="H x W x C, as arrays of bytes have it"
            if channels_last
            else "C x H x W, as tensors and arrays of floats have it",
            got=f"shape {tuple(np.shape(image))}",
            remedy="Transpose the image.",
        )
    return found


def _has_channels_first(image: Tensor) -> bool:
    """Whether no other axis of ``C x H x W`` looks like the one of grey or colour channels."""
    channels, *sides = image.shape
    return channels <= 4 or min(sides) not in (1, 3) or max(sides) <= 4


def _plain(image: Any, mode: str, at: str) -> Any:
    """An image of PIL as a grey or a colour one."""
    if mode in _EXACT:
        return image.convert(_EXACT[mode])
    if mode not in ("L", "RGB"):
        raise DataError(
            at,
            expected="a grey (L) or colour (RGB) image of 8 bits",
            got=f"mode {mode}",
            remedy="Convert the images, such as by a transform.",
        )
    return image


def _label(label: Any, at: str) -> int:
    is_bool = isinstance(label, bool) or getattr(label, "dtype", None) in (torch.bool, np.bool_)
    try:
        if not is_bool:
            return operator.index(label)
    except (TypeError, ValueError, RuntimeError):
        pass
    raise DataError(at, expected="a label that is an integer", got=f"{label!r}")


def _check_like(first: Tensor, image: Tensor, at: str) -> None:
    if image.shape != first.shape or image.dtype != first.dtype:
        raise DataError(
            at,
            expected=f"shape {tuple(first.shape)} and {first.dtype}, as the first image",
            got=f"shape {tuple(image.shape)} and {image.dtype}",
            remedy="Resize or convert the images, such as by a transform.",
        )
