"""Rewriting rules that multiply the constants of neighbouring affine operations."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.network.affine_error import EXACT, AffineError, of_product
from verify_pipeline.network.norms import fans, norms
from verify_pipeline.network.ops import Conv2d, Linear, Op, Reshape, Scale, Transpose, size
from verify_pipeline.onnx.rewriting import Rewriter

MODERATE = 2.0**40
"""Factors that are multiplied together are at most this: a product of larger ones may hide that a
value between them overflows in float32."""


LEAST = 2.0**-300
"""Products of factors are at least this, or 0: the error of smaller ones is not relative to them,
and times a value they may fall below the normal range. Two float32 numbers are multiplied always.
"""


def _are_moderate(*factors: Tensor) -> bool:
    return (
        all(bool((factor.abs() <= MODERATE).all()) for factor in factors)
        and math.prod(_least(factor) for factor in factors) >= LEAST
    )


def _least(factor: Tensor) -> float:
    """The least absolute value of the elements that are not 0; 1 if there is none."""
    sizes = factor.abs()[factor != 0]
    return float(sizes.min()) if sizes.numel() else 1.0


def merge_scales(graph: Rewriter, place: int) -> bool:
    """``(x s + t) s' + t' = x s s' + (t s' + t')``, where nothing else uses the first."""
    op, inputs = graph.op(place), graph.inputs(place)
    if not isinstance(op, Scale) or not isinstance(before := graph.op(inputs[0]), Scale):
        return False
    if not graph.only_user(inputs[0], place) or not _are_moderate(before.scale, op.scale):
        return False
    scale, shift = before.scale * op.scale, before.shift * op.scale + op.shift
    factors = [before.scale, op.scale, before.shift]
    exact = _is_exact(factors, (before.shift * op.scale, op.shift))
    merged = Scale(scale, shift, _error_of(graph, place, exact))
    return graph.replace(place, merged, *graph.inputs(inputs[0]))


def scale_behind_movement(graph: Rewriter, place: int) -> bool:
    """Transpose or flattening after scale becomes scale after it, nearer to the next layer."""
    move, inputs = graph.op(place), graph.inputs(place)
    flattens = isinstance(move, Reshape) and len(move.shape) == 1
    if not (flattens or isinstance(move, Transpose)):
        return False
    op, shape = graph.op(inputs[0]), graph.shape(inputs[0])
    if not isinstance(op, Scale) or not graph.only_user(inputs[0], place):
        return False
    (source,) = graph.inputs(inputs[0])
    if graph.shape(source) != shape:
        return False
    scale, shift = (_moved(c, move, shape) for c in (op.scale, op.shift))
    graph.replace(inputs[0], move, source, shape=graph.shape(place))
    return graph.replace(place, Scale(scale, shift, op.error), inputs[0])


def _moved(constant: Tensor, move: Op, shape: tuple[int, ...]) -> Tensor:
    """A constant that broadcasts against ``shape`` after a transpose or a flattening."""
    if isinstance(move, Transpose):
        return _with_rank(constant, len(shape)).permute(move.axes)
    return constant.reshape(()) if constant.numel() == 1 else constant.expand(shape).flatten()


def scale_into_producer(graph: Rewriter, place: int) -> bool:
    """Scale after a linear layer or a convolution that nothing else uses joins it."""
    op, inputs = graph.op(place), graph.inputs(place)
    if not isinstance(op, Scale) or graph.shape(place) != graph.shape(inputs[0]):
        return False
    layer = graph.op(inputs[0])
    if not isinstance(layer, (Linear, Conv2d)) or not graph.only_user(inputs[0], place):
        return False
    axis = -1 if isinstance(layer, Linear) else -3
    outputs = graph.shape(place)[axis]
    scale, shift = (_along(c, axis, outputs) for c in (op.scale, op.shift))
    if scale is None or shift is None or not _are_moderate(scale, layer.weight):
        return False
    before = torch.zeros_like(shift) if layer.bias is None else layer.bias
    exact = _is_exact([layer.weight, scale, before], (before * scale, shift))
    merged = replace(
        layer,
        weight=_rows(layer.weight, scale),
        bias=before * scale + shift,
        error=_error_of(graph, place, exact),
    )
    return graph.replace(place, merged, *graph.inputs(inputs[0]))


def scale_into_consumer(graph: Rewriter, place: int) -> bool:
    """Scale before a linear layer, or before a convolution whose zero padding allows it, joins it.

    Padding pads the scaled values: a shift would reach the padded zeros too, a factor does not
    change them.
    """
    layer, inputs = graph.op(place), graph.inputs(place)
    if not isinstance(layer, (Linear, Conv2d)) or not isinstance(op := graph.op(inputs[0]), Scale):
        return False
    (source,) = graph.inputs(inputs[0])
    if graph.shape(source) != graph.shape(inputs[0]):
        return False
    axis = -1 if isinstance(layer, Linear) else -3
    channels = graph.shape(source)[axis]
    scale, shift = (_along(c, axis, channels) for c in (op.scale, op.shift))
    if scale is None or shift is None or not _are_moderate(scale, layer.weight):
        return False
    if isinstance(layer, Conv2d) and any(layer.padding) and bool((shift != 0).any()):
        return False
    exact = _is_exact([layer.weight, scale], (shift, -shift)) and not bool(shift.any())
    error = _error_of(graph, place, exact)
    if isinstance(layer, Linear):
        return graph.replace(place, _linear_of_scaled(layer, scale, shift, error), source)
    return graph.replace(place, _conv_of_scaled(layer, scale, shift, error), source)


