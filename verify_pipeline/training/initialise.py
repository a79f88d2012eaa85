"""IBP initialisation: Shi et al. 2021 (arXiv:2103.17268), section 3.2."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def weight_layers(module: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """The convolution and linear layers, in the order in which they were defined."""
    return [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def ibp_init(module: nn.Module) -> None:
    """Draw the weights of all convolution and linear layers but the last from N(0, σ²).

    ``σ = sqrt(2π) / fan_in``, with which the widths of IBP's intervals neither grow nor vanish
    from layer to layer. Biases and the last layer keep torch's initialisation.
    """
    for layer in weight_layers(module)[:-1]:
        fan_in = layer.weight[0].numel()
        with torch.no_grad():
            layer.weight.normal_(0.0, math.sqrt(2 * math.pi) / fan_in)


def l1_norm(module: nn.Module) -> Tensor:
    """``Σ|W|`` over convolution and linear weights, a differentiable scalar."""
    norms = [torch.linalg.vector_norm(layer.weight, 1) for layer in weight_layers(module)]
    return torch.stack(norms).sum()
