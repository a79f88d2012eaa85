"""Normalisations, with stored statistics or with those of the value itself."""

from __future__ import annotations

import math

import numpy as np

from verify_pipeline.network.affine_error import Norms, of_roundings
from verify_pipeline.network.ops import Div, Elementwise, Mean, Normalisation, Sum
from verify_pipeline.onnx.model_file import Array
from verify_pipeline.onnx.operators.reductions import absolute, centred, reduce_axes
from verify_pipeline.onnx.operators.registry import Call, reads
from verify_pipeline.onnx.trace import Activation, Trace, Value, tensor


@reads("BatchNormalization")
def _batch_norm(call: Call) -> Value:
    """As in inference, with the stored statistics; over axis 1, whatever the rank."""
    # until operator set 13, more outputs than one were what training mode is since 14
    if call.attribute("training_mode", 0) or _outputs(call) > 1:
        raise call.unsupported("a batch normalisation in training mode")
    x = call.activation()
    constants = [call.constant(i) for i in range(1, 5)]
    weight, bias, mean, variance = (
        _along_channels(np.asarray(c, dtype=np.float64), x.rank) for c in constants
    )
    scale = weight / np.sqrt(variance + _epsilon(call))
    # a sum, a root, a quotient; then a product and a difference, whose result may be far smaller
    shifts = np.abs(bias) + np.abs(mean * scale)
    error = of_roundings(
        8, Norms(float(np.abs(scale).max(initial=0.0)), float(shifts.max(initial=0.0)))
    )
    shift = tensor(bias - mean * scale)
    op = Normalisation(tensor(scale), shift, error, mean=tensor(mean), bias=tensor(bias))
    return call.trace.emit(op, x)


@reads("LayerNormalization")
def _layer_norm(call: Call) -> Value:
    """Over the last axes; weight and bias are of these axes' shape."""
    _one_output(call)
    x, trace = call.activation(), call.trace
    axes = list(range(x.axis(int(call.attribute("axis", -1))), x.rank))
    normal = _by_root_mean_square(trace, centred(trace, x, axes), axes, _epsilon(call))
    weight, bias = call.constant(1), call.constant(2)
    return trace.affine(normal, 1.0 if weight is None else weight, 0.0 if bias is None else bias)


@reads("RMSNormalization")
def _rms_norm(call: Call) -> Value:
    """Over the last axes, without subtracting the mean."""
    x, trace = call.activation(), call.trace
    axes = list(range(x.axis(int(call.attribute("axis", -1))), x.rank))
    weight = call.constant(1)
    normal = _by_root_mean_square(trace, x, axes, _epsilon(call))
    return trace.affine(normal, 1.0 if weight is None else weight, 0.0)


@reads("InstanceNormalization")
def _instance_norm(call: Call) -> Value:
    """Over all spatial axes of each channel."""
    return _in_groups(call, call.activation().shape[1])


@reads("GroupNormalization")
def _group_norm(call: Call) -> Value:
    """Over all elements of each group of channels."""
    if call.opset < 21:
        raise call.unsupported("operator set 18's weights of groups, not of channels")
    return _in_groups(call, int(call.attribute("num_groups")))


def _in_groups(call: Call, groups: int) -> Value:
    """Over all elements of each group of channels; then weights and biases of the channels."""
    x, trace = call.activation(), call.trace
    flat = trace.reshape(x, (x.shape[0], groups, math.prod(x.shape[1:]) // groups))
    normal = _by_root_mean_square(trace, centred(trace, flat, [2]), [2], _epsilon(call))
    weight, bias = (
        _along_channels(np.asarray(call.constant(i), dtype=np.float64), x.rank) for i in (1, 2)
    )
    return trace.affine(trace.reshape(normal, x.shape), weight, bias)


@reads("LpNormalization")
def _lp_norm(call: Call) -> Value:
    """Divided by its norm over one axis."""
    x, trace = call.activation(), call.trace
    axes, order = [x.axis(int(call.attribute("axis", -1)))], int(call.attribute("p", 2))
    if order == 1:
        norm = reduce_axes(trace, absolute(trace, x), Sum, axes)
    else:
        squares = reduce_axes(trace, trace.emit(Elementwise("square"), x), Sum, axes)
        norm = trace.emit(Elementwise("sqrt"), squares)
    return trace.emit(Div(), *trace.alike(x, norm))


def _by_root_mean_square(
    trace: Trace, x: Activation, axes: list[int], epsilon: float
) -> Activation:
    """``x / sqrt(mean of x² over the axes + epsilon)``."""
    squares = reduce_axes(trace, trace.emit(Elementwise("square"), x), Mean, axes)
    deviation = trace.emit(Elementwise("sqrt"), trace.affine(squares, 1.0, epsilon))
    return trace.emit(Div(), *trace.alike(x, deviation))


def _along_channels(constant: Array, rank: int) -> Array:
    """A vector as it broadcasts along axis 1 of a value of that rank."""
    return constant.reshape((-1,) + (1,) * (rank - 2))


def _epsilon(call: Call) -> float:
    return call.number("epsilon", 1e-5)


def _outputs(call: Call) -> int:
    return len([name for name in call.node.output if name])


def _one_output(call: Call) -> None:
    if _outputs(call) > 1:
        raise call.unsupported("more outputs than one")
