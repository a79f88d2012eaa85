"""Batch normalisation with statistics that a training chooses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from verify_pipeline.process_group import ALONE, ProcessGroup

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d

Statistics = dict[str, tuple[Tensor, Tensor]]
"""By the layer's name in the module: mean and biased variance of each channel, ``C`` each."""


def batch_norms(module: nn.Module) -> dict[str, BatchNorm]:
    """The layers of batch normalisation, by name."""
    return {name: m for name, m in module.named_modules() if isinstance(m, BATCH_NORM)}


@contextmanager
def recorded(module: nn.Module, group: ProcessGroup = ALONE) -> Iterator[Statistics]:
    """Fills in, with their gradients, the statistics of the batch that passes meanwhile.

    With several processes, they are the statistics of the whole batch, which then normalise it and
    move the running ones: torch's own layers would take those of this process's part.
    """
    found: Statistics = {}

    def recorder(name: str) -> Any:
        def record(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[name] = _statistics(inputs[0])

        return record

    def synchroniser(name: str) -> Any:
        def synchronise(layer: BatchNorm, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
            found[name] = mean, variance = _whole_statistics(inputs[0], group)
            _move_running(layer, mean, variance, _values_a_channel(inputs[0], group))
            return _normalised(layer, inputs[0], mean, variance)

        return synchronise

    with ExitStack() as hooks:
        for name, layer in batch_norms(module).items():
            if group.size == 1:
                handle = layer.register_forward_pre_hook(recorder(name))
            else:
                hooks.enter_context(_without_statistics(layer))
                handle = layer.register_forward_hook(synchroniser(name))
            hooks.callback(handle.remove)
        yield found


@contextmanager
def _without_statistics(layer: BatchNorm) -> Iterator[None]:
    """In eval mode, so that the layer's own pass moves nothing."""
    training = layer.training
    layer.eval()
    try:
        yield
    finally:
        layer.train(training)


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


@contextmanager
def observed(module: nn.Module) -> Iterator[Statistics]:
    """Normalises with the statistics of the batch that passes, and fills them in, with gradients.

    Neither the running statistics nor the module's mode change.
    """
    found: Statistics = {}

    def observer(name: str) -> Any:
        def observe(layer: BatchNorm, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
            found[name] = mean, variance = _statistics(inputs[0])
            return _normalised(layer, inputs[0], mean, variance)

        return observe

    with ExitStack() as hooks:
        for name, layer in batch_norms(module).items():
            hooks.enter_context(_without_statistics(layer))
            handle = layer.register_forward_hook(observer(name))
            hooks.callback(handle.remove)
        yield found


def recompute_statistics(
    module: nn.Module, batches: Iterable[Tensor], group: ProcessGroup = ALONE
) -> None:
    """Set running statistics to the plain average of the batches' ("precise BN").

    Wu and Johnson 2021 (arXiv:2105.07576), section 3. Afterwards momentum and mode are as before.

    Args:
        module: the network.
        batches: of pixels ``N x C x H x W``, N at least 2, as they come in training; whole ones,
            also where several processes train.
        group: of processes; each passes its part of each batch.
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
            with recorded(module, group):
                module(batch[group.part(len(batch))])
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    module.train(training)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of ``N x C x …``."""
    variance, mean = torch.var_mean(x, [axis for axis in range(x.dim()) if axis != 1], correction=0)
    return mean, variance


def _values_a_channel(x: Tensor, group: ProcessGroup) -> Tensor:
    """How many values of a channel ``N x C x …`` all processes have together, a scalar."""
    return group.total(x.new_tensor(x.numel() // x.shape[1]))


def _whole_statistics(x: Tensor, group: ProcessGroup) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel over the parts of all processes."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    count = _values_a_channel(x, group)
    mean = group.total(x.sum(axes)) / count
    shape = (1, -1, *[1] * (x.dim() - 2))
    return mean, group.total((x - mean.view(shape)).square().sum(axes)) / count


@torch.no_grad()
def _move_running(layer: BatchNorm, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """Move the running statistics as torch's layer does, which has the unbiased variance there."""
    if layer.running_mean is None or layer.running_var is None:
        return
    if layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
    seen = 1 if layer.num_batches_tracked is None else int(layer.num_batches_tracked)
    weight = 1 / seen if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean, weight)
    layer.running_var.lerp_(variance * (count / (count - 1)), weight)


def _normalised(layer: BatchNorm, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """What the layer makes of ``N x C x …`` with these statistics; gradients go through them."""
    deviation, shape = (variance + layer.eps).sqrt(), (1, -1, *[1] * (x.dim() - 2))
    if not layer.affine:
        return (x - mean.view(shape)) / deviation.view(shape)
    scale = layer.weight / deviation
    return x * scale.view(shape) + (layer.bias - mean * scale).view(shape)
