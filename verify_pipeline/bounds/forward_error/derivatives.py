"""Intervals of derivatives, backward through operations.

Of a ReLU and its kin as in Weng et al. 2018 (Fast-Lip, arXiv:1804.09699); of products by the
product rule; of a softmax p, ``∂ / ∂x_i = p_i (∂ / ∂p_i - Σ_j p_j ∂ / ∂p_j)``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.bounds.broadcasting import sum_to
from verify_pipeline.bounds.forward_error.computed import UPWARD, Computed
from verify_pipeline.bounds.forward_error.functions import slope
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.bounds.linear.adjoint import adjoint
from verify_pipeline.network.limits import AtLeast, Maximum
from verify_pipeline.network.norms import fans
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Constant,
    Conv2d,
    Div,
    Elementwise,
    LeakyRelu,
    Linear,
    LinearOp,
    MatMul,
    MaxPool2d,
    Mul,
    Relu,
    Scale,
    Softmax,
    Sub,
)

RISING = frozenset(
    ["sigmoid", "tanh", "erf", "atan", "softplus", "exp", "elu", "selu", "log", "sqrt"]
)
"""Functions whose derivatives are nowhere negative."""

UNIT = 2.0**-50
"""More than the rounding of an end of an interval in float64."""


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Intervals of derivatives of ``S`` rows by the elements of a value.

    Attributes:
        center: ``N x S x *V``.
        radius: at least 0, likewise.
    """

    center: Tensor
    radius: Tensor

    @staticmethod
    def between(lower: Tensor, upper: Tensor) -> Derivatives:
        """From their ends."""
        center, radius = (lower + upper) / 2, (upper - lower) / 2
        return Derivatives(center, radius + UNIT * (center.abs() + radius))

    @property
    def ends(self) -> tuple[Tensor, Tensor]:
        """The least and the greatest."""
        radius = self.radius + UNIT * (self.center.abs() + self.radius)
        return self.center - radius, self.center + radius

    @property
    def size(self) -> Tensor:
        """The greatest absolute derivative."""
        return self.center.abs() + self.radius

    def __add__(self, other: Derivatives) -> Derivatives:
        center, radius = self.center + other.center, self.radius + other.radius
        return Derivatives(center, radius + UNIT * (self.center.abs() + other.center.abs()))

    def transposed(self) -> Derivatives:
        """With the last two axes exchanged."""
        return Derivatives(self.center.mT, self.radius.mT)

    def times(self, lower: Tensor, upper: Tensor) -> Derivatives:
        """Times numbers of intervals ``N x *V``."""
        products = [a * b.unsqueeze(1) for a in self.ends for b in (lower, upper)]
        found = torch.stack(products)
        return Derivatives.between(found.amin(0), found.amax(0))


