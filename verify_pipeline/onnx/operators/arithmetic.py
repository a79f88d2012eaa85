"""Sums, products, quotients and powers, of activations and with constants."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from verify_pipeline.network.affine_error import Norms, of_roundings
from verify_pipeline.network.ops import Add, Div, Elementwise, Mul, Op, Sub
from verify_pipeline.onnx.masks import finite, is_mask
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.registry import Call, reads
from verify_pipeline.onnx.trace import Activation, Trace, Value

LARGEST_POWER = 16

LEAST_NORMAL = 2.0**-14
"""The least normal number of float16, the greatest of all types."""


def add(trace: Trace, a: Value, b: Value) -> Value:
    """``a + b`` with broadcasting; ``-inf`` in a constant is a mask (``masks.py``)."""
    return _binary(trace, a, b, Add(), lambda x, c: plus(trace, x, c), np.add)


def plus(trace: Trace, x: Activation, constant: Array) -> Activation:
    """``x + constant``, where ``-inf`` in the constant means "never"."""
    total = trace.affine(x, 1.0, finite(constant))
    if is_mask(constant):
        trace.never(total)
    return total


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
    return _sum(call)


def _sum(call: Call) -> Value:
    values = [call.value(i) for i in range(len(call.inputs))]
    return reduce(lambda a, b: add(call.trace, a, b), values)


@reads("Mean")
def _mean(call: Call) -> Value:
    total, count = _sum(call), np.asarray(float(len(call.inputs)))
    if isinstance(total, Activation):
        return times_inverse(call.trace, total, count)
    return _quotient(total, count)


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
        return times_inverse(trace, a, b) if isinstance(a, Activation) else _quotient(a, b)
    if not isinstance(a, Activation):
        return multiply(trace, trace.emit(Elementwise("reciprocal"), b), a)
    return trace.emit(Div(), *trace.alike(a, b))


def times_inverse(trace: Trace, x: Activation, divisor: Array) -> Activation:
    """``x / divisor`` as a product with the inverse, which only powers of two have exactly.

    Below :data:`LEAST_NORMAL` they count as rounded, so that they are known to be divisors, which
    may become zero.
    """
    numbers = divisor.astype(np.float64)
    inverse = 1.0 / numbers
    largest = float(np.abs(inverse).max(initial=0.0))
    powers_of_two = bool((np.abs(np.frexp(numbers)[0]) == 0.5).all())
    exact = powers_of_two and largest <= 1 / LEAST_NORMAL
    return trace.affine(x, inverse, 0.0, of_roundings(0 if exact else 1, Norms(largest, 0.0)))


def _quotient(a: Array, b: Array) -> Array:
    quotient: Array = np.asarray(a, dtype=np.float64) / b.astype(np.float64)
    return quotient


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
    if not 0 < abs(power) <= LARGEST_POWER:
        raise call.unsupported(f"exponent {power}, not one up to {LARGEST_POWER}, or 0")
    if not (2 * power).is_integer():  # of numbers above 0 only, as the logarithm is
        logarithm = trace.affine(trace.emit(Elementwise("log"), x), power, 0.0)
        return trace.emit(Elementwise("exp"), logarithm)
    raised = _raised(trace, x, abs(power))
    return raised if power > 0 else trace.emit(Elementwise("reciprocal"), raised)


def _raised(trace: Trace, x: Activation, power: float) -> Activation:
    """``x ** power``, power a positive multiple of 1/2, by squares, roots and products."""
    if power == 1:
        return x
    if power % 1:
        root = trace.emit(Elementwise("sqrt"), x)
        return root if power < 1 else trace.emit(Mul(), _raised(trace, x, power - 0.5), root)
    if power % 2:
        return trace.emit(Mul(), _raised(trace, x, power - 1), x)
    return trace.emit(Elementwise("square"), _raised(trace, x, power / 2))
