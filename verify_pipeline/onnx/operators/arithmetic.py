"""Sums, products, quotients and powers, of activations and with constants."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from verify_pipeline.network.ops import Add, Div, Elementwise, Mul, Op, Sub
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.registry import Call, reads
from verify_pipeline.onnx.trace import Activation, Trace, Value


def add(trace: Trace, a: Value, b: Value) -> Value:
    """``a + b`` with broadcasting."""
    return _binary(trace, a, b, Add(), lambda x, c: trace.affine(x, 1.0, c), np.add)


def multiply(trace: Trace, a: Value, b: Value) -> Value:
    """``a * b`` with broadcasting; an activation times itself is a square."""
    if isinstance(a, Activation) and isinstance(b, Activation) and a == b:
        return trace.emit(Elementwise("square"), a)
    return _binary(trace, a, b, Mul(), lambda x, c: trace.affine(x, c, 0.0), np.multiply)


def _binary(
    trace: Trace,
    a: Value,
    b: Value,
    op: Op,
    with_constant: Callable[[Activation, Array], Activation],
    of_constants: Callable[[Array, Array], Array],
) -> Value:
    """A commutative operation; of constants it is computed in float64, as later merging is."""
    if isinstance(a, Activation):
        if isinstance(b, Activation):
            return trace.emit(op, *trace.alike(a, b))
        return with_constant(a, b)
    if isinstance(b, Activation):
        return with_constant(b, a)
    return of_constants(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))


@reads("Add", "Sum")
def _add(call: Call) -> Value:
    values = [call.value(i) for i in range(len(call.inputs))]
    return reduce(lambda a, b: add(call.trace, a, b), values)


@reads("Mul")
def _mul(call: Call) -> Value:
    return multiply(call.trace, call.value(0), call.value(1))


@reads("Sub")
def _sub(call: Call) -> Value:
    a, b, trace = call.value(0), call.value(1), call.trace
    if not isinstance(b, Activation):
        return add(trace, a, -b)
    if not isinstance(a, Activation):
        return trace.affine(b, -1.0, a)
    return trace.emit(Sub(), *trace.alike(a, b))


@reads("Div")
def _div(call: Call) -> Value:
    a, b, trace = call.value(0), call.value(1), call.trace
    if not isinstance(b, Activation):
        return multiply(trace, a, 1.0 / b.astype(np.float64))
    if not isinstance(a, Activation):
        return multiply(trace, trace.emit(Elementwise("reciprocal"), b), a)
    return trace.emit(Div(), *trace.alike(a, b))


@reads("Neg")
def _neg(call: Call) -> Value:
    return call.trace.affine(call.activation(), -1.0, 0.0)


@reads("Pow")
def _pow(call: Call) -> Value:
    exponent = call.constant(1)
    x, trace = call.activation(), call.trace
    if exponent is None or exponent.size != 1:
        raise call.unsupported("an exponent that is not one number")
    power = float(exponent.reshape(()))
    functions = {2.0: "square", 0.5: "sqrt", -1.0: "reciprocal"}
    if power == 1.0:
        return x
    if power == 3.0:
        return trace.emit(Mul(), trace.emit(Elementwise("square"), x), x)
    if power not in functions:
        raise call.unsupported(f"exponent {power}, not 1, 2, 3, 1/2 or -1")
    return trace.emit(Elementwise(functions[power]), x)
