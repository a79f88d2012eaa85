"""The values of a graph in exact arithmetic: fractions, and 60 digits for functions like exp."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import singledispatch
from typing import Any

import mpmath
import numpy as np
import torch
from torch import Tensor

from tests.exact_arrays import convolved, rational, windows
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast, Maximum
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Constant,
    Conv2d,
    Div,
    Elementwise,
    Gather,
    LeakyRelu,
    Linear,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Op,
    Pad,
    Relu,
    Reshape,
    Scale,
    Slice,
    Softmax,
    Sub,
    Sum,
    Transpose,
)

Exact = Any
"""A numpy array of fractions, which numpy's types cannot express."""

DIGITS = 60

ZERO: Any = Fraction(0)


def fractions(values: Tensor) -> Exact:
    """The numbers of a tensor as fractions."""
    return rational(values.double().numpy())


def exact_values(graph: Graph, point: Tensor) -> list[Exact]:
    """The value ``*V`` of each node at a point ``*X``."""
    values = [fractions(point)]
    for node in graph.nodes[1:]:
        value = np.asarray(exact(node.op, *(values[i] for i in node.inputs)), dtype=object)
        values.append(value.reshape(node.shape))
    return values


def exact_rows(rows: Tensor, offsets: Tensor, output: Exact) -> list[Fraction]:
    """The rows ``S x K`` of one specification at an exact output ``K``."""
    return [
        sum((a * b for a, b in zip(row, output, strict=True)), start=offset)
        for row, offset in zip(fractions(rows), fractions(offsets), strict=True)
    ]


def holds(lower: Tensor, values: Sequence[Fraction]) -> bool:
    """Whether all lower bounds are at most the exact values; infinite ones are."""
    bounds = lower.flatten().tolist()
    return all(b == -math.inf or Fraction(b) <= v for b, v in zip(bounds, values, strict=True))


@singledispatch
def exact(op: Op, *inputs: Exact) -> Exact:
    """The value of an operation, without the batch axis."""
    raise NotImplementedError(type(op).__name__)


@exact.register
def _(op: Linear, *inputs: Exact) -> Exact:
    product = inputs[0] @ fractions(op.weight).T
    return product if op.bias is None else product + fractions(op.bias)


def _pads(op: Conv2d | AvgPool2d) -> tuple[int, int, int, int]:
    return (*op.padding, *op.padding)


@exact.register
def _(op: Conv2d, *inputs: Exact) -> Exact:
    weight = fractions(op.weight)
    kernel = weight.shape[2:]
    seen = windows(inputs[0][None], kernel, op.stride, op.dilation, _pads(op), ZERO)
    value = convolved(seen, weight, op.groups)[0]
    return value if op.bias is None else value + fractions(op.bias).reshape(-1, 1, 1)


@exact.register
def _(op: AvgPool2d, *inputs: Exact) -> Exact:
    assert op.count_include_pad or op.padding == (0, 0)
    seen = windows(inputs[0][None], op.kernel, op.stride, pads=_pads(op), fill=ZERO)
    return seen[0].sum(axis=(-2, -1)) / (op.kernel[0] * op.kernel[1])


@exact.register
def _(op: MaxPool2d, *inputs: Exact) -> Exact:
    assert op.padding == (0, 0)
    return windows(inputs[0][None], op.kernel, op.stride, op.dilation)[0].max(axis=(-2, -1))


@exact.register
def _(op: Scale, *inputs: Exact) -> Exact:
    return inputs[0] * fractions(op.scale) + fractions(op.shift)


@exact.register(Reshape)
@exact.register(Transpose)
@exact.register(Slice)
@exact.register(Gather)
def _(op: Op, *inputs: Exact) -> Exact:
    """Moved as indices are."""
    x = inputs[0]
    places = torch.arange(x.size, dtype=torch.float64).view(1, *x.shape)
    return x.flatten()[op(places)[0].long().numpy()]


@exact.register
def _(op: Pad, *inputs: Exact) -> Exact:
    pairs = list(zip(op.widths[::2], op.widths[1::2], strict=True))
    widths = [(0, 0)] * (inputs[0].ndim - len(pairs)) + pairs[::-1]
    return np.pad(inputs[0], widths, constant_values=ZERO)


@exact.register
def _(op: Mean, *inputs: Exact) -> Exact:
    count = int(np.prod([inputs[0].shape[axis] for axis in op.axes]))
    return inputs[0].sum(axis=op.axes, keepdims=op.keepdim) / count


@exact.register
def _(op: Sum, *inputs: Exact) -> Exact:
    return np.asarray(inputs[0].sum(axis=op.axes, keepdims=op.keepdim), dtype=object)


@exact.register
def _(op: Add, *inputs: Exact) -> Exact:
    return inputs[0] + inputs[1]


@exact.register
def _(op: Sub, *inputs: Exact) -> Exact:
    return inputs[0] - inputs[1]


@exact.register
def _(op: Mul, *inputs: Exact) -> Exact:
    return inputs[0] * inputs[1]


@exact.register
def _(op: Div, *inputs: Exact) -> Exact:
    return inputs[0] / inputs[1]


@exact.register
def _(op: MatMul, *inputs: Exact) -> Exact:
    return inputs[0] @ inputs[1]


@exact.register
def _(op: Concat, *inputs: Exact) -> Exact:
    return np.concatenate(inputs, axis=op.axis)


@exact.register
def _(op: Constant, *inputs: Exact) -> Exact:
    return fractions(op.value)


@exact.register
def _(op: Relu, *inputs: Exact) -> Exact:
    return np.maximum(inputs[0], ZERO)


@exact.register
def _(op: LeakyRelu, *inputs: Exact) -> Exact:
    return np.where(inputs[0] < 0, inputs[0] * Fraction(op.slope), inputs[0])


@exact.register
def _(op: AtLeast, *inputs: Exact) -> Exact:
    return np.maximum(inputs[0], fractions(op.limit))


@exact.register
def _(op: Maximum, *inputs: Exact) -> Exact:
    return np.maximum(inputs[0], inputs[1])


@exact.register
def _(op: Elementwise, *inputs: Exact) -> Exact:
    return np.vectorize(lambda x: of_function(op.function, x), otypes=[object])(inputs[0])


@exact.register
def _(op: Softmax, *inputs: Exact) -> Exact:
    powers = np.vectorize(lambda x: of_function("exp", x), otypes=[object])(inputs[0])
    return powers / powers.sum(axis=op.axis, keepdims=True)


def of_function(name: str, x: Fraction) -> Fraction:
    """The value of the named function, to :data:`DIGITS` digits."""
    if name == "square":
        return x * x
    if name == "reciprocal":
        return 1 / x
    with mpmath.workdps(DIGITS):
        value = _FUNCTIONS[name](mpmath.mpf(x.numerator) / x.denominator)
        return _fraction(value)


def _fraction(value: Any) -> Fraction:
    sign, mantissa, exponent, _ = value._mpf_
    number = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    return -number if sign else number


def _hard_swish(x: Any) -> Any:
    return x * min(max(x / 6 + mpmath.mpf(1) / 2, mpmath.mpf(0)), mpmath.mpf(1))


_SELU = mpmath.mpf(1.67326319217681884765625)

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "exp": mpmath.exp,
    "sqrt": mpmath.sqrt,
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda x: (
        x * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mpmath.mpf(0.044715) * x**3))) / 2
    ),
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "selu": lambda x: x if x > 0 else _SELU * mpmath.expm1(x),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "hardswish": _hard_swish,
    "erf": mpmath.erf,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "log": mpmath.log,
    "atan": mpmath.atan,
}
