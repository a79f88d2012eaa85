"""How much the errors of single operations change the margins, by intervals of derivatives.

Errors that are multiplied with absolute weights layer after layer grow as intervals do. Here each
operation's own error is multiplied with the greatest derivative of the margin: replace the exact
operations by computed ones, one after the other. Each replacement changes the margin by at most

    Σ_i  sup |∂ margin / ∂ value_i|  own_i

(mean value theorem), where all values are exact ones up to the errors of ``computed_values``.
Derivatives are bounded as in Weng et al. 2018 (Fast-Lip, arXiv:1804.09699). Affine operations that
follow each other, which runtimes merge, count as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.bounds.broadcasting import sum_to
from verify_pipeline.bounds.forward_error.computed import UPWARD, Computed
from verify_pipeline.bounds.forward_error.functions import slope
from verify_pipeline.bounds.linear.adjoint import adjoint
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast, Maximum
from verify_pipeline.network.norms import fans
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Constant,
    Conv2d,
    Elementwise,
    LeakyRelu,
    Linear,
    LinearOp,
    MaxPool2d,
    Mul,
    Relu,
    Scale,
    Sub,
)
from verify_pipeline.problem import Specification

AFFINE = (LinearOp, Add, Sub, Concat)
"""Operations that hand on the errors of a sum before them."""

RISING = frozenset(["sigmoid", "tanh", "erf", "atan", "softplus", "exp", "elu", "selu", "log"])
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

    def times(self, lower: Tensor, upper: Tensor) -> Derivatives:
        """Times numbers of intervals ``N x *V``."""
        products = [a * b.unsqueeze(1) for a in self.ends for b in (lower, upper)]
        found = torch.stack(products)
        return Derivatives.between(found.amin(0), found.amax(0))


def sensitivities(graph: Graph, values: Sequence[Computed], spec: Specification) -> Tensor | None:
    """At least the difference between computed and exact margins, ``N x S``.

    Args:
        graph: the file's own operations.
        values: what is known of each node's computed value.
        spec: ``N`` specifications, float64.

    Returns:
        None if the derivatives of some operation are not bounded.
    """
    first = Derivatives(spec.rows, torch.zeros_like(spec.rows))
    arriving: dict[int, list[tuple[Derivatives, bool]]] = {len(values) - 1: [(first, False)]}
    total = torch.zeros_like(spec.offsets)
    for place in range(len(values) - 1, -1, -1):
        found = arriving.pop(place, [])
        value, node = values[place], graph.nodes[place]
        # an affine user hands on the errors of a sum, so that they are not counted here
        charged = [each for each, handed_on in found if not (handed_on and value.count)]
        if charged:
            total = total + (_sum(charged).size * value.own.unsqueeze(1)).flatten(2).sum(2)
        if not found or place == 0:
            continue
        inputs = [values[i] for i in node.inputs]
        try:
            pulled = pulled_back(node.op, _sum([each for each, _ in found]), *inputs)
        except NotImplementedError:
            return None
        for i, each in zip(node.inputs, pulled, strict=False):
            arriving.setdefault(i, []).append((each, isinstance(node.op, AFFINE)))
    return total * UPWARD


def _sum(parts: Sequence[Derivatives]) -> Derivatives:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


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
