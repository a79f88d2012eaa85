"""Files in half precision, converted by hand from files in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from verify_pipeline.onnx.half import OF_FILES

HALVES = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
"""ONNX's numbers of the half precisions."""


def converted(data: bytes, name: str, behind_casts: bool = False) -> bytes:
    """A float32 file with its weights, inputs and outputs rounded to a half precision.

    Args:
        data: the file, whose operators' types follow from its inputs and weights.
        name: of the half precision.
        behind_casts: whether inputs and outputs stay float32, behind casts.
    """
    model, element = onnx.load_model_from_string(data), HALVES[name]
    graph = model.graph
    for tensor in _weights(model):
        values = numbers(name, numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    del graph.value_info[:]
    if behind_casts:
        _cast_ends(model, element)
    else:
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.elem_type = element
    return bytes(model.SerializeToString())


def with_rounded_weights(data: bytes, name: str) -> bytes:
    """The float32 file with weights rounded to a half precision."""
    model = onnx.load_model_from_string(data)
    for tensor in _weights(model):
        values = numbers(name, numpy_helper.to_array(tensor)).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return bytes(model.SerializeToString())


def _weights(model: ModelProto) -> list[TensorProto]:
    return [one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT]


def _cast_ends(model: ModelProto, element: int) -> None:
    graph = model.graph
    given, computed = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        node.input[:] = ["in_half" if name == given else name for name in node.input]
        node.output[:] = ["out_half" if name == computed else name for name in node.output]
    nodes = [
        helper.make_node("Cast", [given], ["in_half"], to=element),
        *graph.node,
        helper.make_node("Cast", ["out_half"], [computed], to=TensorProto.FLOAT),
    ]
    del graph.node[:]
    graph.node.extend(nodes)


def numbers(name: str, values: ArrayLike) -> NDArray[Any]:
    """Numbers rounded to a half precision, of its numpy type."""
    return np.asarray(values, np.float32).astype(OF_FILES[HALVES[name]])
