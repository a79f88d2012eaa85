"""Activation functions, and what is made of ReLUs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from verify_pipeline.network.limits import Maximum
from verify_pipeline.network.ops import (
    SELU_ALPHA,
    SELU_GAMMA,
    Elementwise,
    LeakyRelu,
    Mul,
    Relu,
    Softmax,
    Sub,
    Sum,
)
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.arithmetic import add, times_inverse
from verify_pipeline.onnx.operators.reductions import absolute, centred, reduce_axes
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
    "Log": "log",
    "Atan": "atan",
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
    slope = call.number("alpha", 0.01)
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


@reads("Shrink")
def _shrink(call: Call) -> Value:
    """``max(x - lambda, 0) - max(-x - lambda, 0)``, where it is continuous: bias = lambda."""
    width = call.number("lambd", 0.5)
    if call.number("bias", 0.0) != width or width < 0:
        raise call.unsupported("a jump: bias and lambd differ")
    x, trace = call.activation(), call.trace
    below = trace.affine(_relu_of(trace, x, -1.0, -width), -1.0, 0.0)
    return add(trace, _relu_of(trace, x, 1.0, -width), below)


@reads("Abs")
def _abs(call: Call) -> Value:
    return absolute(call.trace, call.activation())


@reads("Elu")
def _elu(call: Call) -> Value:
    return _exponential_below(call, call.number("alpha", 1.0))


@reads("Selu")
def _selu(call: Call) -> Value:
    alpha = call.number("alpha", SELU_ALPHA)
    gamma = call.number("gamma", SELU_GAMMA)
    return call.trace.affine(_exponential_below(call, alpha), gamma, 0.0)


@reads("Celu")
def _celu(call: Call) -> Value:
    alpha = call.number("alpha", 1.0)
    if alpha <= 0:
        raise call.unsupported(f"alpha {alpha}, not above 0")
    return _exponential_below(call, alpha, width=alpha)


def _exponential_below(call: Call, alpha: float, width: float = 1.0) -> Activation:
    """``max(x, 0) + alpha * (exp(min(x, 0) / width) - 1)``; one function of those that are known.

    CELU is ELU in other units: its ``alpha`` is its ``width``. Where no function is known, ELU
    itself is taken of ``min(x, 0)``: ``exp - 1`` would lose numbers near zero.
    """
    x, trace = call.activation(), call.trace
    if alpha == width == 1:
        return trace.emit(Elementwise("elu"), x)
    if alpha == width:
        scaled = times_inverse(trace, x, np.asarray(width))
        return trace.affine(trace.emit(Elementwise("elu"), scaled), width, 0.0)
    if (alpha, width) == (SELU_ALPHA, 1.0):
        return trace.emit(Elementwise("selu"), x)
    below = times_inverse(trace, _relu_of(trace, x, -1.0, 0.0), np.asarray(-width))
    falling = trace.affine(trace.emit(Elementwise("elu"), below), alpha, 0.0)
    total = add(trace, trace.emit(Relu(), x), falling)
    assert isinstance(total, Activation)
    return total


@reads("Clip")
def _clip(call: Call) -> Value:
    """``min(max(x, low), high)``: so ``high`` wins where ``low`` is above it."""
    x = call.activation()
    for name, index, sign in (("min", 1, 1.0), ("max", 2, -1.0)):
        limit = call.attribute(name)
        if limit is None:
            limit = call.constant(index)
        if limit is not None:
            x = _limited(call, x, np.asarray(limit, dtype=np.float64).reshape(()), sign)
    return x


def _limited(call: Call, x: Activation, limit: Array, sign: float) -> Activation:
    """``max(x, limit)``; with sign -1, ``min(x, limit)``.

    A limit beyond every number that the file holds x in is none: exporters write the greatest float
    where there is no limit. That of a half precision is one: other values may exceed it.
    """
    if not sign * limit.max() < np.inf or np.isnan(limit).any():
        raise call.unsupported(f"a limit that is {'NaN' if np.isnan(limit).any() else 'infinite'}")
    if bool((sign * limit <= np.finfo(np.promote_types(x.dtype, np.float32)).min).all()):
        return call.trace.spread(x, np.broadcast_shapes(x.shape, limit.shape))
    return _at_least(call.trace, x, limit) if sign > 0 else _at_most(call.trace, x, limit)


def _at_least(trace: Trace, x: Activation, limit: Array) -> Activation:
    """``max(x, limit)``."""
    return trace.at_least(x, limit) if limit.any() else trace.emit(Relu(), _like(trace, x, limit))


def _like(trace: Trace, x: Activation, other: Array) -> Activation:
    return trace.spread(x, np.broadcast_shapes(x.shape, other.shape))


def _at_most(trace: Trace, x: Activation, limit: Array) -> Activation:
    """``min(x, limit) = -max(-x, -limit)``, which rounds nothing."""
    return trace.affine(_at_least(trace, trace.affine(x, -1.0, 0.0), -limit), -1.0, 0.0)


@reads("HardSigmoid")
def _hard_sigmoid(call: Call) -> Value:
    slope, shift = call.number("alpha", 0.2), call.number("beta", 0.5)
    trace = call.trace
    above = trace.emit(Relu(), trace.affine(call.activation(), slope, shift))
    return _at_most(trace, above, np.asarray(1.0))


@reads("HardSwish")
def _hard_swish(call: Call) -> Value:
    return call.trace.emit(Elementwise("hardswish"), call.activation())


@reads("Swish")
def _swish(call: Call) -> Value:
    """``x * sigmoid(a x)``: ``silu(a x) / a``."""
    x, trace, alpha = call.activation(), call.trace, call.number("alpha", 1.0)
    if alpha == 0:
        return trace.affine(x, 0.5, 0.0)
    steep = x if alpha == 1 else trace.affine(x, alpha, 0.0)
    gated = trace.emit(Elementwise("silu"), steep)
    return gated if alpha == 1 else times_inverse(trace, gated, np.asarray(alpha))


@reads("Mish")
def _mish(call: Call) -> Value:
    return call.trace.emit(Elementwise("mish"), call.activation())


@reads("Softsign")
def _softsign(call: Call) -> Value:
    """``x / (1 + |x|)``."""
    x, trace = call.activation(), call.trace
    spread = trace.affine(absolute(trace, x), 1.0, 1.0)
    return _gated(trace, x, trace.emit(Elementwise("reciprocal"), spread))


def _gated(trace: Trace, x: Activation, gate: Activation) -> Activation:
    return trace.emit(Mul(), *trace.alike(x, gate))


@reads("Max")
def _max(call: Call) -> Value:
    return _extreme(call, 1.0)


@reads("Min")
def _min(call: Call) -> Value:
    return _extreme(call, -1.0)


def _extreme(call: Call, sign: float) -> Value:
    """Of all inputs, one after another; of constants alone in their own precision."""
    of_constants = np.maximum if sign > 0 else np.minimum

    def of_two(a: Value, b: Value) -> Value:
        if not isinstance(a, Activation):
            a, b = b, a
        if not isinstance(a, Activation):
            assert not isinstance(b, Activation)
            return np.asarray(of_constants(a, b))
        if isinstance(b, Activation):
            return _greater_or_less(call.trace, a, b, sign)
        return _limited(call, a, np.asarray(b, dtype=np.float64), sign)

    return reduce(of_two, [call.value(i) for i in range(len(call.inputs))])


def _greater_or_less(trace: Trace, a: Activation, b: Activation, sign: float) -> Activation:
    """The greater of two; with sign -1 the lesser: ``min(a, b) = -max(-a, -b)``."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    pair = [trace.spread(x, shape) for x in (a, b)]
    if sign < 0:
        pair = [trace.affine(x, -1.0, 0.0) for x in pair]
    found = trace.emit(Maximum(), *trace.alike(*pair))
    return found if sign > 0 else trace.affine(found, -1.0, 0.0)


