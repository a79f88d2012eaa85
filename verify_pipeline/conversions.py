"""What callers may give in place of the package's own objects: paths, modules, arrays, numbers.

Every function here returns the object, or raises an error that says what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from verify_pipeline import onnx
from verify_pipeline.certify.settings import CertifySettings
from verify_pipeline.config import Recipe, checked
from verify_pipeline.data import ImageSet
from verify_pipeline.errors import ConfigError, DataError, NetworkError
from verify_pipeline.onnx import Network
from verify_pipeline.problem import Box, Specification
from verify_pipeline.training import TrainSettings

NetworkLike = Network | nn.Module | Path | str
"""A network that was read, a torch module, or the path of an ONNX file."""

ArrayLike = Tensor | np.ndarray | Sequence[Any]
"""Whatever ``torch.as_tensor`` takes."""

BATCHED = (2, 4)
"""Axes of flat inputs ``N x D`` and of images ``N x C x H x W``, batch axis included."""


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; ``auto``: CUDA if there is one, else the CPU.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    expected = "auto, cpu, or a CUDA device that torch sees"
    try:
        device = torch.device(name)
    except RuntimeError:  # its message lists twenty kinds of device that this package does not use
        raise ConfigError(f"device {name!r}", expected=expected, got="no such device") from None
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        got = str(error).splitlines()[0]
        raise ConfigError(f"device {name!r}", expected=expected, got=got) from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r}", expected=expected, got=f"a {device.type} device")
    return device


def network_of(network: NetworkLike, input_shape: tuple[int, ...]) -> Network:
    """A network from its file or from a torch module.

    Args:
        network: see :data:`NetworkLike`.
        input_shape: ``*X``, for a module, whose own input shape nothing says.

    Raises:
        NetworkError: it is none, or cannot be used: see ``load_network``, ``network_from_module``.
    """
    match network:
        case Network():
            return network
        case nn.Module():
            return onnx.network_from_module(network, input_shape)
        case Path() | str():
            return onnx.load_network(network)
    raise NetworkError(
        "network",
        expected="a Network, a torch module, or the path of an ONNX file",
        got=type(network).__name__,
    )


def tensor_of(value: ArrayLike | float, name: str) -> Tensor:
    """A tensor on the CPU, without gradient.

    Args:
        value: numbers.
        name: how errors call it.

    Raises:
        DataError: it holds something else than numbers.
    """
    try:
        return torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            name, expected="a tensor, or an array of numbers", got=type(value).__name__
        ) from None


def boxes_of(boxes: Box | tuple[ArrayLike, ArrayLike]) -> Box:
    """Boxes in float64, on the CPU.

    Args:
        boxes: or their lower and upper limits, ``N x *X`` each.

    Raises:
        DataError: they are none, there is none, limits are not finite or an interval is empty.
    """
    if not isinstance(boxes, Box):
        if not isinstance(boxes, tuple | list) or len(boxes) != len(("lower", "upper")):
            raise DataError(
                "boxes", expected="a Box, or a pair (lower, upper)", got=type(boxes).__name__
            )
        lower, upper = (tensor_of(limit, "boxes").double() for limit in boxes)
        boxes = Box(lower, upper)
    if boxes.lower.dim() < 2 or len(boxes) == 0:
        raise DataError(
            "boxes",
            expected="limits N x ..., of at least one box",
            got=f"shape {tuple(boxes.lower.shape)}",
            remedy="A single box needs a batch axis: lower.unsqueeze(0).",
        )
    return Box(boxes.lower.detach().cpu().double(), boxes.upper.detach().cpu().double())


def rows_of(rows: Specification | ArrayLike | None, count: int, outputs: int) -> Specification:
    """Rows for each box, or the same for all, in float64, on the CPU.

    Args:
        rows: a specification of each box, or of all; or matrices C alone, ``N x S x K``, or
            ``S x K`` for all boxes; None: the outputs themselves, ``S = K``.
        count: N.
        outputs: K, of the network.

    Returns:
        ``N`` specifications, or one for all boxes.

    Raises:
        DataError: shapes do not fit, or a coefficient is not finite.
    """
    if isinstance(rows, Specification):
        matrix, offsets = rows.rows, rows.offsets
    else:
        matrix = torch.eye(outputs) if rows is None else tensor_of(rows, "rows C")
        matrix = matrix.unsqueeze(0) if matrix.dim() == 2 else matrix
        offsets = matrix.new_zeros(matrix.shape[:-1])
    axes = 3
    if (
        matrix.dim() != axes
        or matrix.shape[0] not in (1, count)
        or matrix.shape[1] == 0
        or matrix.shape[2] != outputs
    ):
        raise DataError(
            "rows C",
            expected=f"S x {outputs}, or {count} x S x {outputs}, for {count} boxes and "
            f"{outputs} outputs, with S > 0",
            got=str(tuple(matrix.shape)),
        )
    return Specification(matrix.detach().cpu().double(), offsets.detach().cpu().double())


def images_of(images: ArrayLike, labels: ArrayLike, classes: int) -> ImageSet:
    """Images with their labels.

    Args:
        images: ``N x C x H x W`` or ``N x D``: bytes 0..255, or floats in [0, 1].
        labels: ``N`` integers in ``[0, classes)``.
        classes: K, of the network.

    Raises:
        DataError: shapes or types do not fit, a pixel is outside [0, 1], a label is none.
    """
    pixels, targets = tensor_of(images, "images"), tensor_of(labels, "labels")
    if pixels.dim() and len(pixels) == 0:
        raise DataError("images", expected="at least one", got="none")
    if pixels.is_floating_point() and pixels.dtype != torch.float64:
        pixels = pixels.float()
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise DataError("labels", expected="integers", got=str(targets.dtype))
    return ImageSet("images", "given", pixels, targets.long(), classes)


def single_of(image: ArrayLike) -> Tensor:
    """One image with a batch axis, ``1 x C x H x W`` or ``1 x D``.

    Args:
        image: ``C x H x W`` or ``D``, with a batch axis of 1 or without one.

    Raises:
        DataError: there are several.
    """
    pixels = tensor_of(image, "image")
    batched = pixels.dim() in BATCHED
    if batched and len(pixels) == 1:
        return pixels
    if pixels.dim() == max(BATCHED):
        raise DataError(
            "image",
            expected="one image, C x H x W",
            got=f"{len(pixels)} of them, shape {tuple(pixels.shape)}",
            remedy="Use verify_batch for several.",
        )
    return pixels.unsqueeze(0)


def settings_of(settings: CertifySettings | float, **changes: Any) -> CertifySettings:
    """All settings of a certification.

    Args:
        settings: all of them, or ε alone.
        changes: fields that replace those of the settings; None: as the settings say.

    Raises:
        ConfigError: a value is not as it must be; all mistakes are listed.
    """
    kept = {name: value for name, value in changes.items() if value is not None}
    if not isinstance(settings, CertifySettings):
        return checked(CertifySettings, {"epsilon": settings, **kept}, "settings")
    if not kept:
        return settings
    given = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return checked(CertifySettings, {**given, **kept}, "settings")


def training_of(
    settings: TrainSettings | Recipe | Mapping[str, Any], images: ImageSet | None = None
) -> TrainSettings:
    """All settings of a training.

    Args:
        settings: of it; a recipe that has them; or a mapping like a recipe's ``train``.
        images: that are trained on, if they are given; a mapping then needs no name of a data set.

    Raises:
        ConfigError: a value is not as it must be; all mistakes are listed.
    """
    match settings:
        case TrainSettings():
            return settings
        case Recipe():
            return settings.train
    given = dict(settings)
    if images is not None:
        given.setdefault("data", {"name": images.name})
    return checked(TrainSettings, given, "settings")


def check_given(images: ImageSet | None, module: nn.Module | None) -> None:
    """Refuse what is given to a training in place of images or of a network.

    Raises:
        DataError: the images are none.
        NetworkError: the module is none.
    """
    if not isinstance(images, ImageSet | None):
        raise DataError(
            "images",
            expected="an ImageSet",
            got=f"a {type(images).__name__}",
            remedy="api.images_of_dataset makes one of a Dataset, and api.ImageSet(name, split, "
            "images, labels, classes) of tensors.",
        )
    if not isinstance(module, nn.Module | None):
        raise NetworkError(
            "module",
            expected="a torch module (torch.nn.Module)",
            got=f"a {type(module).__name__}",
            remedy="A file that makes one is named by the settings' network.file.",
        )
