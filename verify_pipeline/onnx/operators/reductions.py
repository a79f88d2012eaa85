"""Sums and means over axes, and normalisations."""

from __future__ import annotations

import numpy as np

from verify_pipeline.network.ops import Div, Elementwise, Mean, Sub, Sum
from verify_pipeline.onnx.operators.registry import Call, reads
from verify_pipeline.onnx.trace import Activation, Trace, Value


@reads("ReduceMean")
def _reduce_mean(call: Call) -> Value:
    return _reduce(call, Mean)


@reads("ReduceSum")
def _reduce_sum(call: Call) -> Value:
    return _reduce(call, Sum)


def _reduce(call: Call, op: type[Mean] | type[Sum]) -> Value:
    x, trace = call.activation(), call.trace
    axes = call.integers("axes", 1)
    if axes is None or not axes:
        if call.attribute("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.rank))
    axes = [x.axis(axis) for axis in axes]
    keep = bool(call.attribute("keepdims", 1))
    shape = [1 if i in axes else size for i, size in enumerate(x.shape) if keep or i not in axes]
    # Along an axis of 1, mean and sum change nothing.
    reduced = reduce_axes(trace, x, op, [axis for axis in axes if x.shape[axis] != 1], keep)
    return trace.reshape(reduced, tuple(shape))


def reduce_axes(
    trace: Trace, x: Activation, op: type[Mean] | type[Sum], axes: list[int], keepdim: bool = True
) -> Activation:
    """Mean or sum over the axes, which stay with size 1 or go."""
    if not axes:
        return x
    x, places = trace.along(x, *axes)
    return trace.emit(op(places, keepdim), x)


@reads("GlobalAveragePool")
def _global_average(call: Call) -> Value:
    x = call.activation()
    return reduce_axes(call.trace, x, Mean, list(range(2, x.rank)))


@reads("BatchNormalization")
def _batch_norm(call: Call) -> Value:
    """As in inference, with the stored statistics; over axis 1, whatever the rank."""
    if call.attribute("training_mode", 0) or len([name for name in call.node.output if name]) > 1:
        raise call.unsupported("training mode")
    x = call.activation()
    constants = [call.constant(i) for i in range(1, 5)]
    shape = (-1,) + (1,) * (x.rank - 2)
    weight, bias, mean, variance = (
        np.asarray(c, dtype=np.float64).reshape(shape) for c in constants
    )
    scale = weight / np.sqrt(variance + float(call.attribute("epsilon", 1e-5)))
    return call.trace.affine(x, scale, bias - mean * scale)


@reads("LayerNormalization")
def _layer_norm(call: Call) -> Value:
    """``(x - mean) / sqrt(variance + epsilon) * weight + bias`` over the last axes."""
    if len([name for name in call.node.output if name]) > 1:
        raise call.unsupported("more outputs than one")
    x, trace = call.activation(), call.trace
    axes = list(range(x.axis(int(call.attribute("axis", -1))), x.rank))
    centred = trace.emit(Sub(), *trace.alike(x, reduce_axes(trace, x, Mean, axes)))
    variance = reduce_axes(trace, trace.emit(Elementwise("square"), centred), Mean, axes)
    shifted = trace.affine(variance, 1.0, float(call.attribute("epsilon", 1e-5)))
    deviation = trace.emit(Elementwise("sqrt"), shifted)
    normal = trace.emit(Div(), *trace.alike(centred, deviation))
    weight, bias = call.constant(1), call.constant(2)
    return trace.affine(normal, 1.0 if weight is None else weight, 0.0 if bias is None else bias)
