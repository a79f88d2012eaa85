"""Sums, means, norms and extremes over axes."""

from __future__ import annotations

import math
from collections.abc import Callable

from verify_pipeline.network.ops import Add, Elementwise, MaxPool2d, Mean, Relu, Sub, Sum
from verify_pipeline.onnx.operators.registry import Call, reads
from verify_pipeline.onnx.trace import Activation, Trace, Value

Reduction = Callable[[Trace, Activation, list[int], bool], Activation]
"""Of a value over axes of the file, which stay with size 1 or go."""


def reduce_axes(
    trace: Trace, x: Activation, op: type[Mean] | type[Sum], axes: list[int], keepdim: bool = True
) -> Activation:
    """Mean or sum over the axes, which stay with size 1 or go; those of size 1 stay."""
    axes = [axis for axis in axes if x.shape[axis] != 1]
    if not axes:
        return x
    x, places = trace.along(x, *axes)
    return trace.emit(op(places, keepdim), x)


def centred(trace: Trace, x: Activation, axes: list[int]) -> Activation:
    """``x`` less its mean over the axes."""
    return trace.emit(Sub(), *trace.alike(x, reduce_axes(trace, x, Mean, axes)))


def absolute(trace: Trace, x: Activation) -> Activation:
    """``|x| = max(x, 0) + max(-x, 0)``."""
    return trace.emit(Add(), trace.emit(Relu(), x), trace.emit(Relu(), trace.affine(x, -1.0, 0.0)))


def _mean(trace: Trace, x: Activation, axes: list[int], keep: bool) -> Activation:
    return reduce_axes(trace, x, Mean, axes, keep)


def _sum(trace: Trace, x: Activation, axes: list[int], keep: bool) -> Activation:
    return reduce_axes(trace, x, Sum, axes, keep)


def _sum_of_squares(trace: Trace, x: Activation, axes: list[int], keep: bool) -> Activation:
    return _sum(trace, trace.emit(Elementwise("square"), x), axes, keep)


def _norm(trace: Trace, x: Activation, axes: list[int], keep: bool) -> Activation:
    return trace.emit(Elementwise("sqrt"), _sum_of_squares(trace, x, axes, keep))


def _sum_of_absolutes(trace: Trace, x: Activation, axes: list[int], keep: bool) -> Activation:
    return _sum(trace, absolute(trace, x), axes, keep)


def _log_of_sum(trace: Trace, x: Activation, axes: list[int], keep: bool) -> Activation:
    return trace.emit(Elementwise("log"), _sum(trace, x, axes, keep))


def _log_of_exponentials(trace: Trace, x: Activation, axes: list[int], keep: bool) -> Activation:
    """``m + log Σ exp(x - m)`` with the mean m, which keeps exp small."""
    small = trace.emit(Elementwise("exp"), centred(trace, x, axes))
    rest = _log_of_sum(trace, small, axes, keep)
    return trace.emit(Add(), *trace.alike(_mean(trace, x, axes, keep), rest))


def greatest(trace: Trace, x: Activation, axes: list[int], keep: bool = True) -> Activation:
    """The greatest over the axes, by pooling over one row for each value; axes stay as 1."""
    axes = [axis for axis in axes if x.shape[axis] != 1]
    if not axes:
        return x
    others = [axis for axis in range(x.rank) if axis not in axes]
    many = math.prod(x.shape[axis] for axis in axes)
    turned = trace.transpose(x, (*others, *axes))
    rows = trace.reshape(turned, (1, 1, math.prod(x.shape) // many, many))
    pooled = trace.emit(MaxPool2d((1, many), (1, many)), trace.batch_first(rows))
    return trace.reshape(pooled, tuple(1 if i in axes else s for i, s in enumerate(x.shape)))


def _least(trace: Trace, x: Activation, axes: list[int], keep: bool) -> Activation:
    negative = greatest(trace, trace.affine(x, -1.0, 0.0), axes, keep)
    return trace.affine(negative, -1.0, 0.0)


REDUCTIONS: dict[str, Reduction] = {
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "ReduceSumSquare": _sum_of_squares,
    "ReduceL1": _sum_of_absolutes,
    "ReduceL2": _norm,
    "ReduceLogSum": _log_of_sum,
    "ReduceLogSumExp": _log_of_exponentials,
    "ReduceMax": greatest,
    "ReduceMin": _least,
}


@reads(*REDUCTIONS)
def _reduce(call: Call) -> Value:
    x, trace = call.activation(), call.trace
    axes = call.integers("axes", 1)
    if not axes:
        if call.attribute("noop_with_empty_axes", 0):
            if call.node.op_type not in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"):
                raise call.unsupported("no axes")
            return x
        axes = list(range(x.rank))
    axes = [x.axis(axis) for axis in axes]
    keep = bool(call.attribute("keepdims", 1))
    shape = [1 if i in axes else size for i, size in enumerate(x.shape) if keep or i not in axes]
    reduced = REDUCTIONS[call.node.op_type](trace, x, axes, keep)
    return trace.reshape(reduced, tuple(shape))


@reads("GlobalAveragePool")
def _global_average(call: Call) -> Value:
    x = call.activation()
    return reduce_axes(call.trace, x, Mean, list(range(2, x.rank)))
