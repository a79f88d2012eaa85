"""Bounds through receptive fields hold in exact arithmetic, whatever the weights' sizes.

The exact network is not the stored one: its constants differ by as much as their error allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.exact_graph import exact_values, holds
from verify_pipeline.bounds import (
    MemoryBudget,
    OptimiseSettings,
    crown_intermediate,
    interval_bounds,
    optimise_intermediate,
)
from verify_pipeline.bounds.intermediate import receptive_field
from verify_pipeline.network.affine_error import AffineError
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    LeakyRelu,
    Linear,
    Op,
    Relu,
    Reshape,
    Scale,
    Slice,
    Sub,
    size,
)
from verify_pipeline.problem import Box

F64 = torch.float64
BUDGET = MemoryBudget(bytes=1 << 26)
SHAPE = (1, 7, 6)


@pytest.fixture(autouse=True)
def always_worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut out every receptive field, however large its share of these small networks is."""
    monkeypatch.setattr(receptive_field, "_WORTHWHILE", 1e9)


class Writer:
    """Writes a network twice: as stored, and as an exact one whose constants differ.

    Args:
        seed: of the weights.
        scale: their size.
        error: how much each constant differs at most, relative to ``scale``.
    """

    def __init__(self, seed: int, scale: float, error: float) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.scale, self.error = scale, error
        self.stored = GraphBuilder(SHAPE, dtype=F64)
        self.exact = GraphBuilder(SHAPE, dtype=F64)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random, dtype=F64) * self.scale

    def sign(self, shape: torch.Size) -> Tensor:
        return torch.rand(shape, generator=self.random, dtype=F64).sub(0.5).sign()

    def add(self, op: Op, *inputs: int) -> int:
        self.exact.add(op, *inputs)
        return self.stored.add(op, *inputs)

    def affine(self, op: Conv2d | Linear, source: int) -> int:
        """An operation whose exact constants are at the limits of their error.

        The first layer has none, since errors of later ones would be small beside what follows
        from it.
        """
        assert op.bias is not None
        change = self.error * self.scale if source > 0 else 0.0
        gain = change * op.weight[0].numel() * (1 + 2.0**-20)
        self.stored.add(replace(op, error=AffineError(gain, change)), source)
        weight = op.weight + change * self.sign(op.weight.shape)
        bias = op.bias + change * self.sign(op.bias.shape) * (1 - 2.0**-20)
        return self.exact.add(replace(op, weight=weight, bias=bias), source)

    def conv(
        self, source: int, channels: int, kernel: int = 3, stride: int = 1, padding: int = 1,
        dilation: int = 1, groups: int = 1,
    ) -> int:  # fmt: skip
        inputs = self.stored.shape(source)[0] // groups
        weight, bias = self.normal(channels, inputs, kernel, kernel), self.normal(channels)
        op = Conv2d(weight, bias, (stride,) * 2, (padding,) * 2, (dilation,) * 2, groups=groups)
        return self.affine(op, source)

    def ends(self, source: int) -> tuple[Graph, Graph]:
        """Two layers behind ``source``, so that its neurons' bounds matter."""
        flat = size(self.stored.shape(source))
        x = self.add(Reshape((flat,)), self.add(Relu(), source))
        self.affine(Linear(self.normal(2, flat), self.normal(2)), x)
        return self.stored.build(), self.exact.build()


def chain(w: Writer) -> int:
    first = w.add(Relu(), w.conv(0, 2, stride=2))
    second = w.add(LeakyRelu(0.25), w.conv(first, 2, groups=2))
    return w.conv(second, 2, kernel=2, padding=2, dilation=2)


def branches(w: Writer) -> int:
    x = w.add(Relu(), w.conv(0, 2))
    left, right = w.conv(x, 2, stride=2), w.conv(x, 2, kernel=1, stride=2, padding=0)
    total = w.add(Sub(), w.add(Add(), left, right), right)
    both = w.add(Concat(0), w.add(Relu(), total), left)
    return w.conv(w.add(AvgPool2d((2, 2), (1, 1), (1, 1)), both), 1)


