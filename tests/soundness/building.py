"""Small ONNX files, written node by node, whose values can be looked at on the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.onnx_networks import node
from tests.soundness.contract import Array
from tests.soundness.replaying import outputs_of

OPSETS = {"Gelu": 20, "Mish": 18, "Swish": 24}
"""Operator sets in which newer operators first occur; 17 has the others."""


class FileBuilder:
    """A file of an input ``x`` with a free batch axis and an output ``y``.

    Args:
        shape: ``*X``.
        opset: version of the operators.
    """

    def __init__(self, shape: tuple[int, ...], opset: int = 17) -> None:
        self.shape, self._opset = shape, opset
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, Array] = {}

    def add(self, operator: str, *inputs: str | Array | None, **attributes: Any) -> str:
        """A node of values, by their names, and constants; gives the name of its output."""
        names = [self._name_of(one) for one in inputs]
        output = f"v{len(self._nodes)}"
        self._nodes.append(node(operator, *names, output, **attributes))
        return output

    def _name_of(self, value: str | Array | None) -> str:
        if value is None or isinstance(value, str):
            return value or ""
        name = f"w{len(self._weights)}"
        array = np.asarray(value)
        self._weights[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return name

    def linear(self, x: str, weight: Array, bias: Array | None = None) -> str:
        """``x W^T + b`` of vectors, W with a row for each output."""
        given = [] if bias is None else [bias]
        return self.add("Gemm", x, np.asarray(weight, np.float32), *given, transB=1)

    def data(self, output: str, double: bool = False) -> bytes:
        """The file whose output is that value.

        Args:
            output: a value's name.
            double: whether all is computed in float64.
        """
        kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
        tensors = [
            numpy_helper.from_array(
                array.astype(np.float64) if double and array.dtype == np.float32 else array, name
            )
            for name, array in self._weights.items()
        ]
        given = helper.make_tensor_value_info("x", kind, ["n", *self.shape])
        nodes = [*self._nodes, helper.make_node("Identity", [output], ["y"])]
        wanted = helper.make_tensor_value_info("y", kind, None)
        graph = helper.make_graph(nodes, "battery", [given], [wanted], tensors)
        opset = [helper.make_opsetid("", self._opset)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=10)
        return bytes(model.SerializeToString())

    def value(self, output: str, points: Array) -> Array:
        """What onnxruntime computes for a value at float32 points ``N x *X``, ``N x *V``."""
        return outputs_of(self.data(output), points)


def normal(rng: Generator, *shape: int, gain: float = 1.0) -> Array:
    """Random weights ``O x …`` in float32, scaled by their number of inputs."""
    inputs = max(1, math.prod(shape[1:]))
    return (rng.normal(size=shape) * gain / math.sqrt(inputs)).astype(np.float32)


def choice(rng: Generator, options: Sequence[Any]) -> Any:
    """One of several things of any type."""
    return options[int(rng.integers(len(options)))]
