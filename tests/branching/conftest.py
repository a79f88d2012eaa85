"""Small random networks and instances whose exact answer an integer program can find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tests.branching.milp import milp_margin
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, AvgPool2d, Conv2d, LeakyRelu, Linear, Relu, Reshape
from verify_pipeline.problem import Box, Specification

pytest.register_assert_rewrite("tests.branching.searching")

F64 = torch.float64
CLASSES = 3


@dataclass(frozen=True, eq=False)
class Case:
    """Instances of one network with their exact least margins.

    Attributes:
        graph: float32.
        box: ``N x *X`` float32.
        spec: ``N x S x K`` float32.
        exact: ``N``, the least margin over box and rows.
    """

    graph: Graph
    box: Box
    spec: Specification
    exact: Tensor


def mlp(seed: int, inputs: int = 4, hidden: tuple[int, ...] = (8, 8)) -> Graph:
    generator = torch.Generator().manual_seed(seed)
    builder = GraphBuilder((inputs,))
    place, width = 0, inputs
    for size in (*hidden, CLASSES):
        weight = torch.randn(size, width, generator=generator) * (2 / width) ** 0.5
        place = builder.add(Linear(weight, 0.3 * torch.randn(size, generator=generator)), place)
        width = size
        if size != CLASSES:
            place = builder.add(Relu(), place)
    return builder.build()


def convolutional(seed: int) -> Graph:
    """Convolutions with stride and padding, a residual sum, leaky ReLU, average pooling."""
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    builder = GraphBuilder((1, 4, 4))
    first = builder.add(Conv2d(randn(2, 1, 3, 3) / 3, randn(2) / 3, (2, 2), (1, 1)), 0)
    active = builder.add(Relu(), first)
    inner = builder.add(Conv2d(randn(2, 2, 3, 3) / 3, randn(2) / 3, padding=(1, 1)), active)
    joined = builder.add(LeakyRelu(0.1), builder.add(Add(), inner, first))
    pooled = builder.add(AvgPool2d((2, 2), (1, 1), (1, 1)), joined)
    flat = builder.add(Reshape((18,)), pooled)
    hidden = builder.add(Relu(), builder.add(Linear(randn(4, 18) / 2, randn(4) / 3), flat))
    builder.add(Linear(randn(CLASSES, 4), randn(CLASSES) / 3), hidden)
    return builder.build()


def solved(graph: Graph, count: int, seed: int, nudge: tuple[float, ...]) -> Case:
    """Instances of many sizes whose least margins lie on both sides of 0, some very close to it.

    Each instance's rows are shifted so that its exact least margin becomes ``nudge`` times its
    own distance to zero: 1 leaves it, 0.01 brings it a hundred times nearer, -0.01 to the other
    side.
    """
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, *graph.input_shape, generator=generator)
    epsilon = torch.logspace(-2, -0.3, count)[torch.randperm(count, generator=generator)]
    box = Box.around(images, epsilon.view(-1, *[1] * len(graph.input_shape)))
    labels = graph(images).argmax(1)
    spec = Specification.margins(labels, CLASSES)
    graph64, box64, spec64 = graph.to(F64), box.to(F64), spec.to(F64)
    least = torch.stack([milp_margin(graph64, box64, spec64, n).value.min() for n in range(count)])
    factors = torch.tensor([nudge[n % len(nudge)] for n in range(count)], dtype=F64)
    shift = ((factors - 1) * least).float()
    shifted = Specification(spec.rows, spec.offsets + shift.unsqueeze(1))
    return Case(graph, box, shifted, least + shift.double())


@pytest.fixture(scope="session")
def make_case() -> Callable[[Graph, int, int, tuple[float, ...]], Case]:
    return solved


@pytest.fixture(scope="session")
def make_mlp() -> Callable[..., Graph]:
    return mlp


@pytest.fixture(scope="session")
def make_conv() -> Callable[[int], Graph]:
    return convolutional
