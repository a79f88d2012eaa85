"""IBP initialisation: Shi et al. 2021 (arXiv:2103.17268), section 3.2."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn


def weight_layers(module: nn.Module) -> list[nn.Conv2d | nn.Linear]:
    """The convolution and linear layers, in the order in which they were defined."""
    return [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def ibp_init(module: nn.Module) -> None:
    """Draw the weights of all convolution and linear layers but the last from N(0, σ²).

    ``σ = gain · sqrt(2π) / fan_in``, with which the widths of IBP's intervals neither grow nor
    vanish from layer to layer: :func:`width_gains`. Biases and the last layer keep torch's
    initialisation. So do layers that read no interval (unused ones, those of constants), frozen
    weights, and weights that are computed from others (weight normalisation).
    """
    gains = width_gains(module)
    last = next(reversed(gains), None)
    for layer in weight_layers(module):
        if layer is last or layer not in gains or not _is_drawn(layer.weight):
            continue
        fan_in = layer.weight[0].numel()
        with torch.no_grad():
            layer.weight.normal_(0.0, gains[layer] * math.sqrt(2 * math.pi) / fan_in)


def _is_drawn(weight: Tensor) -> bool:
    """Whether a weight is trained, and is no function of other parameters."""
    return isinstance(weight, nn.Parameter) and weight.requires_grad


def width_gains(module: nn.Module) -> dict[nn.Conv2d | nn.Linear, float]:
    """The gain of each layer, by what it reads.

    A layer with gain 1 doubles the mean width. The ReLU before it halves it, so 1 is right behind a
    ReLU, and 1/2 without one (the first layer has 1, as in the paper). An addition of two branches
    doubles widths; what reads it gets half, as in the authors' code. In a transformer, queries read
    a sum without a ReLU: 1/4. If torch cannot trace the module, all layers have gain 1.

    Returns:
        Gains by layer, in the order in which layers are called; layers without one are not called,
        or read constants only.
    """
    try:
        traced = fx.symbolic_trace(module)
    except Exception:  # whatever a forward pass does with the proxies of a trace
        return dict.fromkeys(weight_layers(module), 1.0)
    parts = dict(traced.named_modules())
    gains: dict[nn.Conv2d | nn.Linear, float] = {}
    for node in traced.graph.nodes:
        layer = parts.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(layer, nn.Conv2d | nn.Linear) and _read_by(node):
            gain = min(gains.pop(layer, 1.0), _gain(node, parts))  # it may be called twice
            gains[layer] = gain
    return gains


def _gain(layer: fx.Node, parts: Mapping[str, nn.Module]) -> float:
    """The gain of one layer: back from it to the layer, sum or input that it reads."""
    has_relu = False
    (node,) = _read_by(layer)
    while node.op != "placeholder":
        part = parts.get(str(node.target)) if node.op == "call_module" else None
        has_relu = has_relu or isinstance(part, nn.ReLU) or node.target in _RELUS
        read = _read_by(node)
        is_sum = node.target in _SUMS and len(read) == 2
        if is_sum or len(read) != 1 or isinstance(part, nn.Conv2d | nn.Linear):
            return (0.5 if is_sum else 1.0) * (1.0 if has_relu else 0.5)
        (node,) = read
    return 1.0


_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_RELUS = (torch.relu, nn.functional.relu, "relu")


def _read_by(node: fx.Node) -> list[fx.Node]:
    """The arguments of an operation that depend on the network's input: no constants."""
    return [each for each in node.all_input_nodes if each.op != "get_attr"]


def l1_norm(module: nn.Module) -> Tensor:
    """``Σ|W|`` over convolution and linear weights, a differentiable scalar."""
    norms = [torch.linalg.vector_norm(layer.weight, 1) for layer in weight_layers(module)]
    return torch.stack(norms).sum()
