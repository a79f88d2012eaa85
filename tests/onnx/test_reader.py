"""Reading whole ONNX files: batch axes, layouts, several inputs, functions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper

from tests.onnx_networks import mlp_file, onnx_file
from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx import Network, load_network, network_from_bytes

Array = NDArray[Any]


def value(name: str) -> ValueInfoProto:
    """Of float32 numbers of any shape."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def operations(network: Network) -> list[str]:
    return [type(node.op).__name__ for node in network.graph.nodes]


@pytest.mark.parametrize("shape", [("n", 2), (1, 2)], ids=str)
@pytest.mark.parametrize("listed", [False, True])
def test_values_by_hand(shape: tuple[Any, ...], listed: bool) -> None:
    network = network_from_bytes(mlp_file(shape, listed=listed))
    # x = (1, 2): a = (5, 1), b = (5, 0), c = (5, 0), y = (5.5, 0).
    # x = (1, -1): a = (-1, -2), c = 0, y = (0.5, 0).
    points = torch.tensor([[1.0, 2.0], [1.0, -1.0]])
    expected = [[5.5, 0.0], [0.5, 0.0]]
    assert network.graph(points.double()).tolist() == expected
    assert network.replay(points).tolist() == expected
    assert network.replay.batched == (shape[0] != 1)
    assert operations(network) == ["Input", "Linear", "Relu", "Linear"]
    assert (network.input_shape, network.outputs) == ((2,), 2)
    assert network.graph.dtype == torch.float64


def test_double_files_keep_their_digits() -> None:
    """Weights and outputs that float32 would round."""
    weights = {"w": np.array([[0.5, -2], [1 + 1e-12, 4]])}
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    network = network_from_bytes(
        onnx_file([node], ("n", 2), weights, input_type=TensorProto.DOUBLE)
    )
    point, expected = torch.tensor([[1.0, 1.0]]), [[1.5 + 1e-12, 2.0]]
    assert network.graph(point.double()).tolist() == network.replay(point).tolist() == expected


