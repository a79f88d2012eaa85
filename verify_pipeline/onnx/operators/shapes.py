"""Operators that only move, pick or repeat elements."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from verify_pipeline.network.limits import Rounded
from verify_pipeline.network.ops import Concat, Gather, Pad, Slice
from verify_pipeline.onnx.half import OF_FILES, TYPES, holds_all
from verify_pipeline.onnx.model_file import type_name
from verify_pipeline.onnx.operators.registry import Call, reads
from verify_pipeline.onnx.trace import Activation, Trace, Value, refuse_huge


@reads("Identity", "Dropout")
def _same(call: Call) -> Value:
    training = call.constant(2) if call.node.op_type == "Dropout" else None
    if training is not None and bool(training):
        raise call.unsupported("training mode")
    return call.activation()


@reads("Cast")
def _cast(call: Call) -> Value:
    target = call.attribute("to")
    if target not in OF_FILES:
        raise call.unsupported(f"a cast of an activation to {type_name(target)}")
    return _as_type(call, OF_FILES[target])


@reads("CastLike")
def _cast_like(call: Call) -> Value:
    value, like = call.value(0), call.value(1)
    if not isinstance(value, Activation):
        return value.astype(like.dtype)
    if like.dtype not in TYPES:
        raise call.unsupported(f"a cast of an activation to {like.dtype}")
    return _as_type(call, like.dtype)


def _as_type(call: Call, dtype: np.dtype[Any]) -> Activation:
    """An activation in another type, which may hold all of its numbers, or else rounds.

    What a float32 file computes in float32 is not rounded in the graph; a cast is an operation of
    the file, and what follows it may be steep enough to show it.
    """
    x = call.activation()
    if not holds_all(dtype, x.dtype):
        x = call.trace.emit(Rounded(TYPES[dtype]), x)
    return replace(x, dtype=dtype)


@reads("Shape")
def _shape(call: Call) -> Value:
    sizes = call.activation().shape
    end = call.attribute("end")
    return np.asarray(sizes[call.attribute("start", 0) : end], dtype=np.int64)


@reads("Size")
def _size(call: Call) -> Value:
    return np.asarray(math.prod(call.activation().shape), dtype=np.int64)


@reads("Flatten")
def _flatten(call: Call) -> Value:
    x = call.activation()
    axis = int(call.attribute("axis", 1))
    axis = x.rank if axis == x.rank else x.axis(axis)
    return call.trace.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


@reads("Reshape")
def _reshape(call: Call) -> Value:
    x = call.activation()
    target = call.integers("shape", 1)
    if target is None:
        raise call.unsupported("no shape")
    if not call.attribute("allowzero", 0):
        target = [x.shape[i] if size == 0 else size for i, size in enumerate(target)]
    known = math.prod(size for size in target if size != -1)
    if target.count(-1) == 1 and known > 0:
        target[target.index(-1)] = math.prod(x.shape) // known
    return call.trace.reshape(x, tuple(target))


@reads("Squeeze")
def _squeeze(call: Call) -> Value:
    x = call.activation()
    axes = call.integers("axes", 1)
    gone = {i for i in range(x.rank) if x.shape[i] == 1} if axes is None else set(map(x.axis, axes))
    return call.trace.reshape(x, tuple(s for i, s in enumerate(x.shape) if i not in gone))


@reads("Unsqueeze")
def _unsqueeze(call: Call) -> Value:
    x = call.activation()
    axes = call.integers("axes", 1) or []
    rank = x.rank + len(axes)
    shape = list(x.shape)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    return call.trace.reshape(x, tuple(shape))


@reads("Transpose")
def _transpose(call: Call) -> Value:
    x = call.activation()
    return call.trace.transpose(x, tuple(call.attribute("perm", range(x.rank)[::-1])))


@reads("Concat")
def _concat(call: Call) -> Value:
    values = [call.value(i) for i in range(len(call.inputs))]
    return join(call.trace, values, int(call.attribute("axis")))


def join(trace: Trace, values: list[Value], axis: int) -> Activation:
    """Concatenation of values, at least one an activation, of one rank."""
    like = next(value for value in values if isinstance(value, Activation))
    parts = trace.alike(*(trace.activation(value, like) for value in values), ranks=False)
    if like.axis(axis) == 0:
        parts = [trace.whole(part) for part in parts]
    _, (place,) = trace.along(parts[0], axis)
    return trace.emit(Concat(place), *parts)


@reads("Split")
def _split(call: Call) -> tuple[Value, ...]:
    x = call.activation()
    axis = x.axis(int(call.attribute("axis", 0)))
    outputs = len(call.node.output)
    sizes = call.integers("split", 1)
    if sizes is None:
        step = -(-x.shape[axis] // outputs)
        sizes = [min(step, x.shape[axis] - step * i) for i in range(outputs)]
    ends = np.cumsum(sizes).tolist()
    return tuple(
        cut(call.trace, x, axis, slice(end - size, end))
        for size, end in zip(sizes, ends, strict=True)
    )


@reads("Slice")
def _slice(call: Call) -> Value:
    x = call.activation()
    starts, ends = call.integers("starts", 1), call.integers("ends", 2)
    if starts is None or ends is None:
        raise call.unsupported("no starts or ends")
    axes = call.integers("axes", 3) or list(range(len(starts)))
    steps = call.integers("steps", 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        x = cut(call.trace, x, axis, slice(start, end, step))
    return x


def cut(trace: Trace, x: Activation, axis: int, part: slice) -> Activation:
    """Elements of one axis as Python's slices name them; backward ones too."""
    size = x.shape[x.axis(axis)]
    picked = range(*part.indices(size))
    if len(picked) == size and picked.step == 1:
        return x
    if picked.step < 0:
        return pick(trace, x, axis, np.asarray(picked))
    x, (place,) = trace.along(x, axis)
    return trace.emit(Slice(place, picked.start, picked.stop, picked.step), x)


