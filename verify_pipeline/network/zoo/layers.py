"""Layers from which the zoo's networks are built."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """``(x - mean) / std`` per channel, as the first layer, so that inputs are pixels in [0, 1].

    Args:
        mean: mean of the pixels, one per channel or one for all.
        std: standard deviation of the pixels, likewise, > 0.
        axes: of one input: 3 of images ``C x H x W``, 1 of vectors ``D``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], axes: int = 3) -> None:
        super().__init__()
        shape = (1, -1, *[1] * (axes - 1))
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(shape))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise pixels ``N x C x H x W`` or ``N x D`` in [0, 1]."""
        return (x - self.mean) / self.std


def convolution(
    channels: tuple[int, int], kernel: int, stride: int, padding: int, batch_norm: bool
) -> list[nn.Module]:
    """Conv (from, to) [+ BatchNorm2d] + ReLU. The convolution has a bias in both cases."""
    layers: list[nn.Module] = [nn.Conv2d(*channels, kernel, stride, padding)]
    if batch_norm:
        layers.append(nn.BatchNorm2d(channels[1]))
    return [*layers, nn.ReLU()]


def dense(features: tuple[int, int], batch_norm: bool) -> list[nn.Module]:
    """Linear (from, to) [+ BatchNorm1d] + ReLU."""
    layers: list[nn.Module] = [nn.Linear(*features)]
    if batch_norm:
        layers.append(nn.BatchNorm1d(features[1]))
    return [*layers, nn.ReLU()]


def scaled(number: int, width: float) -> int:
    """``number`` times ``width``, rounded to an integer, at least 1."""
    return max(1, round(number * width))


def with_head(
    features: list[nn.Module],
    input_shape: tuple[int, ...],
    hidden: Sequence[int],
    classes: int,
    batch_norm: bool,
) -> nn.Sequential:
    """``features`` + Flatten + dense layers of ``hidden`` neurons + Linear to ``classes``."""
    with torch.no_grad():
        body = nn.Sequential(*features).eval()
        flat = int(body(torch.zeros(1, *input_shape)).numel())
    layers = [*features, nn.Flatten()]
    for neurons in hidden:
        layers.extend(dense((flat, neurons), batch_norm))
        flat = neurons
    return nn.Sequential(*layers, nn.Linear(flat, classes)).train()
