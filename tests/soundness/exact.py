"""An ONNX file's function in exact rational arithmetic.

Every float32 weight is a rational number. Affine layers, ReLUs, maxima and means keep numbers
rational, so the file's real-valued function is computed without any rounding, by a reader that
shares nothing with the package's. Arrays hold ``Fraction``; the first axis is the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from tests.exact_arrays import convolved, rational, windows
from tests.soundness.contract import Array

Kink = Callable[[Array], None]
"""Is told each ``N x …`` array that a ReLU cuts at zero."""


class ExactNetwork:
    """An ONNX file of one input and one output, in rational arithmetic.

    Args:
        data: the file.

    Raises:
        ValueError: an operator is none of those below.
    """

    def __init__(self, data: bytes) -> None:
        graph = onnx.load_model_from_string(data).graph
        arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self._constants = {
            name: rational(array) if array.dtype.kind == "f" else array
            for name, array in arrays.items()
        }
        self._nodes = list(graph.node)
        (self._input,) = (one.name for one in graph.input if one.name not in arrays)
        self._output = graph.output[0].name
        unknown = {node.op_type for node in self._nodes} - _OPERATORS.keys()
        if unknown:
            raise ValueError(f"no exact rule of {sorted(unknown)}")

    def __call__(self, points: Array, kink: Kink = lambda _: None) -> Array:
        """Outputs ``N x K`` at points ``N x *X``."""
        values = {**self._constants, self._input: points}
        for node in self._nodes:
            inputs = [values[name] if name else None for name in node.input]
            values[node.output[0]] = _OPERATORS[node.op_type](_Call(node, inputs, kink))
        found = values[self._output]
        return found.reshape(len(found), -1)


@dataclass(frozen=True, eq=False)
class _Call:
    node: NodeProto
    inputs: Sequence[Any]
    kink: Kink

    def attribute(self, name: str, default: Any) -> Any:
        for item in self.node.attribute:
            if item.name == name:
                found = helper.get_attribute_value(item)
                return found.decode() if isinstance(found, bytes) else found
        return default

    def relu(self, x: Array) -> Array:
        self.kink(x)
        found = x.copy()
        found[x <= 0] = Fraction(0)
        return found

    def greater(self, a: Array, b: Array) -> Array:
        return np.asarray(self.relu(a - b) + b)


def _gemm(call: _Call) -> Any:
    x, weight = call.inputs[:2]
    weight = weight.T if call.attribute("transB", 0) else weight
    found = (x @ weight) * Fraction(call.attribute("alpha", 1.0))
    if len(call.inputs) > 2:
        found = found + call.inputs[2] * Fraction(call.attribute("beta", 1.0))
    return found


def _windows(call: _Call, kernel: Sequence[int], fill: Fraction | None) -> Array:
    """``fill`` None where no window leaves the image."""
    stride, dilation = (call.attribute(name, [1, 1]) for name in ("strides", "dilations"))
    pads = call.attribute("pads", [0, 0, 0, 0])
    return windows(call.inputs[0], kernel, stride, dilation, pads, fill)


def _conv(call: _Call) -> Array:
    weight = call.inputs[1]
    seen = _windows(call, weight.shape[2:], Fraction(0))
    found = convolved(seen, weight, call.attribute("group", 1))
    if len(call.inputs) > 2:
        found = found + call.inputs[2].reshape(1, -1, 1, 1)
    return found


def _pool(call: _Call) -> list[Array]:
    """The elements of each window, ``N x C x H x W`` each, without padding."""
    if any(call.attribute("pads", [0])):
        raise ValueError("no exact rule of pooling with padding")
    kernel = call.attribute("kernel_shape", [])
    seen = _windows(call, kernel, None)
    return [seen[..., i, j] for i in range(kernel[0]) for j in range(kernel[1])]


def _average_pool(call: _Call) -> Any:
    parts = _pool(call)
    return sum(parts[1:], parts[0]) * Fraction(1, len(parts))


def _max_pool(call: _Call) -> Any:
    first, *others = _pool(call)
    for other in others:
        first = call.greater(first, other)
    return first


def _batch_norm(call: _Call) -> Any:
    """Of variances whose sum with ε is a square of a rational number."""
    x, scale, shift, mean, variance = call.inputs
    epsilon = Fraction(call.attribute("epsilon", float(np.float32(1e-5))))
    shape = (1, -1, *[1] * (x.ndim - 2))
    factor = np.array(
        [s / _root(v + epsilon) for s, v in zip(scale, variance, strict=True)], dtype=object
    )
    return (x - mean.reshape(shape)) * factor.reshape(shape) + shift.reshape(shape)


def _root(square: Fraction) -> Fraction:
    found = Fraction(math.isqrt(square.numerator), math.isqrt(square.denominator))
    if found**2 != square:
        raise ValueError(f"no exact root of {square}")
    return found


def _leaky_relu(call: _Call) -> Any:
    x, slope = call.inputs[0], Fraction(call.attribute("alpha", float(np.float32(0.01))))
    return call.relu(x) * (1 - slope) + x * slope


def _mean(call: _Call) -> Any:
    first, *others = call.inputs
    return sum(others, first) * Fraction(1, len(call.inputs))


def _flatten(call: _Call) -> Any:
    x = call.inputs[0]
    return x.reshape(len(x), -1)


_OPERATORS: dict[str, Callable[[_Call], Any]] = {
    "Gemm": _gemm,
    "MatMul": lambda call: call.inputs[0] @ call.inputs[1],
    "Add": lambda call: call.inputs[0] + call.inputs[1],
    "Sub": lambda call: call.inputs[0] - call.inputs[1],
    "Mul": lambda call: call.inputs[0] * call.inputs[1],
    "Div": lambda call: call.inputs[0] / call.inputs[1],
    "Sum": lambda call: sum(call.inputs[1:], call.inputs[0]),
    "Mean": _mean,
    "Neg": lambda call: -call.inputs[0],
    "Identity": lambda call: call.inputs[0],
    "Relu": lambda call: call.relu(call.inputs[0]),
    "LeakyRelu": _leaky_relu,
    "Abs": lambda call: call.relu(call.inputs[0]) + call.relu(-call.inputs[0]),
    "Max": lambda call: call.greater(*call.inputs),
    "Conv": _conv,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "BatchNormalization": _batch_norm,
    "Flatten": _flatten,
    "Reshape": lambda call: call.inputs[0].reshape(len(call.inputs[0]), *call.inputs[1][1:]),
    "Concat": lambda call: np.concatenate(call.inputs, axis=call.attribute("axis", 1)),
}
