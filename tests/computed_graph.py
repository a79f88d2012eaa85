"""Evaluations of a graph in a floating-point arithmetic, rounded operation by operation.

Sums are added up in random order, with or without fused operations, and numbers below the normal
range may be flushed to zero. Numbers are held in float64, in which sums and products of the
arithmetic's numbers are exact enough to be rounded once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.network.arithmetic import Arithmetic
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast, Maximum, Rounded
from verify_pipeline.network.ops import (
    FUNCTIONS,
    Add,
    AvgPool2d,
    Concat,
    Constant,
    Div,
    Elementwise,
    Gather,
    LeakyRelu,
    LinearOp,
    MatMul,
    MaxPool2d,
    Mean,
    Mul,
    Normalisation,
    Op,
    Pad,
    Relu,
    Reshape,
    Slice,
    Softmax,
    Sub,
    Transpose,
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One way to evaluate a network.

    Attributes:
        arithmetic: in which it is evaluated.
        generator: of the orders of sums; None: as they are written.
        fused: whether a product and a sum are rounded once.
        flushes: whether numbers below the normal range become zero.
    """

    arithmetic: Arithmetic
    generator: torch.Generator | None = None
    fused: bool = False
    flushes: bool = False

    def round(self, exact: Tensor) -> Tensor:
        """The numbers of the arithmetic that sums are computed in nearest to float64 ones."""
        return self._rounded(exact, self.arithmetic.inner)

    def _rounded(self, exact: Tensor, arithmetic: Arithmetic) -> Tensor:
        rounded = exact.to(arithmetic.dtype).double()
        if self.flushes:
            rounded = rounded.masked_fill(rounded.abs() < arithmetic.tiny, 0.0)
        return rounded

    def result(self, value: Tensor) -> Tensor:
        """A node's value, stored in the arithmetic's type, or kept wider by chance."""
        kept = self.generator is not None and bool(torch.rand((), generator=self.generator) < 0.5)
        wide = self.arithmetic.wider is None or kept
        return value if wide else self._rounded(value, self.arithmetic)

    def order(self, count: int) -> list[int]:
        """The order of a sum's terms."""
        if self.generator is None:
            return list(range(count))
        found: list[int] = torch.randperm(count, generator=self.generator).tolist()
        return found

    def sum_of_products(self, factors: Tensor, values: Tensor, constant: Tensor) -> Tensor:
        """``Σ_i factors_oi values_i + constant_o``, ``O``; zero factors are no terms."""
        found = []
        for row, first in zip(factors, constant, strict=True):
            places = row.nonzero().flatten()
            terms = [
                *zip(row[places], values[places], strict=True),
                (first, torch.ones(()).double()),
            ]
            total = torch.zeros((), dtype=torch.float64)
            for place in self.order(len(terms)):
                a, b = (self.round(number) for number in terms[place])
                product = a * b if self.fused else self.round(a * b)
                total = self.round(total + product)
            found.append(total)
        return torch.stack(found) if found else constant

    def values(self, graph: Graph, point: Tensor) -> list[Tensor]:
        """The value ``*V`` of each node at a point ``*X``."""
        values = [self.result(self.round(point.double()))]
        for node in graph.nodes[1:]:
            inputs = [values[i] for i in node.inputs]
            values.append(self.result(computed(node.op, self, *inputs).reshape(node.shape)))
        return values


@singledispatch
def computed(op: Op, way: Evaluation, *inputs: Tensor) -> Tensor:
    """The value of an operation, without the batch axis."""
    raise NotImplementedError(type(op).__name__)


@computed.register(Reshape)
@computed.register(Transpose)
@computed.register(Pad)
@computed.register(Slice)
@computed.register(Gather)
@computed.register(Concat)
@computed.register(Constant)
@computed.register(Relu)
@computed.register(MaxPool2d)
@computed.register(AtLeast)
@computed.register(Maximum)
@computed.register(Rounded)
def _moved(op: Op, way: Evaluation, *inputs: Tensor) -> Tensor:
    return way.round(op(*(x.unsqueeze(0) for x in inputs))[0])


@computed.register
def _(op: LinearOp, way: Evaluation, *inputs: Tensor) -> Tensor:
    (x,) = inputs
    ones = torch.eye(x.numel(), dtype=torch.float64).reshape(-1, *x.shape)
    columns = op.linear(ones)
    shape = columns.shape[1:]
    constant = op(torch.zeros(1, *x.shape, dtype=torch.float64))[0].flatten()
    matrix = columns.flatten(1).T
    if isinstance(op, (AvgPool2d, Mean)):  # a sum, then a quotient
        count = float((matrix != 0).sum(1).max())
        total = way.sum_of_products(matrix.sign(), x.flatten(), torch.zeros_like(constant))
        shares = matrix.amax(1) * count
        return way.round(way.round(total / count) * shares).reshape(shape)
    return way.sum_of_products(matrix, x.flatten(), constant).reshape(shape)


@computed.register
def _(op: Normalisation, way: Evaluation, *inputs: Tensor) -> Tensor:
    (x,) = inputs
    centred = way.round(x - way.round(op.mean))
    scaled = way.round(centred * way.round(op.scale))
    return way.round(scaled + way.round(op.bias))


def _elementwise(function: Callable[..., Tensor], way: Evaluation, *inputs: Tensor) -> Tensor:
    return way.round(function(*(way.round(x) for x in inputs)))


@computed.register
def _(op: LeakyRelu, way: Evaluation, *inputs: Tensor) -> Tensor:
    slope = way.round(torch.tensor(op.slope, dtype=torch.float64))
    return _elementwise(lambda x: torch.where(x < 0, slope * x, x), way, *inputs)


@computed.register
def _(op: Elementwise, way: Evaluation, *inputs: Tensor) -> Tensor:
    dtype = way.arithmetic.inner.dtype
    return _elementwise(lambda x: FUNCTIONS[op.function](x.to(dtype)).double(), way, *inputs)


@computed.register(Add)
@computed.register(Sub)
@computed.register(Mul)
@computed.register(Div)
def _pair(op: Op, way: Evaluation, *inputs: Tensor) -> Tensor:
    return _elementwise(lambda *x: op(*(each.unsqueeze(0) for each in x))[0], way, *inputs)


@computed.register
def _(op: MatMul, way: Evaluation, *inputs: Tensor) -> Tensor:
    a, b = inputs
    none = torch.zeros(a.shape[-2], dtype=torch.float64)
    if a.dim() > 2:
        return torch.stack([computed(op, way, x, y) for x, y in zip(a, b, strict=True)])
    return torch.stack([way.sum_of_products(a, column, none) for column in b.T], -1)


@computed.register
def _(op: Softmax, way: Evaluation, *inputs: Tensor) -> Tensor:
    (x,) = inputs
    shifted = way.round(x - x.amax(op.axis, keepdim=True))
    powers = way.round(shifted.exp())
    total = torch.zeros_like(powers.narrow(op.axis, 0, 1))
    for place in way.order(powers.shape[op.axis]):
        total = way.round(total + powers.narrow(op.axis, place, 1))
    return way.round(powers / total)


def ways(arithmetic: Arithmetic, seed: int = 0) -> list[Evaluation]:
    """Evaluations in several orders, fused and not, flushing and not."""
    found = [Evaluation(arithmetic)]
    for number, (fused, flushes) in enumerate(((False, False), (True, False), (False, True))):
        generator = torch.Generator().manual_seed(seed * 10 + number)
        found.append(Evaluation(arithmetic, generator, fused, flushes))
    return found