def slices(w: Writer) -> int:
    x = w.add(Relu(), w.conv(w.add(Scale(w.normal(1), w.normal(1)), 0), 2))
    odd = w.add(Slice(2, 1, 6, 2), w.add(Slice(1, 1, 6, 2), x))
    return w.conv(odd, 2, kernel=2)


NETWORKS = {build.__name__: build for build in (chain, branches, slices)}


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e9, 1e12])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_bound_of_a_neuron_exceeds_an_exact_value(name: str, scale: float) -> None:
    build: Callable[[Writer], int] = NETWORKS[name]
    for seed, error, width in ((0, 0.0, 0.3), (1, 0.3, 1e-6)):
        writer = Writer(seed, scale, error)
        stored, exact = writer.ends(build(writer))
        centre = torch.rand(2, *SHAPE, generator=writer.random, dtype=F64) * 2 - 1
        box = Box(centre - width, centre + width)
        start = interval_bounds(stored, box)
        steps = OptimiseSettings(iterations=2)
        found = (
            crown_intermediate(stored, box, start, BUDGET),
            optimise_intermediate(stored, box, start, steps, BUDGET),
        )
        shares = torch.rand(box.lower.shape, generator=writer.random, dtype=F64)
        corners = torch.where(shares > 0.5, box.lower, box.upper)
        for n, point in enumerate(corners):
            values = exact_values(exact, point)
            for bounds, place in ((b, place) for b in found for place in b.lower):
                value = values[place].flatten().tolist()
                assert holds(bounds.lower[place][n], value), place
                assert holds(-bounds.upper[place][n], [-number for number in value]), place


def test_a_mask_has_sizes_of_its_own_in_windows() -> None:
    torch.manual_seed(0)
    builder = GraphBuilder((1, 8, 8), dtype=F64)
    conv = builder.add(Conv2d(torch.randn(2, 1, 3, 3, dtype=F64), None, padding=(1, 1)), 0)
    shift = torch.tensor([0.5, -1e31], dtype=F64).view(2, 1, 1)
    masked = builder.add(Scale(torch.ones(2, 1, 1, dtype=F64), shift), conv)
    second = Conv2d(torch.randn(1, 2, 3, 3, dtype=F64), None, padding=(1, 1))
    place = builder.add(second, builder.add(Relu(), masked))
    flat = builder.add(Reshape((64,)), builder.add(Relu(), place))
    builder.add(Linear(torch.ones(1, 64, dtype=F64), None), flat)
    graph = builder.build()
    box = Box.around(torch.rand(1, 1, 8, 8, dtype=F64), 0.1)
    start = interval_bounds(graph, box)
    better = crown_intermediate(graph, box, start, BUDGET)
    assert bool((better.upper[place] < start.upper[place]).any())
    values = exact_values(graph, box.upper[0])[place].flatten().tolist()
    assert holds(better.lower[place][0], values)
    assert holds(-better.upper[place][0], [-value for value in values])


def test_errors_of_a_layer_count_in_bounds_of_its_neurons() -> None:
    builder = GraphBuilder((2,), dtype=F64)
    mixes = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=F64)
    first = builder.add(Relu(), builder.add(Linear(mixes, None), 0))
    # y1 + y2 lies in [0, 3] and y1 - y2 in [-2, 2] by CROWN, as stored
    place = builder.add(Linear(mixes, None, error=AffineError(gain=0.5, constant=0.25)), first)
    builder.add(Linear(torch.ones(1, 2, dtype=F64), None), builder.add(Relu(), place))
    graph, ones = builder.build(), torch.ones(1, 2, dtype=F64)
    found = crown_intermediate(
        graph, Box(-ones, ones), interval_bounds(graph, Box(-ones, ones)), BUDGET
    )
    # the values of the ReLUs are at most 2 in size
    expected = torch.tensor([[-1.25, -3.25]], dtype=F64), torch.tensor([[4.25, 3.25]], dtype=F64)
    assert torch.allclose(found.lower[place], expected[0])
    assert torch.allclose(found.upper[place], expected[1])
