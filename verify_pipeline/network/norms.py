"""Sizes of affine operations: how far they magnify values, and how many terms their sums have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.network.affine_error import Norms
from verify_pipeline.network.ops import (
    AvgPool2d,
    Conv2d,
    Gather,
    Linear,
    LinearOp,
    Mean,
    Pad,
    Reshape,
    Scale,
    Slice,
    Sum,
    Transpose,
    size,
)

Shape = tuple[int, ...]

_UPWARD = 1 + 2.0**-20
"""Makes up for the rounding of sums of up to 2^30 non-negative numbers."""


def _greatest(values: Tensor | None) -> float:
    return 0.0 if values is None or not values.numel() else float(values.abs().amax()) * _UPWARD


@singledispatch
def norms(op: LinearOp, shape: Shape) -> Norms:
    """Upper bounds of the operation's gain and constant, in real arithmetic.

    Args:
        op: the operation; what its constants may be wrong by (``error``) is not included.
        shape: ``*V_in`` of its input.
    """
    ones = torch.ones(1, *shape, dtype=torch.float64)
    return Norms(_greatest(op.linear_abs(ones)), _greatest(op(0 * ones)))


@norms.register(Linear)
@norms.register(Conv2d)
def _(op: Linear | Conv2d, shape: Shape) -> Norms:
    sums = torch.linalg.vector_norm(op.weight.flatten(1), 1, dim=1)
    return Norms(_greatest(sums), _greatest(op.bias))


@norms.register
def _(op: Scale, shape: Shape) -> Norms:
    return Norms(_greatest(op.scale), _greatest(op.shift))


@norms.register(Reshape)
@norms.register(Transpose)
@norms.register(Pad)
@norms.register(Slice)
@norms.register(Gather)
@norms.register(AvgPool2d)
@norms.register(Mean)
def _(op: LinearOp, shape: Shape) -> Norms:
    return Norms(1.0, 0.0)


@norms.register
def _(op: Sum, shape: Shape) -> Norms:
    return Norms(float(math.prod(shape[axis] for axis in op.axes)), 0.0)


@dataclass(frozen=True)
class Fans:
    """How many terms are added up.

    Attributes:
        inward: terms of an output's sum; 0: elements are only moved.
        outward: outputs that an input contributes to, at most.
    """

    inward: int
    outward: int


@singledispatch
def fans(op: LinearOp, shape: Shape, out_shape: Shape) -> Fans:
    """How many terms the sums of an affine operation and of its adjoint have, at most.

    Args:
        op: the operation.
        shape: ``*V_in`` of its input.
        out_shape: ``*V`` of its value.
    """
    return Fans(size(shape), size(out_shape))


@fans.register
def _(op: Linear, shape: Shape, out_shape: Shape) -> Fans:
    return Fans(op.weight.shape[1], op.weight.shape[0])


@fans.register
def _(op: Conv2d, shape: Shape, out_shape: Shape) -> Fans:
    outputs, inputs, *kernel = op.weight.shape
    return Fans(inputs * size(tuple(kernel)), outputs // op.groups * size(tuple(kernel)))


@fans.register
def _(op: Scale, shape: Shape, out_shape: Shape) -> Fans:
    return Fans(1, max(1, size(out_shape) // max(1, size(shape))))


@fans.register
def _(op: AvgPool2d, shape: Shape, out_shape: Shape) -> Fans:
    return Fans(size(op.kernel), size(op.kernel))


@fans.register(Mean)
@fans.register(Sum)
def _(op: Mean | Sum, shape: Shape, out_shape: Shape) -> Fans:
    return Fans(math.prod(shape[axis] for axis in op.axes), 1)


@fans.register(Reshape)
@fans.register(Transpose)
@fans.register(Pad)
@fans.register(Slice)
def _(op: LinearOp, shape: Shape, out_shape: Shape) -> Fans:
    return Fans(0, 0)
