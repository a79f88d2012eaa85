"""Batch normalisation with statistics that a training chooses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d

Statistics = dict[str, tuple[Tensor, Tensor]]
"""By the layer's name in the module: mean and biased variance of each channel, ``C`` each."""


def batch_norms(module: nn.Module) -> dict[str, BatchNorm]:
    """The layers of batch normalisation, by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, BATCH_NORM)}


@contextmanager
def recorded(module: nn.Module) -> Iterator[Statistics]:
    """Fills in, with their gradients, the statistics of the batch that passes meanwhile."""
    found: Statistics = {}

    def recorder(name: str) -> Any:
        def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name] = _statistics(inputs[0])

        return record

    with ExitStack() as hooks:
        for name, layer in batch_norms(module).items():
            handle = layer.register_forward_pre_hook(recorder(name))
            hooks.callback(handle.remove)
        yield found


@contextmanager
def held(module: nn.Module, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Normalises with these statistics, whatever passes; in eval mode, so that none moves."""

    def holder(mean: Tensor, variance: Tensor) -> Any:
        def hold(layer: BatchNorm, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
            return _normalised(layer, inputs[0], mean, variance)

        return hold

    training = module.training
    module.eval()
    try:
        with ExitStack() as hooks:
            for name, layer in batch_norms(module).items():
                handle = layer.register_forward_hook(holder(*statistics[name]))
                hooks.callback(handle.remove)
            yield
    finally:
        module.train(training)


def recompute_statistics(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set running statistics to the plain average of the batches' ("precise BN").

    Wu and Johnson 2021 (arXiv:2105.07576), section 3. Afterwards momentum and mode are as before.

    Args:
        module: the network.
        batches: of pixels ``N x C x H x W``, N at least 2, as they come in training.
    """
    layers = list(batch_norms(module).values())
    momenta = [layer.momentum for layer in layers]
    training = module.training
    for layer in layers:
        layer.momentum = None  # torch's word for the plain average
        layer.reset_running_stats()
    module.train()
    with torch.no_grad():
        for batch in batches:
            module(batch)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    module.train(training)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of ``N x C x …``."""
    variance, mean = torch.var_mean(x, [axis for axis in range(x.dim()) if axis != 1], correction=0)
    return mean, variance


def _normalised(layer: BatchNorm, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """What the layer makes of ``N x C x …`` with these statistics; gradients go through them."""
    scale = layer.weight / (variance + layer.eps).sqrt()
    shape = (1, -1, *[1] * (x.dim() - 2))
    return x * scale.view(shape) + (layer.bias - mean * scale).view(shape)
