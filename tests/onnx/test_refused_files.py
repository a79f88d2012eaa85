"""ONNX files that are refused: missing, foreign, truncated, huge, contradictory, not finite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_networks import mlp_file, onnx_file
from verify_pipeline.errors import NetworkError
from verify_pipeline.onnx import check, load_network, network_from_bytes

Array = NDArray[Any]


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


def test_truncated_files() -> None:
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


def test_huge_values_are_refused_unmade() -> None:
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
def test_weights_that_are_not_finite(value: float) -> None:
    weights = {"w": np.array([[1.0, value]], np.float32)}
    with pytest.raises(NetworkError, match="got NaN"):
        network_from_bytes(
            onnx_file([helper.make_node("MatMul", ["x", "w"], ["y"])], (1, 1), weights)
        )


def test_nan_in_a_constant_node() -> None:
    value = numpy_helper.from_array(np.array(np.nan, np.float32))
    nodes = [
        helper.make_node("Constant", [], ["c"], value=value),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    with pytest.raises(NetworkError, match="constant c; expected numbers; got NaN"):
        network_from_bytes(onnx_file(nodes, (1, 2)))


def test_random_nodes_are_no_constants() -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["c"], shape=[1, 2]),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    with pytest.raises(NetworkError, match="ONNX operator RandomNormal"):
        network_from_bytes(onnx_file(nodes, (1, 2)))


def test_output_without_input() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Cast", ["s"], ["y"], to=1),
    ]
    with pytest.raises(NetworkError, match="depends on the input; got a constant"):
        network_from_bytes(onnx_file(nodes, (1, 2)))


def test_inputs_of_unknown_size_or_type() -> None:
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    for shape in (("n",), (1, "m"), ("n", 3, "h", "w")):
        with pytest.raises(NetworkError, match="known sizes of all axes but the first"):
            network_from_bytes(onnx_file(relu, shape))
    for kind, name in ((TensorProto.INT32, "int32"), (TensorProto.FLOAT8E5M2, "float8e5m2")):
        with pytest.raises(NetworkError, match=f"input x; expected float32, .* got {name}"):
            network_from_bytes(onnx_file(relu, (1, 2), input_type=kind))


def test_shapes_that_do_not_fit() -> None:
    weights = {"w": np.ones((3, 3), np.float32)}
    with pytest.raises(NetworkError, match=r"node 'y' \(MatMul\); expected inputs and attributes"):
        network_from_bytes(
            onnx_file([helper.make_node("MatMul", ["x", "w"], ["y"])], (1, 2), weights)
        )


def test_a_large_output_does_not_hide_the_others() -> None:
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
def test_files_that_mix_the_images_of_a_batch(check_parity: bool) -> None:
    """Replays would judge an image by the others, also where parity is not looked at."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]),
        helper.make_node("Sub", ["x", "m"], ["d"]),
        helper.make_node("Add", ["d", "x"], ["y"]),
    ]
    named = r"node 'm' \(ReduceMean\); expected outputs of each input alone"
    with pytest.raises(NetworkError, match=named):
        network_from_bytes(onnx_file(nodes, ("n", 2)), check_parity=check_parity)
    one_by_one = network_from_bytes(onnx_file(nodes, (1, 2)), check_parity=check_parity)
    assert not one_by_one.replay.batched


def test_outputs_that_are_never_finite() -> None:
    nodes = [
        helper.make_node("Exp", ["x"], ["p"]),
        helper.make_node("Neg", ["p"], ["m"]),
        helper.make_node("Sqrt", ["m"], ["y"]),
    ]
    with pytest.raises(NetworkError, match="a difference of nan"):
        network_from_bytes(onnx_file(nodes, ("n", 2)))


def test_no_mutated_file_breaks_the_reader() -> None:
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