@reads("Softmax")
def _softmax(call: Call) -> Value:
    def softmax(x: Activation, axis: int) -> Activation:
        moved, (place,) = call.trace.along(x, axis)
        return call.trace.emit(Softmax(place), moved)

    return _over_axis(call, softmax)


@reads("LogSoftmax")
def _log_softmax(call: Call) -> Value:
    """``x - log Σ exp(x)``; less the mean first, which changes nothing but keeps exp small.

    Differences of outputs stay differences of inputs in linear bounds, exactly.
    """
    trace = call.trace

    def log_softmax(x: Activation, axis: int) -> Activation:
        x = centred(trace, x, [axis])
        total = reduce_axes(trace, trace.emit(Elementwise("exp"), x), Sum, [axis])
        return trace.emit(Sub(), *trace.alike(x, trace.emit(Elementwise("log"), total)))

    return _over_axis(call, log_softmax)


def _over_axis(call: Call, function: Callable[[Activation, int], Activation]) -> Activation:
    """A function over the node's axis, as its operator set means it."""
    x, trace = call.activation(), call.trace
    axis = x.axis(int(call.attribute("axis", -1 if call.opset >= 13 else 1)))
    if call.opset >= 13 or axis == x.rank - 1:
        return function(x, axis)
    # Before operator set 13, all axes from the given one on are one.
    flat = trace.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
    return trace.reshape(function(flat, 1), x.shape)
