"""Activation functions, and what is made of ReLUs."""

from __future__ import annotations

import math

import numpy as np

from verify_pipeline.network.ops import Elementwise, LeakyRelu, Relu, Softmax
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.arithmetic import add
from verify_pipeline.onnx.operators.registry import Call, reads
from verify_pipeline.onnx.trace import Activation, Trace, Value

FUNCTIONS = {
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Exp": "exp",
    "Sqrt": "sqrt",
    "Reciprocal": "reciprocal",
    "Erf": "erf",
    "Softplus": "softplus",
    "Sin": "sin",
    "Cos": "cos",
}


def _relu_of(trace: Trace, x: Activation, scale: float | Array, shift: float | Array) -> Activation:
    """``max(scale * x + shift, 0)``."""
    plain = bool(np.all(np.equal(scale, 1.0)) and np.all(np.equal(shift, 0.0)))
    return trace.emit(Relu(), x if plain else trace.affine(x, scale, shift))


@reads(*FUNCTIONS)
def _elementwise(call: Call) -> Value:
    return call.trace.emit(Elementwise(FUNCTIONS[call.node.op_type]), call.activation())


@reads("Gelu")
def _gelu(call: Call) -> Value:
    tanh = call.attribute("approximate", "none") == "tanh"
    return call.trace.emit(Elementwise("gelu_tanh" if tanh else "gelu"), call.activation())


@reads("Relu")
def _relu(call: Call) -> Value:
    return call.trace.emit(Relu(), call.activation())


@reads("LeakyRelu")
def _leaky_relu(call: Call) -> Value:
    slope = float(call.attribute("alpha", 0.01))
    if 0 <= slope <= 1:
        return call.trace.emit(LeakyRelu(slope), call.activation())
    return _two_slopes(call, np.asarray(slope))


@reads("PRelu")
def _parametric_relu(call: Call) -> Value:
    slope = call.constant(1)
    if slope is None:
        raise call.unsupported("no slope")
    return _two_slopes(call, slope)


def _two_slopes(call: Call, slope: Array) -> Value:
    """``max(x, 0) - slope * max(-x, 0)``."""
    x, trace = call.activation(), call.trace
    below = trace.affine(_relu_of(trace, x, -1.0, 0.0), -slope, 0.0)
    return add(trace, trace.emit(Relu(), x), below)


@reads("Abs")
def _abs(call: Call) -> Value:
    return _two_slopes(call, np.asarray(-1.0))


@reads("Clip")
def _clip(call: Call) -> Value:
    low, high = (_limit(call, name, index) for name, index in (("min", 1), ("max", 2)))
    return _clamp(call.trace, call.activation(), low, high)


def _limit(call: Call, name: str, index: int) -> float | None:
    """A limit of Clip, attribute or constant input; None for no limit."""
    found = call.attribute(name)
    if found is None:
        found = call.constant(index)
    if found is None:
        return None
    limit = float(np.asarray(found).reshape(()))
    # The greatest float stands for "no limit" where the limit is an attribute.
    return limit if abs(limit) < np.finfo(np.float32).max else None


def _clamp(trace: Trace, x: Activation, low: float | None, high: float | None) -> Activation:
    """``min(max(x, low), high)`` by ReLUs; ONNX lets ``high`` win where ``low`` is above it."""
    if low is not None and high is not None and low > high:
        low = high
    if low is not None:
        x = _relu_of(trace, x, 1.0, -low)
        high = None if high is None else high - low
    if high is not None:
        # min(x, h) = h - max(h - x, 0)
        x = trace.affine(_relu_of(trace, x, -1.0, high), -1.0, high)
    return x if not low else trace.affine(x, 1.0, low)


@reads("HardSigmoid")
def _hard_sigmoid(call: Call) -> Value:
    slope, shift = call.attribute("alpha", 0.2), call.attribute("beta", 0.5)
    return _clamp(call.trace, call.trace.affine(call.activation(), slope, shift), 0.0, 1.0)


@reads("Max")
def _max(call: Call) -> Value:
    return _extreme(call, 1.0)


@reads("Min")
def _min(call: Call) -> Value:
    return _extreme(call, -1.0)


def _extreme(call: Call, sign: float) -> Value:
    """``max(a, b) = b + max(a - b, 0)``, ``min(a, b) = b - max(b - a, 0)``."""
    if len(call.inputs) != 2:
        raise call.unsupported(f"{len(call.inputs)} inputs, not 2")
    a, b, trace = call.value(0), call.value(1), call.trace
    if not isinstance(a, Activation):
        a, b = b, a
    assert isinstance(a, Activation)
    negative = trace.affine(b, -1.0, 0.0) if isinstance(b, Activation) else -b
    difference = add(trace, a, negative)
    assert isinstance(difference, Activation)
    step = _relu_of(trace, difference, sign, 0.0)
    return add(trace, b, step if sign > 0 else trace.affine(step, -1.0, 0.0))


@reads("Softmax")
def _softmax(call: Call) -> Value:
    x, trace = call.activation(), call.trace
    axis = x.axis(int(call.attribute("axis", -1 if call.opset >= 13 else 1)))
    if call.opset >= 13 or axis == x.rank - 1:
        moved, (place,) = trace.along(x, axis)
        return trace.emit(Softmax(place), moved)
    # Before operator set 13, all axes from the given one on are one.
    flat = trace.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
    moved, (place,) = trace.along(flat, 1)
    return trace.reshape(trace.emit(Softmax(place), moved), x.shape)
