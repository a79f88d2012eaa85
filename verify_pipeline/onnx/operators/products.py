"""Matrix products."""

from __future__ import annotations

import math

import numpy as np

from verify_pipeline.network.ops import Linear, MatMul
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.arithmetic import add, multiply
from verify_pipeline.onnx.operators.registry import Call, reads
from verify_pipeline.onnx.trace import Activation, Trace, Value, tensor


@reads("MatMul")
def _matmul(call: Call) -> Value:
    return product(call.trace, call.value(0), call.value(1))


@reads("Gemm")
def _gemm(call: Call) -> Value:
    """``alpha * A B + beta * C``, A and B transposed on wish."""
    trace = call.trace
    a, b = (
        _transposed(trace, call.value(i)) if call.attribute(flag, 0) else call.value(i)
        for i, flag in enumerate(("transA", "transB"))
    )
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    result: Value = product(trace, a, b)
    if alpha != 1.0:
        result = multiply(trace, result, np.asarray(alpha))
    if len(call.inputs) > 2 and call.inputs[2] is not None and beta:
        offset = call.value(2)
        if beta != 1.0:
            offset = multiply(trace, offset, np.asarray(beta))
        result = add(trace, result, offset)
    return result


def product(trace: Trace, a: Value, b: Value) -> Activation:
    """``a @ b`` as numpy has it; a constant matrix makes it a linear operation."""
    if isinstance(a, Activation) and not isinstance(b, Activation) and b.ndim <= 2:
        return _times_matrix(trace, a, b)
    if isinstance(b, Activation) and not isinstance(a, Activation) and a.ndim <= 2:
        if b.rank == 1:
            return _times_matrix(trace, b, a.T)
        # A x = (x^T A^T)^T, with x's last two axes swapped.
        turned = _times_matrix(trace, _swapped(trace, b), a.T)
        return turned if a.ndim == 1 else _swapped(trace, turned)
    like = a if isinstance(a, Activation) else b
    assert isinstance(like, Activation)
    return _of_activations(trace, trace.activation(a, like), trace.activation(b, like))


def _times_matrix(trace: Trace, x: Activation, matrix: Array) -> Activation:
    """``x @ matrix``, matrix ``I x O`` or ``I``, over the last axis of x."""
    x, _ = trace.along(x, -1)
    if matrix.ndim == 2:
        return trace.emit(Linear(tensor(matrix.T)), x)
    result = trace.emit(Linear(tensor(matrix[None])), x)
    return trace.reshape(result, result.shape[:-1])


def _of_activations(trace: Trace, a: Activation, b: Activation) -> Activation:
    """``a @ b`` over the last two axes."""
    if a.rank < 2 or b.rank < 2:
        # numpy's rule for vectors: a row on the left, a column on the right, dropped afterwards.
        left = trace.reshape(a, (1, *a.shape)) if a.rank == 1 else a
        right = trace.reshape(b, (*b.shape, 1)) if b.rank == 1 else b
        both = _of_activations(trace, left, right)
        shape = both.shape[:-2] + both.shape[-2:-1] * (a.rank > 1) + both.shape[-1:] * (b.rank > 1)
        return trace.reshape(both, shape)
    if a.rank == 2 or b.rank == 2:
        # The first of two axes takes part in the product, so it cannot be left out.
        a, b = trace.whole(a), trace.whole(b)
    return trace.emit(MatMul(), *trace.alike(a, b))


def _swapped(trace: Trace, x: Activation) -> Activation:
    """``x`` with its last two axes swapped."""
    return trace.transpose(x, (*range(x.rank - 2), x.rank - 1, x.rank - 2))


def _transposed(trace: Trace, x: Value) -> Value:
    return _swapped(trace, x) if isinstance(x, Activation) else x.T


@reads("Einsum")
def _einsum(call: Call) -> Value:
    """Of one or two operands: axes moved, joined and multiplied as matrices."""
    left, _, result = str(call.attribute("equation")).replace(" ", "").partition("->")
    terms = left.split(",")
    if not result or "." in left or any(len(set(term)) < len(term) for term in (*terms, result)):
        raise call.unsupported("an equation with an ellipsis, a diagonal, or no result")
    if len(terms) != 2 or len(call.inputs) != 2 or not set(result) <= set("".join(terms)):
        raise call.unsupported(f"{len(terms)} operands, not 2")
    return contracted(call.trace, (terms[0], call.value(0)), (terms[1], call.value(1)), result)


def contracted(
    trace: Trace, first: tuple[str, Value], second: tuple[str, Value], result: str
) -> Value:
    """Einstein's sum of two values, each with a letter for each axis."""
    (a, x), (b, y) = first, second
    batch = [c for c in result if c in a and c in b]
    summed = [c for c in a if c in b and c not in result]
    rows, columns = ([c for c in term if c in result and c not in batch] for term in (a, b))
    for term in (a, b):
        if alone := set(term) - {*batch, *summed, *rows, *columns}:
            raise ValueError(f"a sum over {sorted(alone)}, which only one operand has")
    sizes = dict(zip(a, x.shape, strict=True)) | dict(zip(b, y.shape, strict=True))
    left = _arranged(trace, x, a, (batch, rows, summed), sizes)
    right = _arranged(trace, y, b, (batch, summed, columns), sizes)
    order = [*batch, *rows, *columns]
    whole = trace.reshape(product(trace, left, right), tuple(sizes[c] for c in order))
    return trace.transpose(whole, tuple(order.index(c) for c in result))


def _arranged(
    trace: Trace, x: Value, term: str, groups: tuple[list[str], ...], sizes: dict[str, int]
) -> Value:
    """``x`` with the first group's axes as they are and each other group's joined to one."""
    order = tuple(term.index(c) for group in groups for c in group)
    joined = (math.prod(sizes[c] for c in group) for group in groups[1:])
    shape = (*(sizes[c] for c in groups[0]), *joined)
    if isinstance(x, Activation):
        return trace.reshape(trace.transpose(x, order), shape)
    return x.transpose(order).reshape(shape)
