"""CROWN bounds against auto_LiRPA's, which shares no code with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from verify_pipeline.bounds import (
    MemoryBudget,
    Multipliers,
    NodeBounds,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    interval_margins,
)
from verify_pipeline.lirpa import AutoLirpaBounder
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    Conv2d,
    LeakyRelu,
    Linear,
    Op,
    Relu,
    Reshape,
)
from verify_pipeline.problem import Box, Specification


def op_of(layer: nn.Module, shape: tuple[int, ...]) -> Op:
    match layer:
        case nn.Conv2d():
            assert layer.bias is not None
            weight, bias = layer.weight.detach(), layer.bias.detach()
            steps: Any = layer.stride, layer.padding, layer.dilation, layer.groups
            return Conv2d(weight, bias, *steps)
        case nn.Linear():
            return Linear(layer.weight.detach(), layer.bias.detach())
        case nn.ReLU():
            return Relu()
        case nn.LeakyReLU():
            return LeakyRelu(layer.negative_slope)
        case nn.Flatten():
            return Reshape((torch.Size(shape).numel(),))
    raise AssertionError(layer)


def chain(b: GraphBuilder, place: int, layers: nn.Sequential) -> int:
    for layer in layers:
        place = b.add(op_of(layer, b.shape(place)), place)
    return place


class Residual(nn.Module):
    """``tail(relu(main(h) + skip(h)))`` of ``h = head(x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU())
        self.main = nn.Sequential(
            nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)
        )
        self.skip = nn.Sequential(nn.Conv2d(4, 4, 1, stride=2))
        self.tail = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(36, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.head(x)
        out: torch.Tensor = self.tail(self.main(h) + self.skip(h))
        return out

    def graph(self) -> Graph:
        b = GraphBuilder((2, 6, 6))
        h = chain(b, 0, self.head)
        both = b.add(Add(), chain(b, h, self.main), chain(b, h, self.skip))
        return b.build(chain(b, both, self.tail))


def sequential(input_shape: tuple[int, ...], *layers: nn.Module) -> tuple[nn.Module, Graph]:
    module = nn.Sequential(*layers)
    b = GraphBuilder(input_shape)
    return module, b.build(chain(b, 0, module))


def mlp() -> tuple[nn.Module, Graph]:
    layers = (nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 5))
    return sequential((6,), *layers)


def conv() -> tuple[nn.Module, Graph]:
    return sequential(
        (2, 9, 8),
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(120, 16),
        nn.ReLU(),
        nn.Linear(16, 5),
    )


def leaky() -> tuple[nn.Module, Graph]:
    return sequential(
        (2, 8, 8),
        nn.Conv2d(2, 4, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Linear(256, 12),
        nn.LeakyReLU(0.1),
        nn.Linear(12, 5),
    )


def residual() -> tuple[nn.Module, Graph]:
    module = Residual()
    return module, module.graph()


def activation_inputs(bounder: AutoLirpaBounder) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """What auto_LiRPA bounded each activation's input by, in order."""
    return [
        (node.inputs[0].lower, node.inputs[0].upper)
        for node in bounder._bounded._modules.values()
        if type(node).__name__ in ("BoundRelu", "BoundLeakyRelu")
    ]


@pytest.mark.parametrize("make", [mlp, conv, leaky, residual])
@pytest.mark.parametrize("epsilon", [0.02, 0.2])
def test_crown_equals_lirpas(make: Callable[[], tuple[nn.Module, Graph]], epsilon: float) -> None:
    torch.manual_seed(7)
    module, graph = make()
    images = torch.rand(4, *graph.input_shape)
    torch.testing.assert_close(graph(images), module(images).detach(), atol=1e-5, rtol=1e-5)
    box = Box.around(images, epsilon)
    spec = Specification.margins(torch.tensor([0, 1, 4, 2]), 5)
    bounder = AutoLirpaBounder(module, graph.input_shape)
    with torch.no_grad():
        ibp = bounder.ibp(box, spec.rows)
        lower = bounder.crown(box, spec.rows)
    torch.testing.assert_close(interval_margins(graph, box, spec), ibp, atol=1e-4, rtol=1e-4)

    start = interval_bounds(graph, box)
    own = crown_intermediate(graph, box, start, MemoryBudget(bytes=1 << 22))
    theirs = NodeBounds(dict(start.lower), dict(start.upper))
    multipliers = Multipliers({}, {})
    activations = [p for p, n in enumerate(graph.nodes) if isinstance(n.op, (Relu, LeakyRelu))]
    for activation, (low, high) in zip(activations, activation_inputs(bounder), strict=True):
        op, (place,) = graph.nodes[activation].op, graph.nodes[activation].inputs
        theirs.lower[place], theirs.upper[place] = low.detach(), high.detach()
        if isinstance(op, LeakyRelu):
            # release 0.3 takes slope 1 where the chord's slope is above 1/2, not for upper > -lower
            chord = (high - op.slope * low) / (high - low)
            multipliers.alpha[activation] = (chord > 0.5).float().unsqueeze(1)
        else:
            # ours are met with intervals besides
            unstable = (low < 0) & (high > 0)
            assert (own.lower[place] >= low - 1e-4)[unstable].all()
            assert (own.upper[place] <= high + 1e-4)[unstable].all()
    found = crown_margins(graph, box, spec, theirs, multipliers).lower
    torch.testing.assert_close(found, lower, atol=1e-4, rtol=1e-4)
