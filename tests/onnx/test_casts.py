"""Casts between float32 and float64: one direction is nothing, the other rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from tests.onnx_networks import onnx_file
from tests.outward import assert_just_above, assert_just_below
from verify_pipeline.bounds import crown_margins, interval_bounds
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.limits import Rounded
from verify_pipeline.onnx import Network, network_from_bytes
from verify_pipeline.problem import Box, Specification

Array = NDArray[Any]
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
STEEP = np.array(2.0**30)


def cast(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=to)


def roundings(network: Network) -> int:
    return sum(isinstance(node.op, Rounded) for node in network.graph.nodes)


@pytest.fixture
def narrow_and_steep() -> Network:
    """``2^30 (float32(x) - 1)`` of a float64 x near 1, whose float32 steps are 2^-23 and 2^-24."""
    nodes = [
        cast("x", "single", FLOAT),
        cast("single", "double", DOUBLE),
        helper.make_node("Sub", ["double", "one"], ["gap"]),
        helper.make_node("Mul", ["gap", "steep"], ["y"]),
    ]
    weights = {"one": np.array(1.0), "steep": STEEP}
    return network_from_bytes(onnx_file(nodes, (1, 1), weights, input_type=DOUBLE), None, False)


def test_a_cast_to_float32_is_rounding(narrow_and_steep: Network) -> None:
    network = narrow_and_steep
    assert roundings(network) == 1
    x = torch.tensor([[1 + 2.0**-25], [1 + 2.0**-24 + 2.0**-40]], dtype=torch.float64)
    assert network.graph(x).tolist() == [[0.0], [2.0**7]]
    assert torch.equal(network.graph(x), network.replay(x).double())


def test_bounds_cover_the_rounding(narrow_and_steep: Network) -> None:
    """The unrounded network stays below 2^6; the file reaches 2^7, and 0."""
    graph = narrow_and_steep.graph
    box = Box(*(torch.tensor([[1 + s]], dtype=torch.float64) for s in (2.0**-25, 2.0**-24 * 1.01)))
    bounds = interval_bounds(graph, box)
    last = len(graph.nodes) - 1
    # 2^30 x - 2^30: roundings are relative to 2^30
    assert_just_below(bounds.lower[last], [[0.0]], within=1e-5)
    assert_just_above(bounds.upper[last], [[2.0**7]], within=1e-5)
    rows = torch.tensor([[[1.0], [-1.0]]], dtype=torch.float64)
    spec = Specification(rows, torch.zeros(1, 2, dtype=torch.float64))
    found = crown_margins(graph, box, spec, bounds).lower[0]
    assert float(found[0]) <= 0
    assert -(2.0**8) <= float(found[1]) <= -(2.0**7)


@pytest.mark.parametrize(
    ("given", "casts", "expected"),
    [
        (FLOAT, (FLOAT,), 0),
        (FLOAT, (DOUBLE,), 1),
        (FLOAT, (DOUBLE, DOUBLE), 1),
        (FLOAT, (DOUBLE, FLOAT), 1),
        (DOUBLE, (DOUBLE,), 0),
        (DOUBLE, (FLOAT,), 1),
        (DOUBLE, (FLOAT, DOUBLE, DOUBLE), 1),
        (DOUBLE, (FLOAT, FLOAT), 1),
    ],
)
def test_only_what_loses_digits_is_an_operation(
    given: int, casts: tuple[int, ...], expected: int
) -> None:
    names = [f"c{i}" for i in range(len(casts))]
    nodes = [cast(a, b, to) for a, b, to in zip(["x", *names], names, casts, strict=False)]
    nodes.append(helper.make_node("Relu", [names[-1]], ["r"]))
    nodes.append(cast("r", "y", given))
    assert roundings(network_from_bytes(onnx_file(nodes, ("n", 3), input_type=given))) == expected


def test_cast_like_is_a_cast() -> None:
    nodes = [
        helper.make_node("CastLike", ["x", "single"], ["a"]),
        helper.make_node("CastLike", ["double", "a"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["s"]),
        helper.make_node("CastLike", ["s", "x"], ["y"]),
    ]
    weights = {"single": np.zeros(1, np.float32), "double": np.array([0.1])}
    data = onnx_file(nodes, (1, 1), weights, opset=15, input_type=DOUBLE)
    network = network_from_bytes(data)
    assert roundings(network) == 1
    # the constant is rounded too: it is what the file adds
    assert network.graph(torch.zeros(1, 1).double()).item() == float(np.float32(0.1))


def test_a_number_beyond_float32_is_not_bounded() -> None:
    box = Box(*(torch.full((1, 1), end, dtype=torch.float64) for end in (1e30, 1e39)))

    builder = GraphBuilder((1,), dtype=torch.float64)
    graph = builder.build(builder.add(Rounded(torch.float32), 0))
    bounds = interval_bounds(graph, box)
    assert float(bounds.upper[1]) == torch.inf
    spec = Specification(torch.tensor([[[-1.0]]]).double(), torch.zeros(1, 1).double())
    assert float(crown_margins(graph, box, spec, bounds).lower) == -torch.inf
