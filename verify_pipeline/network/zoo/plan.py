"""What every network of the zoo is built from: the contract of its builders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class LayerPlan:
    """What a builder needs to know.

    Attributes:
        input_shape: ``C x H x W``.
        classes: K.
        mean: of the pixels, one per channel.
        std: of the pixels, one per channel.
        width: multiplies channels and hidden neurons.
        batch_norm: with or without batch normalisation; None: as the network's definition says.
    """

    input_shape: tuple[int, ...]
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    width: float = 1.0
    batch_norm: bool | None = None


Builder = Callable[[LayerPlan], nn.Module]