def _linear_of_scaled(layer: Linear, scale: Tensor, shift: Tensor, error: AffineError) -> Linear:
    return Linear(layer.weight * scale, _plus(layer.bias, layer.weight @ shift), error)


def _conv_of_scaled(layer: Conv2d, scale: Tensor, shift: Tensor, error: AffineError) -> Conv2d:
    """The convolution of ``x * scale + shift`` as one of x; scale and shift have C elements."""
    groups, inputs = layer.groups, layer.weight.shape[1]
    of_group = layer.weight.unflatten(0, (groups, -1))
    scales, shifts = (c.reshape(groups, 1, inputs, 1, 1) for c in (scale, shift))
    constant = (of_group * shifts).sum(dim=(2, 3, 4)).flatten()
    weight = (of_group * scales).flatten(0, 1)
    return replace(layer, weight=weight, bias=_plus(layer.bias, constant), error=error)


def transpose_into_linear(graph: Rewriter, place: int) -> bool:
    """A linear layer of a flattened transposed value takes the value as it is: its columns move."""
    layer, (flat, *_) = graph.op(place), graph.inputs(place)
    if not isinstance(layer, Linear) or not isinstance(graph.op(flat), Reshape):
        return False
    (turned,) = graph.inputs(flat)
    turn = graph.op(turned)
    if not isinstance(turn, Transpose) or len(graph.shape(flat)) != 1:
        return False
    if not graph.only_user(flat, place):
        return False
    (source,) = graph.inputs(turned)
    back = [turn.axes.index(axis) for axis in range(len(turn.axes))]
    columns = layer.weight.unflatten(1, graph.shape(turned))
    weight = columns.permute(0, *(axis + 1 for axis in back)).flatten(1)
    graph.replace(flat, Reshape((size(graph.shape(source)),)), source)
    return graph.replace(place, Linear(weight, layer.bias, layer.error), flat)


def merge_linears(graph: Rewriter, place: int) -> bool:
    """``W' (W x + b) + b' = W' W x + (W' b + b')``, where that takes fewer weights."""
    layer, inputs = graph.op(place), graph.inputs(place)
    if not isinstance(layer, Linear) or not isinstance(before := graph.op(inputs[0]), Linear):
        return False
    merged = layer.weight.shape[0] * before.weight.shape[1]
    if merged > layer.weight.numel() + before.weight.numel() or not graph.only_user(
        inputs[0], place
    ):
        return False
    if not _are_moderate(layer.weight, before.weight):
        return False
    constant = None if before.bias is None else layer.weight @ before.bias
    bias = layer.bias if constant is None else _plus(layer.bias, constant)
    return graph.replace(
        place,
        Linear(layer.weight @ before.weight, bias, _error_of(graph, place)),
        *graph.inputs(inputs[0]),
    )


def _error_of(graph: Rewriter, place: int, exact: bool = False) -> AffineError:
    """The error of the product of the operation at ``place`` and the one before it.

    Args:
        graph: both operations as they are before they are merged.
        place: of the outer one.
        exact: whether the product itself is not rounded.
    """
    outer, (inner_place, *_) = graph.op(place), graph.inputs(place)
    inner, (source, *_) = graph.op(inner_place), graph.inputs(inner_place)
    assert isinstance(outer, (Linear, Conv2d, Scale))
    assert isinstance(inner, (Linear, Conv2d, Scale))
    if exact and not outer.error and not inner.error:
        return EXACT
    between = graph.shape(inner_place)
    terms = fans(outer, between, graph.shape(place)).inward
    sizes = norms(outer, between), norms(inner, graph.shape(source))
    return of_product(sizes[0], outer.error, sizes[1], inner.error, terms)


def _is_exact(factors: list[Tensor], summands: tuple[Tensor, Tensor]) -> bool:
    """Whether products of the factors and the sum of both summands are not rounded in float64.

    A product of two numbers of float32 has at most 48 digits, of which float64 keeps 53. What a sum
    loses is computed as by Knuth (1969, The Art of Computer Programming 2, section 4.2.2).
    """
    if not all(torch.equal(factor.to(torch.float32).to(factor), factor) for factor in factors):
        return False
    a, b = summands
    total = a + b
    of_b = total - a
    return bool(((a - (total - of_b)) + (b - of_b) == 0).all())


def _plus(bias: Tensor | None, constant: Tensor) -> Tensor:
    return constant if bias is None else bias + constant


def _with_rank(constant: Tensor, rank: int) -> Tensor:
    return constant.reshape((1,) * (rank - constant.dim()) + constant.shape)


def _along(constant: Tensor, axis: int, length: int) -> Tensor | None:
    """The constant as a vector over one axis (counted from the end); None if others matter."""
    shape = _with_rank(constant, max(constant.dim(), -axis)).shape
    others = [s for i, s in enumerate(shape) if i != len(shape) + axis]
    if any(s != 1 for s in others):
        return None
    return constant.reshape(-1).expand(length)


def _rows(weight: Tensor, scale: Tensor) -> Tensor:
    """Each row (output channel) of a weight times its factor."""
    return weight * scale.reshape(-1, *(1,) * (weight.dim() - 1))
