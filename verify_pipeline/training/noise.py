"""Weights with noise while a gradient is taken: smoothing of the loss over the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from verify_pipeline.training.initialise import weight_layers


@contextmanager
def noisy_weights(module: nn.Module, scale: float, seed: tuple[int, ...]) -> Iterator[None]:
    """Add ``N(0, (scale · std W)²)`` to every weight W; afterwards the weights are as before.

    A step with the gradient that was taken meanwhile is ``w - η ∇L(w + noise)``, arXiv:2311.00521
    as CTBench describes it (Mao et al. 2024, arXiv:2406.04848). ``std W`` is that of the weights of
    one convolution or linear layer; biases and batch normalisation get no noise.

    Args:
        module: whose weights change.
        scale: >= 0; 0 for no noise.
        seed: numbers that decide the noise on one kind of device, such as those of a training and
            of a step.
    """
    if not scale:
        yield
        return
    layers = list(weight_layers(module))
    exact = [layer.weight.detach().clone() for layer in layers]
    generator = torch.Generator(exact[0].device).manual_seed(_seed(seed))
    with torch.no_grad():
        for layer, weight in zip(layers, exact, strict=True):
            noise = torch.empty_like(weight).normal_(generator=generator)
            deviation = weight.std(correction=min(1, weight.numel() - 1))  # of one weight: 0
            layer.weight.add_(noise * (scale * deviation))
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, weight in zip(layers, exact, strict=True):
                layer.weight.copy_(weight)


def _seed(numbers: tuple[int, ...]) -> int:
    """A seed in which neighbouring numbers are far apart."""
    digest = hashlib.sha256(" ".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
