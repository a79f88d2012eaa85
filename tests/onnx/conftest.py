"""Small ONNX files, made by the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]


def _file(
    nodes: Sequence[NodeProto],
    input_shape: Sequence[int | str],
    weights: Mapping[str, Array] | None = None,
    opset: int = 13,
    listed: bool = False,
    input_type: int = TensorProto.FLOAT,
) -> bytes:
    """A file that computes ``y`` of ``x``; ``listed``: its weights stand among the inputs too."""
    tensors = [numpy_helper.from_array(a, name) for name, a in (weights or {}).items()]
    inputs = [helper.make_tensor_value_info("x", input_type, list(input_shape))]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    output = helper.make_tensor_value_info("y", input_type, None)
    graph = helper.make_graph(list(nodes), "test", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def _operator(
    op: str, input_shape: Sequence[int | str], *weights: Array | None, opset: int = 13, **attrs: Any
) -> bytes:
    """A file that computes one operator of ``x`` and weights; None leaves an input out."""
    named = {f"w{i}": w for i, w in enumerate(weights) if w is not None}
    inputs = ["x", *("" if w is None else f"w{i}" for i, w in enumerate(weights))]
    return _file([helper.make_node(op, inputs, ["y"], **attrs)], input_shape, named, opset)


@pytest.fixture
def onnx_file() -> Callable[..., bytes]:
    """Makes the bytes of an ONNX file from nodes."""
    return _file


@pytest.fixture
def operator_file() -> Callable[..., bytes]:
    """Makes the bytes of an ONNX file of one operator."""
    return _operator


@pytest.fixture
def normal() -> Callable[..., Array]:
    """Draws float32 normal numbers of a shape, the same in each test."""
    generator = np.random.default_rng(0)
    return lambda *shape: generator.normal(size=shape).astype(np.float32)


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
