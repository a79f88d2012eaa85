"""The contract of the zoo's builders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class LayerPlan:
    """The parameters of a builder.

    Attributes:
        input_shape: ``C x H x W``, or ``(D,)`` of vectors.
        classes: K.
        mean: mean of the pixels, one per channel.
        std: standard deviation of the pixels, one per channel.
        width: factor of the numbers of channels and hidden neurons.
        batch_norm: with or without batch normalisation; None: the network's default.
    """

    input_shape: tuple[int, ...]
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    width: float = 1.0
    batch_norm: bool | None = None


Builder = Callable[[LayerPlan], nn.Module]
