"""The networks that tests share are what their docstrings say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import networks, networks_by_hand, onnx_networks
from verify_pipeline.bounds import crown_margins, interval_bounds, interval_margins
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import LeakyRelu, Op, Relu
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.problem import Box, Specification

F64 = torch.float64


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64).unsqueeze(1)


def limits(graph: Graph, low: float, high: float) -> list[list[float]]:
    """Least and greatest f over the box by sampling, by intervals, and by CROWN over those."""
    ends = torch.full((2, 1, *graph.input_shape), low, dtype=F64)
    box = Box(ends[0], torch.full_like(ends[1], high))
    spec = Specification(column(1, -1).unsqueeze(0), torch.zeros(1, 2, dtype=F64))
    grid = torch.linspace(low, high, 201, dtype=F64)
    points = torch.cartesian_prod(*[grid] * len(ends.flatten(1)[0])).view(-1, *graph.input_shape)
    bounds = interval_bounds(graph, box)
    found = interval_margins(graph, box, spec), crown_margins(graph, box, spec, bounds).lower
    values = graph(points)
    sampled = torch.stack([values.amin(), -values.amax()])
    return [(torch.stack([t[..., 0], -t[..., 1]])).flatten().tolist() for t in (sampled, *found)]


@pytest.mark.parametrize(
    ("graph", "box", "sampled", "intervals", "crown"),
    [
        (networks_by_hand.sum_of_inputs(2), (-1, 1), (-2, 2), (-2, 2), (-2, 2)),
        (networks_by_hand.two_neurons(), (-1, 1), (0, 2), (0, 4), (0, 3)),
        (networks_by_hand.absolute_value(), (-1, 1), (-0.25, 0.75), (-0.25, 1.75), (-0.25, 0.75)),
        (networks_by_hand.at_least_one(), (0, 4), (-1, 2), (-1, 2), (-2, 2)),
        (networks_by_hand.ramp(), (0, 1), (0, 1.3), (-0.4, 1.7), (-0.3, 1.7)),
        (networks_by_hand.zero_of_relus(1), (-1, 1), (0, 0), (-2, 2), (-2, 2)),
    ],
)
def test_limits_are_those_of_the_docstrings(
    graph: Graph,
    box: tuple[float, float],
    sampled: tuple[float, float],
    intervals: tuple[float, float],
    crown: tuple[float, float],
) -> None:
    found = limits(graph, *box)
    for one, expected in zip(found, (sampled, intervals, crown), strict=True):
        assert one == pytest.approx(expected, abs=1e-12)


def test_zeros_are_zero() -> None:
    x = torch.randn(50, 3, dtype=F64)
    for make in (networks_by_hand.zero_of_relus, networks_by_hand.zero_of_sigmoids):
        assert float(make(3)(x).abs().max()) < 1e-15


@pytest.mark.parametrize(("activation", "slope"), [(None, 1.0), (LeakyRelu(0.2), 0.8)])
def test_the_absolute_value(activation: Op | None, slope: float) -> None:
    graph = networks_by_hand.absolute_value(activation, shift=0.5)
    assert graph(column(-2, 0, 3)).flatten().tolist() == pytest.approx(
        [2 * slope + 0.5, 0.5, 3 * slope + 0.5]
    )


def test_float32_is_wrong_about_what_is_narrowly_below_zero() -> None:
    graph = networks_by_hand.narrowly_below_zero()
    x = torch.tensor([[1.0, 0.3]], dtype=F64)
    assert float(graph(x)) == -(2**-25)
    for node in graph.nodes:
        for tensor in node.tensors():
            assert torch.equal(tensor.float().double(), tensor)
    assert float(graph.to(torch.float32)(x.float())) >= 0


@pytest.mark.parametrize(
    ("graph", "inputs", "outputs"),
    [
        (networks.mlp(0), (4,), 3),
        (networks.mlp(0, 2, (5,), 7), (2,), 7),
        (networks.convolutional(0), (1, 4, 4), 3),
        (networks.conv_mlp(0, (2, 8, 8), [(4, 3, 1, 1), (6, 4, 2, 0)], (9,)), (2, 8, 8), 3),
        (networks.residual_mlp(0), (3,), 2),
        (networks.residual_convolutional(0), (1, 4, 4), 3),
        (networks.attention(0, (1, 0), 5), (5, 4), 3),
        (networks.attention_between_relus(), (3, 4), 1),
        (networks.mixed(0, "tanh"), (2,), 3),
    ],
)
def test_shapes_are_those_of_the_docstrings(
    graph: Graph, inputs: tuple[int, ...], outputs: int
) -> None:
    assert graph.input_shape == inputs
    assert graph.outputs == outputs
    assert graph.dtype == torch.float32
    assert graph(torch.rand(2, *inputs)).shape == (2, outputs)


def test_a_seed_decides_alone() -> None:
    torch.manual_seed(1)
    first = networks.mlp(3), networks.attention(3), networks.convolutional(3)
    torch.manual_seed(2)
    again = networks.mlp(3), networks.attention(3), networks.convolutional(3)
    assert [g.digest() for g in first] == [g.digest() for g in again]
    assert networks.mlp(4).digest() != first[0].digest()


def test_a_chain_counts_its_nodes_from_one() -> None:
    graph = networks_by_hand.chain((1,), networks_by_hand.linear([[2.0]], [1.0]), Relu())
    assert [type(node.op).__name__ for node in graph.nodes] == ["Input", "Linear", "Relu"]
    assert graph(column(-1, 0.1)).tolist() == [[0.0], [1.2]]


def test_files_compute_what_their_docstrings_say() -> None:
    mlp = network_from_bytes(onnx_networks.mlp_file())
    assert mlp.replay(torch.tensor([[1.0, 1.0], [0.0, 2.0]])).tolist() == [[3.5, 0.0], [5.5, 1.0]]
    steep = network_from_bytes(onnx_networks.steep_file(1e9))
    rounded = torch.tensor([[0.1]], dtype=torch.float32).double()
    assert steep.replay(rounded)[0].tolist() == pytest.approx([1.49, 1.5], abs=1e-3)
    pixels = network_from_bytes(onnx_networks.two_pixel_file(np.array([[1, 2], [3, 4]]), ["Relu"]))
    assert pixels.replay(torch.tensor([[[[-1.0, 2.0]]]])).tolist() == [[6.0, 8.0]]
    layers = ([[1], [-1]],), "Relu", ([[1, 1]], [0.5])
    absolute = network_from_bytes(onnx_networks.layers_file(("n", 1), *layers))
    assert absolute.replay(torch.tensor([[-2.0], [3.0]])).tolist() == [[2.5], [3.5]]
    dense = onnx_networks.dense_network(0, 3, 4, 2)
    assert dense.replay(torch.zeros(5, 3)).shape == (5, 2)
