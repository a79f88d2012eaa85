"""Reading whole ONNX files: batch axes, layouts, several inputs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, ValueInfoProto, helper, numpy_helper

from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx import Network, check, load_network, network_from_bytes

Array = NDArray[Any]


def value(name: str) -> ValueInfoProto:
    """Of float32 numbers of any shape."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def operations(network: Network) -> list[str]:
    return [type(node.op).__name__ for node in network.graph.nodes]


@pytest.fixture
def mlp_file(onnx_file: Callable[..., bytes]) -> Callable[..., bytes]:
    """A file of two layers: y = W1 relu(W0 x + b0) + b1 with numbers to check by hand."""
    weights = {
        "w0": np.array([[1, -1], [2, 1]], np.float32),
        "b0": np.array([0, -1], np.float32),
        "w1": np.array([[1, 0], [1, 1]], np.float32),
        "b1": np.array([0.5, 0], np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Add", ["a", "b0"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "w1", "b1"], ["y"]),
    ]
    return lambda shape=("n", 2), **options: onnx_file(nodes, shape, weights, **options)


@pytest.mark.parametrize("shape", [("n", 2), (1, 2)], ids=str)
@pytest.mark.parametrize("listed", [False, True])
def test_values_by_hand(
    shape: tuple[Any, ...], listed: bool, mlp_file: Callable[..., bytes]
) -> None:
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


def test_double_files_keep_their_digits(onnx_file: Callable[..., bytes]) -> None:
    """Weights and outputs that float32 would round."""
    weights = {"w": np.array([[0.5, -2], [1 + 1e-12, 4]])}
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    network = network_from_bytes(
        onnx_file([node], ("n", 2), weights, input_type=TensorProto.DOUBLE)
    )
    point, expected = torch.tensor([[1.0, 1.0]]), [[1.5 + 1e-12, 2.0]]
    assert network.graph(point.double()).tolist() == network.replay(point).tolist() == expected


def test_merged_weights_are_not_rounded_to_float32(onnx_file: Callable[..., bytes]) -> None:
    """(1 + 2^-12)^2 has 25 bits; float32 would drop the last."""
    weights = {name: np.full(s, 1 + 2**-12, np.float32) for name, s in (("s", 1), ("w", (1, 1)))}
    nodes = [
        helper.make_node("Mul", ["x", "s"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    network = network_from_bytes(onnx_file(nodes, ("n", 1), weights))
    assert operations(network) == ["Input", "Linear"]
    assert network.graph(torch.ones(1, 1).double()).tolist() == [[(1 + 2**-12) ** 2]]


def test_weights_that_only_float64_holds(onnx_file: Callable[..., bytes]) -> None:
    """The search in float32 could not use them."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    data = onnx_file([node], ("n", 1), {"w": np.array([[1e39]])}, input_type=TensorProto.DOUBLE)
    with pytest.raises(NetworkError, match="expected weights finite in float32"):
        network_from_bytes(data)


def test_no_batch_axis_and_constant_on_the_left(onnx_file: Callable[..., bytes]) -> None:
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


def test_first_axis_that_is_no_batch(onnx_file: Callable[..., bytes]) -> None:
    """A fixed first axis of 3 belongs to the input; a product from the left runs over it."""
    weights = {"w": np.arange(6, dtype=np.float32).reshape(2, 3)}
    network = network_from_bytes(
        onnx_file([helper.make_node("MatMul", ["w", "x"], ["y"])], (3, 2), weights)
    )
    x = torch.arange(6.0).reshape(1, 3, 2)
    assert (network.input_shape, network.outputs) == ((3, 2), 4)
    expected = torch.tensor(weights["w"]) @ x[0]
    assert network.graph(x.double())[0].tolist() == expected.flatten().tolist()


def test_channels_last_layout(
    onnx_file: Callable[..., bytes], normal: Callable[..., Array]
) -> None:
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


def test_sequence_first_attention_keeps_the_batch_apart(
    onnx_file: Callable[..., bytes], normal: Callable[..., Array]
) -> None:
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


def test_class_token_of_a_transformer(
    onnx_file: Callable[..., bytes], normal: Callable[..., Array]
) -> None:
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
def test_a_branch_is_taken_by_a_shape(size: int, onnx_file: Callable[..., bytes]) -> None:
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


def test_a_branch_that_depends_on_the_input(onnx_file: Callable[..., bytes]) -> None:
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["s"])], "b", [], [value("s")])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["c"], keepdims=0),
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]
    with pytest.raises(NetworkError, match="ONNX operator If"):
        network_from_bytes(onnx_file(nodes, (1, 2)))


def test_node_names_are_unique(mlp_file: Callable[..., bytes]) -> None:
    names = [node.name for node in network_from_bytes(mlp_file()).graph.nodes]
    assert len(set(names)) == len(names)
    assert names[0] == "x"


def test_digest_metadata_and_path(tmp_path: Path, mlp_file: Callable[..., bytes]) -> None:
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


# What is refused.


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.onnx", tmp_path):
        with pytest.raises(NetworkError, match=r"expected an ONNX file; got .* Check the path"):
            load_network(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 not a network", b"\x00" * 100, b"\x08\x07"])
def test_foreign_files(data: bytes) -> None:
    with pytest.raises(NetworkError, match="network"):
        network_from_bytes(data)


@pytest.mark.parametrize("value", [{"weights": [1, 2]}, None])
def test_torch_checkpoints_are_called_so(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(value, path, _use_new_zipfile_serialization=value is not None)
    with pytest.raises(NetworkError, match=r"got .* torch checkpoints are"):
        load_network(path)


def test_truncated_files(mlp_file: Callable[..., bytes]) -> None:
    data = mlp_file()
    for length in range(0, len(data), 7):
        with pytest.raises(NetworkError):
            network_from_bytes(data[:length])


def test_huge_files_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(NetworkError, match="got 2147483648 bytes"):
        load_network(path)


def test_huge_values_are_refused_unmade(onnx_file: Callable[..., bytes]) -> None:
    shape = {"s": np.array([1, 2**20, 2**20], np.int64)}
    pads = {"s": np.array([0, 0, 2**40, 0], np.int64)}
    nodes = {
        "Expand": [helper.make_node("Expand", ["x", "s"], ["y"])],
        "Pad": [helper.make_node("Pad", ["x", "s"], ["y"])],
        "ConstantOfShape": [
            helper.make_node("ConstantOfShape", ["s"], ["c"]),
            helper.make_node("Add", ["x", "c"], ["y"]),
        ],
    }
    for op, written in nodes.items():
        with pytest.raises(NetworkError, match="at most 33554432 elements"):
            network_from_bytes(onnx_file(written, (1, 1), pads if op == "Pad" else shape))
    with pytest.raises(NetworkError, match="at most 33554432 numbers"):
        network_from_bytes(onnx_file([helper.make_node("Relu", ["x"], ["y"])], (1, 2**40)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(value: float, onnx_file: Callable[..., bytes]) -> None:
    weights = {"w": np.array([[1.0, value]], np.float32)}
    with pytest.raises(NetworkError, match="got NaN"):
        network_from_bytes(
            onnx_file([helper.make_node("MatMul", ["x", "w"], ["y"])], (1, 1), weights)
        )


def test_nan_in_a_constant_node(onnx_file: Callable[..., bytes]) -> None:
    value = numpy_helper.from_array(np.array(np.nan, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["c"], value=value),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    with pytest.raises(NetworkError, match="constant c; expected numbers; got NaN"):
        network_from_bytes(onnx_file(nodes, (1, 2)))


def test_random_nodes_are_no_constants(onnx_file: Callable[..., bytes]) -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["c"], shape=[1, 2]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    with pytest.raises(NetworkError, match="ONNX operator RandomNormal"):
        network_from_bytes(onnx_file(nodes, (1, 2)))


def test_output_without_input(onnx_file: Callable[..., bytes]) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=1),
    ]
    with pytest.raises(NetworkError, match="depends on the input; got a constant"):
        network_from_bytes(onnx_file(nodes, (1, 2)))


def test_inputs_of_unknown_size_or_type(onnx_file: Callable[..., bytes]) -> None:
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    for shape in (("n",), (1, "m"), ("n", 3, "h", "w")):
        with pytest.raises(NetworkError, match="known sizes of all axes but the first"):
            network_from_bytes(onnx_file(relu, shape))
    for kind, name in ((TensorProto.INT32, "int32"), (TensorProto.FLOAT16, "float16")):
        with pytest.raises(NetworkError, match=f"input x; expected float32 or .* got {name}"):
            network_from_bytes(onnx_file(relu, (1, 2), input_type=kind))


def test_shapes_that_do_not_fit(onnx_file: Callable[..., bytes]) -> None:
    weights = {"w": np.ones((3, 3), np.float32)}
    with pytest.raises(NetworkError, match=r"node 'y' \(MatMul\); expected inputs and attributes"):
        network_from_bytes(
            onnx_file([helper.make_node("MatMul", ["x", "w"], ["y"])], (1, 2), weights)
        )


def test_a_large_output_does_not_hide_the_others(onnx_file: Callable[..., bytes]) -> None:
    """A difference of 1e-3 in the first of two outputs, where the second is always 20."""
    weights = {"w": np.array([[1, 0]], np.float32), "b": np.array([0, 20], np.float32)}
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    network = network_from_bytes(onnx_file(nodes, ("n", 1), weights))
    assert check(network, "net") == 0

    def elsewhere(x: torch.Tensor) -> torch.Tensor:
        return network.replay(x) + torch.tensor([1e-3, 0])

    with pytest.raises(NetworkError, match=r"to 0\.0001 of each output; got a difference of 0\.0"):
        check(replace(network, replay=elsewhere), "net")  # type: ignore[arg-type]


@pytest.mark.parametrize("check_parity", [True, False])
def test_files_that_mix_the_images_of_a_batch(
    check_parity: bool, onnx_file: Callable[..., bytes]
) -> None:
    """Replays would judge an image by the others, also where parity is not looked at."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]),
        helper.make_node("Sub", ["x", "m"], ["d"]),
        helper.make_node("Add", ["d", "x"], ["y"]),
    ]
    with pytest.raises(NetworkError, match="mixes the inputs of a batch"):
        network_from_bytes(onnx_file(nodes, ("n", 2)), check_parity=check_parity)
    one_by_one = network_from_bytes(onnx_file(nodes, (1, 2)), check_parity=check_parity)
    assert not one_by_one.replay.batched


def test_outputs_that_are_never_finite(onnx_file: Callable[..., bytes]) -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["p"]),
        helper.make_node("Neg", ["p"], ["m"]),
        helper.make_node("Sqrt", ["m"], ["y"]),
    ]
    with pytest.raises(NetworkError, match="a difference of nan"):
        network_from_bytes(onnx_file(nodes, ("n", 2)))


def test_no_mutated_file_breaks_the_reader(mlp_file: Callable[..., bytes]) -> None:
    """Every answer to a broken file is a NetworkError or a network that agrees with onnxruntime."""
    data = mlp_file()
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        broken = bytearray(data)
        for place in generator.integers(len(broken), size=generator.integers(1, 4)):
            broken[place] = generator.integers(256)
        try:
            network_from_bytes(bytes(broken))
        except NetworkError:
            refused += 1
    assert refused > 100