def test_merged_weights_are_not_rounded_to_float32() -> None:
    """(1 + 2^-12)^2 has 25 bits; float32 would drop the last."""
    weights = {name: np.full(s, 1 + 2**-12, np.float32) for name, s in (("s", 1), ("w", (1, 1)))}
    nodes = [
        helper.make_node("Mul", ["x", "s"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    network = network_from_bytes(onnx_file(nodes, ("n", 1), weights))
    assert operations(network) == ["Input", "Linear"]
    assert network.graph(torch.ones(1, 1).double()).tolist() == [[(1 + 2**-12) ** 2]]


def test_weights_that_only_float64_holds() -> None:
    """The search in float32 could not use them."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    data = onnx_file([node], ("n", 1), {"w": np.array([[1e39]])}, input_type=TensorProto.DOUBLE)
    with pytest.raises(NetworkError, match="expected weights finite in float32"):
        network_from_bytes(data)


def test_no_batch_axis_and_constant_on_the_left() -> None:
    """As the smallest networks of VNN-COMP are written: column vectors."""
    weights = {"w": np.array([[1, 2], [3, 4], [5, 6]], np.float32), "b": np.ones(3, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["w", "x"], ["a"]),
        helper.make_node("Add", ["b", "a"], ["y"]),
    ]
    network = network_from_bytes(onnx_file(nodes, (2,), weights))
    points = torch.tensor([[1.0, -1.0], [0.0, 1.0]]).double()
    assert network.graph(points).tolist() == [[0, 0, 0], [3, 5, 7]]
    assert operations(network) == ["Input", "Linear"]


def test_first_axis_that_is_no_batch() -> None:
    """A fixed first axis of 3 belongs to the input; a product from the left runs over it."""
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    network = network_from_bytes(
        onnx_file([helper.make_node("MatMul", ["w", "x"], ["y"])], (3, 2), weights)
    )
    x = torch.arange(6.0).reshape(1, 3, 2)
    assert (network.input_shape, network.outputs) == ((3, 2), 4)
    expected = torch.tensor(weights["w"]) @ x[0]
    assert network.graph(x.double())[0].tolist() == expected.flatten().tolist()


def test_channels_last_layout(normal: Callable[..., Array]) -> None:
    """As tf2onnx writes: transposed in, convolved, transposed back, flattened."""
    weights = {
        "w": normal(4, 3, 2, 2),
        "shape": np.array([-1, 36], np.int64),
        "dense": normal(36, 5),
        "b": normal(5),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["a", "w"], ["b1"], strides=[2, 2]),
        helper.make_node("Relu", ["b1"], ["c"]),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["d", "shape"], ["e"]),
        helper.make_node("MatMul", ["e", "dense"], ["f"]),
        helper.make_node("Add", ["f", "b"], ["y"]),
    ]
    network = network_from_bytes(onnx_file(nodes, ("n", 6, 6, 3), weights))
    expected = ["Input", "Transpose", "Conv2d", "Relu", "Reshape", "Linear"]
    assert operations(network) == expected


def test_sequence_first_attention_keeps_the_batch_apart(normal: Callable[..., Array]) -> None:
    """torch's MultiheadAttention moves the batch axis second and merges it with the heads."""
    weights = {
        "w": normal(6, 6),
        "heads": np.array([4, -1, 3], np.int64),
        "back": np.array([4, -1, 6], np.int64),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["t", "w"], ["q"]),
        helper.make_node("Reshape", ["q", "heads"], ["h"]),
        helper.make_node("Transpose", ["h"], ["a"], perm=[1, 0, 2]),
        helper.make_node("Transpose", ["h"], ["k"], perm=[1, 2, 0]),
        helper.make_node("MatMul", ["a", "k"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["share"], axis=-1),
        helper.make_node("MatMul", ["share", "a"], ["m"]),
        helper.make_node("Transpose", ["m"], ["m1"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["m1", "back"], ["m2"]),
        helper.make_node("Add", ["m2", "t"], ["s"]),
        helper.make_node("Transpose", ["s"], ["y"], perm=[1, 0, 2]),
    ]
    network = network_from_bytes(onnx_file(nodes, ("n", 4, 6), weights))
    assert network.replay.batched
    assert network.outputs == 24


def test_class_token_of_a_transformer(normal: Callable[..., Array]) -> None:
    """A constant joined to the tokens, expanded to a batch size that the file computes."""
    weights = {
        "token": normal(1, 1, 5),
        "zero": np.array(0),
        "rest": np.array([1, 5], np.int64),
        "axes": np.array([0], np.int64),
    }
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
        helper.make_node("Expand", ["token", "target"], ["tokens"]),
        helper.make_node("Concat", ["tokens", "x"], ["y"], axis=1),
    ]
    network = network_from_bytes(onnx_file(nodes, ("n", 3, 5), weights))
    assert network.outputs == 20
    assert operations(network) == ["Input", "Constant", "Concat", "Reshape"]


def test_several_inputs_and_outputs_are_one_vector_each() -> None:
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 2, 2]),
        helper.make_tensor_value_info("noise", TensorProto.FLOAT, [1, 3]),
    ]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("y", "z")]
    nodes = [
        helper.make_node("Neg", ["noise"], ["y"]),
        helper.make_node("Relu", ["image"], ["z"]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "two", inputs, outputs),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    network = network_from_bytes(model.SerializeToString())
    points = torch.tensor([[1.0, -2, 3, -4, 5, 6, 7], [1, 1, 1, 1, 0, 0, 1]])
    expected = [[-5.0, -6, -7, 1, 0, 3, 0], [0, 0, -1, 1, 1, 1, 1]]
    assert network.input_shape == (7,)
    assert network.graph(points.double()).tolist() == network.replay(points).tolist() == expected


def test_local_functions_are_inlined() -> None:
    twice = helper.make_function(
        "own",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 13)],
    )
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="own")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("own", 1)]
    model = helper.make_model(graph, functions=[twice], opset_imports=opsets, ir_version=8)
    network = network_from_bytes(model.SerializeToString())
    assert network.graph(torch.tensor([[1.0, 3.0]]).double()).tolist() == [[2.0, 6.0]]


@pytest.mark.parametrize("size", [1, 2])
def test_a_branch_is_taken_by_a_shape(size: int) -> None:
    """As torch writes ``squeeze``: whether the axis is 1 is only known at run time."""
    then = helper.make_graph([helper.make_node("Neg", ["x"], ["s"])], "t", [], [value("s")])
    other = helper.make_graph([helper.make_node("Add", ["x", "x"], ["d"])], "e", [], [value("d")])
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], start=1, end=2),
        helper.make_node("Equal", ["shape", "one"], ["condition"]),
        helper.make_node("If", ["condition"], ["b"], then_branch=then, else_branch=other),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    data = onnx_file(nodes, ("n", size), {"one": np.array([1])}, opset=15)
    found = network_from_bytes(data).graph(torch.ones(1, size).double())
    assert found.tolist() == ([[1.0]] if size == 1 else [[-2.0, -2.0]])


def test_a_branch_that_depends_on_the_input() -> None:
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["s"])], "b", [], [value("s")])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["c"], keepdims=0),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    with pytest.raises(NetworkError, match="ONNX operator If"):
        network_from_bytes(onnx_file(nodes, (1, 2)))


def test_node_names_are_unique() -> None:
    names = [node.name for node in network_from_bytes(mlp_file()).graph.nodes]
    assert len(set(names)) == len(names)
    assert names[0] == "x"


def test_digest_metadata_and_path(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(mlp_file())
    helper.set_model_props(model, {"recipe": "mine"})
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    network = load_network(path)
    assert network.metadata == {"recipe": "mine"}
    assert network.path == path
    assert network.digest == load_network(str(path), check_parity=False).digest
    assert network.digest != network_from_bytes(mlp_file()).digest
    assert len(network.digest) == 64
