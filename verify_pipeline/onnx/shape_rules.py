"""Rewriting rules for operations that move elements or do nothing."""

from __future__ import annotations

from dataclasses import replace

import torch

from verify_pipeline.network.ops import (
    AvgPool2d,
    Conv2d,
    Gather,
    Op,
    Pad,
    Reshape,
    Scale,
    Slice,
    Transpose,
)
from verify_pipeline.onnx.rewriting import Rewriter


def drop_identity(graph: Rewriter, place: int) -> bool:
    """Remove a node that computes its input."""
    inputs = graph.inputs(place)
    if len(inputs) != 1 or graph.shape(place) != graph.shape(inputs[0]):
        return False
    return _is_identity(graph.op(place), graph.shape(place)) and graph.alias(place, inputs[0])


def _is_identity(op: Op, shape: tuple[int, ...]) -> bool:
    """Whether ``op`` gives its input, knowing that the shape stays the same."""
    if isinstance(op, Scale):
        return not op.error and bool((op.scale == 1).all() and (op.shift == 0).all())
    if isinstance(op, Transpose):
        return op.axes == tuple(range(len(op.axes)))
    if isinstance(op, Gather):
        return op.indices.dim() == 1 and torch.equal(
            op.indices, torch.arange(shape[op.axis], device=op.indices.device)
        )
    return isinstance(op, (Reshape, Slice)) or (isinstance(op, Pad) and not any(op.widths))


def merge_reshapes(graph: Rewriter, place: int) -> bool:
    """Reshape of a reshape: the last one alone."""
    op, inputs = graph.op(place), graph.inputs(place)
    if not isinstance(op, Reshape) or not isinstance(graph.op(inputs[0]), Reshape):
        return False
    return graph.replace(place, op, *graph.inputs(inputs[0]))


def merge_transposes(graph: Rewriter, place: int) -> bool:
    """Transpose of a transpose: one, which may be none."""
    op, inputs = graph.op(place), graph.inputs(place)
    if not isinstance(op, Transpose):
        return False
    before = graph.op(inputs[0])
    if not isinstance(before, Transpose):
        return False
    axes = tuple(before.axes[axis] for axis in op.axes)
    return graph.replace(place, Transpose(axes), *graph.inputs(inputs[0]))


def pad_into_window(graph: Rewriter, place: int) -> bool:
    """Even zero padding before a convolution, or an average that counts it, becomes its own."""
    op, inputs = graph.op(place), graph.inputs(place)
    takes_zeros = isinstance(op, Conv2d) or (
        isinstance(op, AvgPool2d) and op.padding == (0, 0) and not op.ceil_mode
    )
    if not takes_zeros or not isinstance(before := graph.op(inputs[0]), Pad):
        return False
    left, right, top, bottom, *rest = (*before.widths, 0, 0, 0, 0)
    if left != right or top != bottom or any(rest) or min(before.widths) < 0:
        return False
    assert isinstance(op, (Conv2d, AvgPool2d))
    if isinstance(op, AvgPool2d) and (top > op.kernel[0] // 2 or left > op.kernel[1] // 2):
        return False
    padding = (op.padding[0] + top, op.padding[1] + left)
    merged: Conv2d | AvgPool2d = replace(op, padding=padding)
    if isinstance(merged, AvgPool2d):
        merged = replace(merged, count_include_pad=True)
    return graph.replace(place, merged, *graph.inputs(inputs[0]))
