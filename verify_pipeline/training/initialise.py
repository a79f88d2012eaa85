"""IBP initialisation: Shi et al. 2021 (arXiv:2103.17268), section 3.2."""

from __future__ import annotations

import math
import operator

import torch
from torch import Tensor, fx, nn


def weight_layers(module: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """The convolution and linear layers, in the order in which they were defined."""
    return [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def ibp_init(module: nn.Module) -> None:
    """Draw the weights of all convolution and linear layers but the last from N(0, σ²).

    ``σ = sqrt(2π) / fan_in``, with which the widths of IBP's intervals neither grow nor vanish
    from layer to layer. An addition of two branches doubles them: layers that read such a sum get
    half of that σ, as in the authors' code. Biases and the last layer keep torch's initialisation.
    """
    behind_sums = set(layers_behind_sums(module))
    for layer in weight_layers(module)[:-1]:
        gain = 0.5 if layer in behind_sums else 1.0
        fan_in = layer.weight[0].numel()
        with torch.no_grad():
            layer.weight.normal_(0.0, gain * math.sqrt(2 * math.pi) / fan_in)


def layers_behind_sums(module: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """The layers that read a sum of two branches, directly or through ReLUs and flattening."""
    traced = fx.symbolic_trace(module)
    parts = dict(traced.named_modules())
    found = []
    reached = [n for n in traced.graph.nodes if n.target in _SUMS and _branches(n) == 2]
    for node in reached:  # grows
        for user in node.users:
            layer = parts[str(user.target)] if user.op == "call_module" else None
            if isinstance(layer, nn.Conv2d | nn.Linear):
                found.append(layer)
            elif isinstance(layer, nn.ReLU | nn.Flatten):
                reached.append(user)
    return found


_SUMS = (operator.add, operator.iadd, torch.add)


def _branches(node: fx.Node) -> int:
    """How many arguments of an addition depend on the network's input: not constants."""
    return sum(isinstance(each, fx.Node) and each.op != "get_attr" for each in node.args)


def l1_norm(module: nn.Module) -> Tensor:
    """``Σ|W|`` over convolution and linear weights, a differentiable scalar."""
    norms = [torch.linalg.vector_norm(layer.weight, 1) for layer in weight_layers(module)]
    return torch.stack(norms).sum()
