"""Operators that choose, repeat or hide elements by constants."""

from __future__ import annotations

import numpy as np

from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.arithmetic import add
from verify_pipeline.onnx.operators.registry import Call, reads
from verify_pipeline.onnx.operators.shapes import pick
from verify_pipeline.onnx.trace import Activation, Value, refuse_huge


@reads("Where")
def _where(call: Call) -> Value:
    """Elements of one value or the other, by a constant mask."""
    mask = call.constant(0)
    if mask is None:
        raise call.unsupported("no condition")
    return add(call.trace, _kept(call, 1, mask), _kept(call, 2, ~mask.astype(bool)))


def _kept(call: Call, index: int, mask: Array) -> Value:
    """An input where the mask is true, else 0."""
    value = call.value(index)
    if isinstance(value, Activation):
        return call.trace.affine(value, mask.astype(np.float64), 0.0)
    return np.where(mask, value, 0.0)


@reads("Trilu")
def _triangle(call: Call) -> Value:
    x, diagonal = call.activation(), call.integers("", 1)
    triangle = np.triu if call.attribute("upper", 1) else np.tril
    return call.trace.affine(
        x, triangle(np.ones(x.shape[-2:]), diagonal[0] if diagonal else 0), 0.0
    )


@reads("Tile")
def _tile(call: Call) -> Value:
    x, repeats = call.activation(), call.integers("", 1)
    if repeats is None or len(repeats) != x.rank:
        raise call.unsupported("not a number of repetitions for each axis")
    for axis, count in enumerate(repeats):
        if count != 1:
            refuse_huge(count * x.shape[axis])
            x = pick(call.trace, x, axis, np.tile(np.arange(x.shape[axis]), count))
    return x