@reads("Gather")
def _gather(call: Call) -> Value:
    indices = call.constant(1)
    if indices is None:
        raise call.unsupported("no indices")
    return pick(call.trace, call.activation(), int(call.attribute("axis", 0)), indices)


def pick(trace: Trace, x: Activation, axis: int, indices: np.ndarray) -> Activation:
    """Elements of one axis by constant indices of any shape; negative ones count from the end."""
    axis = x.axis(axis)
    size = x.shape[axis]
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise ValueError(f"an index outside of the {size} elements of axis {axis}")
    if axis == 0 and size == 1 and indices.ndim == 0:
        return trace.reshape(x, x.shape[1:])
    x, (place,) = trace.along(x, axis)
    return trace.emit(Gather(place, torch.tensor(indices % size, dtype=torch.int64)), x)


@reads("GatherND")
def _gather_nd(call: Call) -> Value:
    """Elements of the first axes together, by constant tuples of places."""
    x, trace, indices = call.activation(), call.trace, call.constant(1)
    if indices is None or not indices.ndim or call.attribute("batch_dims", 0):
        raise call.unsupported("no indices, or axes of a batch")
    depth = indices.shape[-1]
    sizes = x.shape[:depth]
    if np.any(indices >= sizes) or np.any(indices < np.negative(sizes)):
        raise ValueError(f"an index outside of {sizes}")
    places = np.ravel_multi_index(tuple(np.moveaxis(indices % sizes, -1, 0)), sizes)
    flat = trace.reshape(x, (math.prod(sizes), *x.shape[depth:]))
    return pick(trace, flat, 0, np.asarray(places))


@reads("Expand")
def _expand(call: Call) -> Value:
    shape = call.integers("shape", 1)
    if shape is None:
        raise call.unsupported("no shape")
    call.trace.refuse_huge(tuple(shape))
    x = call.activation()
    if np.broadcast_shapes(tuple(shape), x.shape) == x.shape:
        return x
    return call.trace.affine(x, np.ones(shape), 0.0)


@reads("Pad")
def _pad(call: Call) -> Value:
    x, trace = call.activation(), call.trace
    pads = call.integers("pads", 1)
    if pads is None:
        raise call.unsupported("no pads")
    axes = [x.axis(axis) for axis in call.integers("axes", 3) or range(x.rank)]
    widths = [(0, 0)] * x.rank
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    mode = call.attribute("mode", "constant")
    if mode == "constant":
        fill = call.constant(2)
        given = call.attribute("value", 0.0) if fill is None or fill.size == 0 else fill
        value = float(np.asarray(given).reshape(()))
        if not math.isfinite(value):
            raise call.unsupported(f"padding with {value}, which is no number")
        return pad(trace, x, widths, value)
    if mode not in ("reflect", "edge", "wrap"):
        raise call.unsupported(f"mode {mode}")
    for axis, width in enumerate(widths):
        if width != (0, 0):
            refuse_huge(sum(width))
            x = pick(trace, x, axis, np.pad(np.arange(x.shape[axis]), width, mode=mode))
    return x


def pad(
    trace: Trace, x: Activation, widths: list[tuple[int, int]], value: float = 0.0
) -> Activation:
    """``x`` with ``(before, after)`` elements of ``value`` at each axis; cut where negative.

    The value is added to zeros, at the new places only: there and elsewhere that rounds nothing.
    """
    for axis, (before, after) in enumerate(widths):
        x = cut(trace, x, axis, slice(max(-before, 0), x.shape[axis] - max(-after, 0)))
    widths = [(max(before, 0), max(after, 0)) for before, after in widths]
    if not any(map(any, widths)):
        return x
    trace.refuse_huge(tuple(s + b + a for s, (b, a) in zip(x.shape, widths, strict=True)))
    outside = np.pad(np.zeros(x.shape), widths, constant_values=value) if value else None
    first = next(axis for axis, width in enumerate(widths) if any(width))
    x, _ = trace.along(x, first)
    inner = widths[1:] if x.batched else widths
    x = trace.emit(Pad(tuple(width for pair in reversed(inner) for width in pair)), x)
    return x if outside is None else trace.affine(x, 1.0, outside)
