"""Small ONNX files that tests share: made of nodes, or with numbers to check by hand.

The input of each is ``x`` and its output ``y``, unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import nn

from verify_pipeline.onnx import Network, load_network, network_from_module

Array = NDArray[Any]
Shape = Sequence[int | str]
"""Of an input with its batch axis, which is a name, such as "n", where it is free."""


def node(operator: str, *names: str, **attributes: Any) -> NodeProto:
    """A node of one output, which is the last of the names; "" leaves an input out."""
    return helper.make_node(operator, list(names[:-1]), [names[-1]], **attributes)


def singles(**numbers: ArrayLike) -> dict[str, Array]:
    """Float32 weights by their names."""
    return {name: np.asarray(number, np.float32) for name, number in numbers.items()}


def onnx_file(
    nodes: Sequence[NodeProto],
    input_shape: Shape,
    weights: Mapping[str, Any] | None = None,
    opset: int = 13,
    listed: bool = False,
    input_type: int = TensorProto.FLOAT,
) -> bytes:
    """A file that computes ``y`` of ``x``.

    Args:
        nodes: in topological order.
        input_shape: of ``x``.
        weights: constants by their names.
        opset: version of the operators.
        listed: whether weights stand among the inputs too, as old exporters write them.
        input_type: of ``x`` and ``y``.
    """
    tensors = [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    inputs = [helper.make_tensor_value_info("x", input_type, list(input_shape))]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    output = helper.make_tensor_value_info("y", input_type, None)
    graph = helper.make_graph(list(nodes), "test", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def written_network(path: Path, data: bytes, check_parity: bool = True) -> Network:
    """The network of a file that is written first."""
    path.write_bytes(data)
    return load_network(path, check_parity=check_parity)


def operator_file(
    operator: str,
    input_shape: Shape,
    *weights: Array | np.generic | None,
    opset: int = 13,
    **attributes: Any,
) -> bytes:
    """One operator of ``x`` and constants; None leaves an input out."""
    named = {f"w{i}": np.asarray(w) for i, w in enumerate(weights) if w is not None}
    inputs = ["" if w is None else f"w{i}" for i, w in enumerate(weights)]
    return onnx_file([node(operator, "x", *inputs, "y", **attributes)], input_shape, named, opset)


def mlp_file(input_shape: Shape = ("n", 2), **options: Any) -> bytes:
    """``y = relu(x W0 + b0) W1 + b1`` of two inputs, a product, a sum, a ReLU and a Gemm.

    With W0 = (1 -1; 2 1), b0 = (0 -1), W1 = (1 0; 1 1), b1 = (0.5 0): at x = (1, 1) the ReLUs are
    (3, 0) and y = (3.5, 0); at x = (0, 2) they are (4, 1) and y = (5.5, 1).

    Args:
        input_shape: of ``x``.
        options: of :func:`onnx_file`.
    """
    weights = singles(w0=[[1, -1], [2, 1]], b0=[0, -1], w1=[[1, 0], [1, 1]], b1=[0.5, 0])
    nodes = [
        node("MatMul", "x", "w0", "a"),
        node("Add", "a", "b0", "b"),
        node("Relu", "b", "c"),
        node("Gemm", "c", "w1", "b1", "y"),
    ]
    return onnx_file(nodes, input_shape, weights, **options)


def layers_file(input_shape: Shape, *layers: str | tuple[ArrayLike, ...]) -> bytes:
    """Layers one after the other.

    Args:
        input_shape: of ``x``.
        layers: operators of one input, by name, and linear layers: a weight, which has a row for
            each output, and a bias, or none.
    """
    nodes: list[NodeProto] = []
    weights: dict[str, Array] = {}
    last = "x"
    for place, layer in enumerate(layers):
        found = "y" if place == len(layers) - 1 else f"h{place}"
        if isinstance(layer, str):
            nodes.append(node(layer, last, found))
        else:
            named = singles(
                **{f"{letter}{place}": v for letter, v in zip("wb", layer, strict=False)}
            )
            nodes.append(node("Gemm", last, *named, found, transB=1))
            weights |= named
        last = found
    return onnx_file(nodes, input_shape, weights)


def dense_network(seed: int, *widths: int, activation: nn.Module | None = None) -> Network:
    """Linear layers of these widths, as torch initialises them, with activations between them.

    Args:
        seed: of the weights.
        widths: lengths of the input, the hidden layers and the output.
        activation: behind the first layer; None: ReLU, as behind the others.
    """
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for into, out in pairwise(widths):
            layers += [nn.Linear(into, out), nn.ReLU()]
    if activation is not None:
        layers[1] = activation
    return network_from_module(nn.Sequential(*layers[:-1]), widths[:1])


def two_pixel_file(weight: Array, operators: Sequence[str] = ()) -> bytes:
    """A linear classifier ``y = h W`` of images 1 x 1 x 2, whose h is the operators of the pixels.

    Args:
        weight: ``2 x K``.
        operators: with one input each, applied to the flat pixels in this order.
    """
    names = ["flat", *(f"n{place}" for place in range(len(operators)))]
    nodes = [node("Flatten", "x", "flat")]
    nodes += [node(op, *names[place : place + 2]) for place, op in enumerate(operators)]
    nodes += [node("MatMul", names[-1], "w", "y")]
    return onnx_file(nodes, ("n", 1, 1, 2), singles(w=weight))


def steep_file(slope: float, classes: int = 2, input_type: int = TensorProto.DOUBLE) -> bytes:
    """``y_0 = slope (x - 0.1)``, and with two classes ``y_1 = 1.5``.

    With a slope of 1e9, y_0 < y_1 where x < 0.1 + 1.5e-9. The float32 number nearest to 0.1 is
    0.1 + 1.49e-9, where y_0 = 1.49.
    """
    dtype = helper.tensor_dtype_to_np_dtype(input_type)
    weights = {
        "b": np.array([0.1], dtype),
        "w": np.array([[slope, 0.0][:classes]], dtype),
        "c": np.array([0.0, 1.5][:classes], dtype),
    }
    nodes = [node("Sub", "x", "b", "d"), node("MatMul", "d", "w", "m"), node("Add", "m", "c", "y")]
    return onnx_file(nodes, ("n", 1), weights, input_type=input_type)
