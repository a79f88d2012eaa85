"""What a training does to batch normalisation beyond the forward passes."""

from __future__ import annotations

import torch
from torch import nn

from verify_pipeline.data import ImageSet

BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether any layer is batch normalisation."""
    return any(isinstance(layer, BATCH_NORM) for layer in module.modules())


def set_momentum(module: nn.Module, momentum: float | None) -> None:
    """How much of a batch's statistics the running ones take; None: their plain average."""
    for layer in module.modules():
        if isinstance(layer, BATCH_NORM):
            layer.momentum = momentum


def recompute_statistics(module: nn.Module, images: ImageSet, batch: int) -> None:
    """Set running statistics to their average over all the images, unaugmented ("precise BN").

    Wu and Johnson 2021 (arXiv:2105.07576), section 3. Afterwards momentum and mode are as before.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BATCH_NORM)]
    momenta = [layer.momentum for layer in layers]
    training = module.training
    set_momentum(module, None)
    for layer in layers:
        layer.reset_running_stats()
    module.train()
    with torch.no_grad():
        for start in range(0, len(images) - 1, batch):
            part = slice(start, min(start + batch, len(images)))
            module(images.pixels(part))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    module.train(training)