@singledispatch
def pulled_back(op: object, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    """Derivatives by the elements of the inputs.

    Args:
        op: the operation.
        found: derivatives by the elements of its value.
        inputs: what is known of its inputs.

    Raises:
        NotImplementedError: there is no rule for the operation.
    """
    raise NotImplementedError(f"no derivatives of {type(op).__name__}")


def _flat(values: Tensor, op: Callable[[Tensor], Tensor]) -> Tensor:
    """An operation on ``N x S x *V``, whose first two axes are one batch."""
    found: Tensor = op(values.flatten(0, 1)).unflatten(0, values.shape[:2])
    return found


@pulled_back.register
def _(op: LinearOp, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    shape = tuple(inputs[0].error.shape[1:])
    terms = fans(op, shape, tuple(found.center.shape[2:])).outward
    rounding = (terms + 8) * UNIT * found.center.abs()
    absolute = _absolute(op)
    center = _flat(found.center, lambda rows: adjoint(op, rows, shape))
    radius = _flat(found.radius + rounding, lambda rows: adjoint(absolute, rows, shape))
    return (Derivatives(center, radius),)


def _absolute(op: LinearOp) -> LinearOp:
    if isinstance(op, (Linear, Conv2d)):
        return replace(op, weight=op.weight.abs())
    return replace(op, scale=op.scale.abs()) if isinstance(op, Scale) else op


@pulled_back.register(Add)
@pulled_back.register(Sub)
def _of_sum(op: Add | Sub, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    sign = -1.0 if isinstance(op, Sub) else 1.0
    return (_to_shape(found, inputs[0]), _to_shape(found, inputs[1], sign))


def _to_shape(found: Derivatives, value: Computed, sign: float = 1.0) -> Derivatives:
    """Summed over the axes along which a value was broadcast."""
    shape = tuple(value.error.shape[1:])
    if shape == tuple(found.center.shape[2:]):
        return Derivatives(sign * found.center, found.radius)
    count = found.center[0, 0].numel()
    rounding = count * UNIT * found.center.abs()
    parts = (sign * found.center, found.radius + rounding)
    return Derivatives(*(_flat(part, lambda rows: sum_to(rows, shape)) for part in parts))


@pulled_back.register
def _(op: Concat, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    lengths = [value.error.shape[op.axis + 1] for value in inputs]
    parts = (side.split(lengths, op.axis + 2) for side in (found.center, found.radius))
    return tuple(Derivatives(*part) for part in zip(*parts, strict=True))


def _reach(value: Computed) -> tuple[Tensor, Tensor]:
    """What a value may be, exact or computed."""
    error = value.error * UPWARD
    lower, upper = value.interval
    return lower - error, upper + error


def _of_step(found: Derivatives, x: Computed, limit: Tensor | float, below: float) -> Derivatives:
    """Of a function whose slope is 1 above a limit, and another one below it."""
    lower, upper = _reach(x)
    above, under = (torch.where(side > limit, 1.0, below) for side in (upper, lower))
    return found.times(under.to(lower), above.to(lower))


@pulled_back.register
def _(op: Constant, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    return ()


@pulled_back.register
def _(op: Relu, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    return (_of_step(found, inputs[0], 0.0, 0.0),)


@pulled_back.register
def _(op: LeakyRelu, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    return (_of_step(found, inputs[0], 0.0, op.slope),)


@pulled_back.register
def _(op: AtLeast, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    return (_of_step(found, inputs[0], op.limit, 0.0),)


@pulled_back.register
def _(op: Elementwise, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    most = slope(op.function, _reach(inputs[0]))
    least = torch.zeros_like(most) if op.function in RISING else -most
    return (found.times(least, most),)


def _with_zero(found: Derivatives) -> Derivatives:
    """Of what may count or not."""
    lower, upper = found.ends
    return Derivatives.between(lower.clamp(max=0), upper.clamp(min=0))


@pulled_back.register
def _(op: MaxPool2d, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    """In each window, one element counts, or several with weights that sum to one."""
    if op.dilation != (1, 1):
        raise NotImplementedError("no derivatives of dilated pooling")
    shape = tuple(inputs[0].error.shape[1:])
    pool = AvgPool2d(op.kernel, op.stride, op.padding, op.ceil_mode)
    count = op.kernel[0] * op.kernel[1]
    ends = (
        count * _flat(end, lambda rows: adjoint(pool, rows, shape)) * UPWARD
        for end in _with_zero(found).ends
    )
    return (Derivatives.between(*ends),)


@pulled_back.register
def _(op: Maximum, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    either = _with_zero(found)
    return either, either


@pulled_back.register
def _(op: Mul, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    a, b = inputs
    shape = found.center.shape[2:]
    others = [[side.expand(-1, *shape) for side in _reach(value)] for value in (b, a)]
    pairs = zip(others, inputs, strict=True)
    return tuple(_to_shape(found.times(*other), value) for other, value in pairs)


@pulled_back.register
def _(op: Div, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    """Of ``a / b``: ``G / b`` and ``-G a / b^2``; unbounded where b may be 0."""
    shape = found.center.shape[2:]
    a, b = ([side.expand(-1, *shape) for side in _reach(value)] for value in inputs)
    apart = (b[0] > 0) | (b[1] < 0)
    inverses = [torch.where(apart, end.reciprocal(), torch.inf) for end in (b[1], b[0])]
    lower, upper = (1 - UNIT * inverses[0].sign()), (1 + UNIT * inverses[1].sign())
    inverse = inverses[0] * lower, inverses[1] * upper
    by_dividend = found.times(*inverse)
    by_divisor = by_dividend.times(*inverse).times(*a)
    return _to_shape(by_dividend, inputs[0]), _to_shape(by_divisor, inputs[1], -1.0)


@pulled_back.register
def _(op: MatMul, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    """Of ``A B``: ``G B^T`` and ``A^T G``."""
    a, b = (Derivatives.between(*_reach(value)) for value in inputs)
    left = _matrix_product(found, b.transposed(), outer=True)
    right = _matrix_product(a.transposed(), found, outer=False)
    return _to_shape(left, inputs[0]), _to_shape(right, inputs[1])


def _matrix_product(a: Derivatives, b: Derivatives, outer: bool) -> Derivatives:
    """Products of two intervals of matrices, of which one has the axis of rows S before it."""
    if outer:
        b = Derivatives(b.center.unsqueeze(1), b.radius.unsqueeze(1))
    else:
        a = Derivatives(a.center.unsqueeze(1), a.radius.unsqueeze(1))
    sizes = a.center.abs(), b.center.abs()
    count = a.center.shape[-1]
    radius = sizes[0] @ b.radius + a.radius @ (sizes[1] + b.radius)
    rounding = (count + 8) * UNIT * (sizes[0] @ sizes[1])
    return Derivatives(a.center @ b.center, (radius + rounding) * UPWARD)


@pulled_back.register
def _(op: Softmax, found: Derivatives, *inputs: Computed) -> tuple[Derivatives, ...]:
    """The mean of derivatives with weights that sum to one is k more than that of all minus k."""
    shares = enclose(op, _reach(inputs[0]))
    p = Derivatives.between(*(side.unsqueeze(1) for side in shares))
    axis = op.axis + 2
    least, most = (end for end in found.ends)
    middle = (least.amin(axis, keepdim=True) + most.amax(axis, keepdim=True)) / 2
    moved = Derivatives.between(least - middle, most - middle)
    count = moved.center.shape[axis]
    sizes = p.center.abs(), moved.center.abs()
    radius = sizes[0] * moved.radius + p.radius * (sizes[1] + moved.radius)
    radius = radius + (count + 8) * UNIT * sizes[0] * sizes[1]
    mean = (p.center * moved.center).sum(axis, keepdim=True)
    spread = radius.sum(axis, keepdim=True) * UPWARD
    lower, upper = Derivatives(mean, spread).ends
    lower = torch.maximum(lower, moved.ends[0].amin(axis, keepdim=True))
    upper = torch.minimum(upper, moved.ends[1].amax(axis, keepdim=True))
    ends = moved.ends
    differences = Derivatives.between(ends[0] - upper, ends[1] - lower)
    return (differences.times(*shares),)
