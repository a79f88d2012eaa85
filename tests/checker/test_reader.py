"""The checker's reading of ONNX files against onnxruntime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import NodeProto
from onnx.numpy_helper import from_array

from tests.onnx_networks import layers_file, node, onnx_file, operator_file
from verify_checker import Proof, Refused, check, read_network
from verify_checker.check import again
from verify_checker.regions import enclose
from verify_checker.walk import Rows, lower_bounds
from verify_pipeline.proving.proof_file import leaf_only

RNG = np.random.default_rng(7)


def drawn(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def residual() -> bytes:
    """A convolution beside a strided one, added, pooled, normalised and flattened."""
    nodes: list[NodeProto] = [
        node("Sub", "x", "mean", "a"),
        node("Conv", "a", "w", "b", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Conv", "a", "s", "d", strides=[2, 2]),
        node("Add", "c", "d", "e"),
        node("BatchNormalization", "e", "g", "h", "m", "v", "f"),
        node("LeakyRelu", "f", "l", alpha=0.1),
        node("MaxPool", "l", "p", kernel_shape=[2, 2], strides=[1, 1]),
        node("Transpose", "p", "t", perm=[0, 2, 3, 1]),
        node("Flatten", "t", "u"),
        node("MatMul", "u", "k", "q"),
        node("Mul", "q", "two", "y"),
    ]
    weights = {
        "mean": drawn(1, 2, 1, 1),
        "w": drawn(3, 2, 3, 3),
        "b": drawn(3),
        "s": drawn(3, 2, 1, 1),
        "g": drawn(3),
        "h": drawn(3),
        "m": drawn(3),
        "v": np.abs(drawn(3)),
        "k": drawn(12, 4),
        "two": drawn(4),
    }
    return onnx_file(nodes, ("n", 2, 6, 6), weights)


FILES: dict[str, tuple[Callable[[], bytes], tuple[int, ...]]] = {
    "residual": (residual, (2, 6, 6)),
    "groups": (
        lambda: operator_file("Conv", ("n", 4, 5, 5), drawn(6, 2, 3, 2), group=2, dilations=[2, 1]),
        (4, 5, 5),
    ),
    "average": (
        lambda: operator_file(
            "AveragePool", ("n", 2, 5, 5), kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]
        ),
        (2, 5, 5),
    ),
    "average with padding": (
        lambda: operator_file(
            "AveragePool",
            ("n", 2, 4, 4),
            kernel_shape=[3, 3],
            pads=[1, 1, 1, 1],
            count_include_pad=1,
        ),
        (2, 4, 4),
    ),
    "global average": (lambda: operator_file("GlobalAveragePool", ("n", 3, 4, 4)), (3, 4, 4)),
    "maximum": (
        lambda: operator_file(
            "MaxPool", ("n", 2, 5, 5), kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 2]
        ),
        (2, 5, 5),
    ),
    "mean": (lambda: operator_file("ReduceMean", ("n", 3, 4), axes=[-1], keepdims=0), (3, 4)),
    "pad": (
        lambda: operator_file("Pad", ("n", 2, 3), np.array([0, 1, 0, 0, 2, 1])),
        (2, 3),
    ),
    "reciprocal": (lambda: operator_file("Div", ("n", 2, 3), drawn(2, 1)), (2, 3)),
    "matrix": (lambda: operator_file("MatMul", ("n", 3, 4), drawn(4, 2)), (3, 4)),
    "product": (
        lambda: onnx_file(
            [node("Transpose", "x", "t", perm=[0, 2, 1]), node("MatMul", "x", "t", "y")],
            ("n", 3, 4),
        ),
        (3, 4),
    ),
    "softmax": (lambda: operator_file("Softmax", ("n", 3, 4), axis=-1), (3, 4)),
    "transposed": (
        lambda: operator_file("Transpose", ("n", 2, 3, 4), perm=[0, 3, 1, 2]),
        (2, 3, 4),
    ),
    "constant in front": (
        lambda: onnx_file(
            [
                node("Shape", "x", "s"),
                node("Gather", "s", "first", "n", axis=0),
                node("Unsqueeze", "n", "where", "m"),
                node("Concat", "m", "rest", "shape", axis=0),
                node("ConstantOfShape", "shape", "zeros", value=from_array(np.float32([0]))),
                node("Add", "zeros", "w", "one"),
                node("Concat", "one", "x", "y", axis=1),
            ],
            ("n", 2, 3),
            {
                "first": np.array(0),
                "where": np.array([0]),
                "rest": np.array([1, 3]),
                "w": drawn(3),
            },
        ),
        (2, 3),
    ),
    "sliced shape": (
        lambda: onnx_file(
            [
                node("Shape", "x", "s"),
                node("Slice", "s", "zero", "two", "front"),
                node("Concat", "front", "all", "shape", axis=0),
                node("Reshape", "x", "shape", "y"),
            ],
            ("n", 2, 3, 2),
            {"zero": np.array([0]), "two": np.array([2]), "all": np.array([-1])},
        ),
        (2, 3, 2),
    ),
    "exp": (lambda: operator_file("Exp", ("n", 3)), (3,)),
    "elu": (lambda: layers_file(("n", 3), (drawn(4, 3), drawn(4)), "Elu", (drawn(2, 4),)), (3,)),
    "softplus": (
        lambda: layers_file(("n", 3), (drawn(4, 3), drawn(4)), "Softplus", (drawn(2, 4),)),
        (3,),
    ),
    "sigmoid": (
        lambda: layers_file(("n", 3), (drawn(4, 3), drawn(4)), "Sigmoid", (drawn(2, 4),)),
        (3,),
    ),
    "tanh": (
        lambda: layers_file(("n", 3), (drawn(4, 3), drawn(4)), "Tanh", (drawn(2, 4),)),
        (3,),
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_outputs_of_onnxruntime_lie_within_bounds(name: str) -> None:
    made, shape = FILES[name]
    data = made()
    network = read_network(data)
    session = onnxruntime.InferenceSession(data)
    rng = np.random.default_rng(1)
    for radius in (0.0, 1e-3, 0.3):
        middle = rng.normal(size=shape)
        lower, upper = (middle - radius)[None], (middle + radius)[None]
        regions = enclose(network, (lower, upper), {}, again)
        size = network.nodes[-1].size
        eye = np.concatenate([np.eye(size), -np.eye(size)]).reshape(-1, *network.nodes[-1].shape)
        rows = Rows(len(network.nodes) - 1, np.zeros(2 * size, dtype=np.int64), eye)
        bounds = lower_bounds(regions, rows)
        low = np.maximum(bounds[:size], regions.lower[len(network.nodes) - 1].ravel())
        high = np.minimum(-bounds[size:], regions.upper[len(network.nodes) - 1].ravel())
        for _ in range(20):
            point = lower + rng.random(lower.shape) * (upper - lower)
            output = session.run(None, {"x": point.astype(np.float32)})[0].ravel()
            slack = 1e-4 * (1 + np.abs(output).max())
            assert (low - slack <= output).all()
            assert (output <= high + slack).all()
        if radius == 0:
            assert (high - low <= slack).all()


REFUSED = {
    "softmax of channels": (operator_file("Softmax", ("n", 3, 2), axis=1), "another axis"),
    "softmax of an old file": (operator_file("Softmax", ("n", 3, 2), opset=11), "another axis"),
    "logarithm": (operator_file("Log", ("n", 3)), "operator Log"),
    "elu with alpha": (operator_file("Elu", ("n", 3), alpha=0.5), "Elu with alpha"),
    "constants that need rounding": (
        onnx_file(
            [node("Add", "a", "b", "c"), node("Add", "x", "c", "y")],
            ("n", 1),
            {"a": np.float32([0.1]), "b": np.float32([0.2])},
        ),
        "Add of constants",
    ),
    "two values and a constant": (
        onnx_file([node("Concat", "x", "x", "w", "y", axis=1)], ("n", 1), {"w": drawn(1, 1)}),
        "several values",
    ),
    "products of other sizes": (
        onnx_file([node("MatMul", "x", "x", "y")], ("n", 2, 3)),
        "two values whose sizes",
    ),
    "batches": (operator_file("Relu", (2, 3)), "batches of 2"),
    "open shape": (operator_file("Relu", ("n", "m")), "shape is open"),
    "product": (onnx_file([node("Mul", "x", "x", "y")], ("n", 3)), "Mul of two values"),
    "steep": (operator_file("LeakyRelu", ("n", 3), alpha=1.5), "slope 1.5"),
    "batch axis": (operator_file("Transpose", ("n", 3, 4), perm=[1, 0, 2]), "batch axis"),
    "not finite": (operator_file("Add", ("n", 1), np.float32([np.inf])), "not finite"),
    "int8": (operator_file("Add", ("n", 1), np.int8([1])), "ONNX type"),
    "old": (operator_file("Relu", ("n", 3), opset=6), "version 6"),
    "unknown attribute": (
        operator_file("MaxPool", ("n", 1, 4, 4), kernel_shape=[2, 2], ceil_mode=1),
        "ceil_mode",
    ),
    "same name": (
        onnx_file([node("Relu", "x", "y"), node("Identity", "x", "y")], ("n", 3)),
        "name",
    ),
    "mean of all": (
        onnx_file(
            [node("ReduceMean", "x", "axes", "a"), node("Add", "a", "zeros", "y")],
            ("n", 2),
            {"axes": np.zeros(0, np.int64), "zeros": np.zeros(2, np.float32)},
            opset=18,
        ),
        "which means all",
    ),
    "no axis": (
        onnx_file([node("Squeeze", "x", "axes", "y")], ("n", 3), {"axes": np.zeros(0, np.int64)}),
        "which means all",
    ),
    "two paddings": (
        operator_file(
            "Conv", ("n", 1, 4, 4), drawn(1, 1, 2, 2), auto_pad="VALID", pads=[1, 1, 1, 1]
        ),
        "auto_pad",
    ),
    "other weights": (
        operator_file("MatMul", ("n", 3), drawn(4, 2)),
        "sizes do not fit",
    ),
    "no file": (b"not a network", "ONNX"),
    "empty": (b"", "ONNX"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_known_is_refused(name: str) -> None:
    data, words = REFUSED[name]
    with pytest.raises(Refused, match=words):
        read_network(data)


def test_models_of_this_repository_are_read() -> None:
    for path in sorted((Path(__file__).parents[2] / "models").glob("*.onnx")):
        assert read_network(path.read_bytes()).nodes[-1].shape == (10,)


def test_a_softmax_at_the_end_is_left_out_of_comparisons_only() -> None:
    layers = (drawn(4, 3), drawn(4)), "Relu", (drawn(2, 4), drawn(2))
    network = read_network(layers_file(("n", 3), *layers, "Softmax"))
    assert network.compares
    values = network.nodes[-1].shape
    assert values == (2,)
    plain = read_network(layers_file(("n", 3), *layers))
    assert len(plain.nodes) == len(network.nodes)
    zero, ones = np.zeros(3), np.ones(3)
    regions = enclose(plain, (zero[None], ones[None]), {})
    low = float(regions.lower[len(plain.nodes) - 1].min())
    tree = leaf_only(np.arange(1), intervals=True)
    # without the softmax this is true; the softmax's output is not above low
    about: dict[str, object] = {}
    row, offset = np.array([[1.0, 0.0]]), np.array([1.0 - low])
    claim = Proof(about, zero, ones, row, offset, trees=(tree,))
    check(claim, plain)
    with pytest.raises(Refused, match="no comparison"):
        check(claim, network)
