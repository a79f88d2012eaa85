"""What a reader says of files that it does not take: the node, why, and what to write instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from tests.onnx_networks import onnx_file, operator_file
from verify_pipeline.errors import NetworkError, UnsupportedOperatorError
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.onnx.operators import OPERATORS
from verify_pipeline.onnx.operators.unsupported import INSTEAD

Array = NDArray[Any]


def numbers(*values: float) -> Array:
    return np.array(values, np.float32)


@pytest.mark.parametrize("fill", [-np.inf, np.inf])
def test_padding_with_infinity(fill: float) -> None:
    data = operator_file("Pad", (1, 3), np.array([0, 0, 0, 1]), np.float32(fill))
    with pytest.raises(UnsupportedOperatorError, match=r"Pad \(node 'y'.*padding with -?inf"):
        network_from_bytes(data)


@pytest.mark.parametrize(("op", "limit"), [("Max", np.inf), ("Min", -np.inf)])
def test_a_limit_that_leaves_no_number(op: str, limit: float) -> None:
    with pytest.raises(UnsupportedOperatorError, match=rf"{op} \(node 'y'.*limit that is inf"):
        network_from_bytes(operator_file(op, (1, 3), np.float32(limit)))


@pytest.mark.parametrize(
    ("op", "remedy"),
    [
        ("Floor", "write it with Relu, Clip, Min or Max"),
        ("LSTM", "Unroll it"),
        ("TopK", "Let the network end in its scores"),
        ("Det", "Export the network without it"),
    ],
)
def test_an_operator_that_is_not_read_names_what_is(op: str, remedy: str) -> None:
    with pytest.raises(UnsupportedOperatorError, match=remedy) as caught:
        network_from_bytes(operator_file(op, (1, 3, 3)))
    text = str(caught.value)
    assert f"ONNX operator {op} (node 'y', operator set 13)" in text
    assert "docs/onnx.md" in text
    assert len(text) < 250


def test_an_operator_of_another_domain() -> None:
    node = helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft")
    with pytest.raises(UnsupportedOperatorError, match="in operators of ONNX's own set"):
        network_from_bytes(onnx_file([node], (1, 3)))


def test_what_is_named_instead_can_be_read() -> None:
    for text in INSTEAD.values():
        words = set(text.replace(",", " ").replace(".", " ").split())
        assert {word for word in words if word in OPERATORS} or "xport" in text or "scores" in text


@pytest.mark.parametrize(("opset", "extra"), [(9, 4), (13, 4), (14, 2), (15, 2)])
def test_batch_normalisation_in_training_mode(opset: int, extra: int) -> None:
    statistics = {"s": numbers(1, 1), "b": numbers(0, 0), "m": numbers(0, 0), "v": numbers(1, 1)}
    outputs = ["y", *(f"more{i}" for i in range(extra))]
    mode: dict[str, Any] = {"training_mode": 1} if opset >= 14 else {}
    node = helper.make_node("BatchNormalization", ["x", *statistics], outputs, **mode)
    with pytest.raises(UnsupportedOperatorError, match=r"training mode\. .* model\.eval\(\)"):
        network_from_bytes(onnx_file([node], ("n", 2, 4), statistics, opset=opset))


def test_batch_normalisation_of_constants_takes_the_stored_statistics() -> None:
    """ONNX's reference evaluator takes operator set 9's for one in training."""
    weights = {
        "w": np.arange(4, dtype=np.float32).reshape(1, 2, 2),
        "s": numbers(1, 1),
        "b": numbers(0, 1),
        "m": numbers(1, 2),
        "v": numbers(4, 9),
    }
    nodes = [
        helper.make_node("BatchNormalization", ["w", "s", "b", "m", "v"], ["c"], epsilon=0.0),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    network = network_from_bytes(onnx_file(nodes, (1, 2, 2), weights, opset=9))
    found = network.graph(torch.zeros(1, 2, 2).double())[0]
    expected = torch.tensor([-0.5, 0.0, 1.0, 4 / 3], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("opset", [13, 14, 16, 18, 19, 21])
def test_constants_that_onnx_cannot_compute_are_given_to_onnxruntime(opset: int) -> None:
    weights = {"q": np.array([1, 2, -3], np.int8), "s": np.array(0.5, np.float32)}
    weights["z"] = np.array(1, np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["c"]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    network = network_from_bytes(onnx_file(nodes, ("n", 3), weights, opset=opset))
    assert network.graph(torch.zeros(1, 3).double()).tolist() == [[0.0, 0.5, -2.0]]


def test_constants_that_nobody_can_compute_are_named() -> None:
    nodes = [
        helper.make_node("Add", ["c", "d"], ["e"], name="sum"),
        helper.make_node("Mul", ["x", "e"], ["y"]),
    ]
    weights = {"c": np.ones(3, np.float32), "d": np.ones(4, np.float32)}
    with pytest.raises(NetworkError, match=r"node 'sum' \(Add\), of constants.*constants folded"):
        network_from_bytes(onnx_file(nodes, (1, 3), weights))


def test_a_weight_that_is_not_finite_is_named() -> None:
    with pytest.raises(NetworkError, match="weights of 'y'; expected weights finite in float32"):
        network_from_bytes(operator_file("Div", (1, 3), np.float32(0)), check_parity=False)


@pytest.mark.parametrize("user", ["Relu", "ReduceMax", "LogSoftmax"])
def test_minus_infinity_before_anything_but_a_softmax(user: str) -> None:
    weights = {"m": np.array([True, False, True]), "never": np.array(-np.inf, np.float32)}
    nodes = [
        helper.make_node("Where", ["m", "x", "never"], ["masked"]),
        helper.make_node(user, ["masked"], ["y"]),
    ]
    with pytest.raises(NetworkError, match=r"value 'masked.*'; expected -inf before a softmax"):
        network_from_bytes(onnx_file(nodes, (1, 3), weights))


def test_minus_infinity_may_be_moved_before_a_softmax() -> None:
    weights = {"never": np.array([0, -np.inf, 0], np.float32), "more": np.ones((3, 1), np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "never"], ["masked"]),
        helper.make_node("Unsqueeze", ["masked", "axis"], ["column"]),
        helper.make_node("Add", ["column", "more"], ["raised"]),
        helper.make_node("Softmax", ["raised"], ["shares"], axis=1),
        helper.make_node("Flatten", ["shares"], ["y"]),
    ]
    weights["axis"] = np.array([2])
    network = network_from_bytes(onnx_file(nodes, ("n", 3), weights))
    assert network.graph(torch.zeros(1, 3).double()).tolist() == [[0.5, 0.0, 0.5]]
