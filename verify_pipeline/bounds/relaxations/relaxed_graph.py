"""Which relaxation each nonlinear operation gets, and a whole graph relaxed."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds.interval.ibp import Interval, enclose
from verify_pipeline.bounds.relaxations.base import Constants, Relaxation
from verify_pipeline.bounds.relaxations.bilinear import ELEMENTWISE, MATRIX, product, quotient
from verify_pipeline.bounds.relaxations.clipping import at_least, greater, rounded
from verify_pipeline.bounds.relaxations.max_pool import selection
from verify_pipeline.bounds.relaxations.relu import lines
from verify_pipeline.bounds.relaxations.smooth import has_curve
from verify_pipeline.bounds.relaxations.softmax import shares, shares_of_differences
from verify_pipeline.bounds.relaxations.tangents import tangents
from verify_pipeline.bounds.relu_splits import clamp_to_splits
from verify_pipeline.bounds.types import NodeBounds, Splits
from verify_pipeline.network.differences import SoftmaxOfDifferences
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast, Maximum, Single
from verify_pipeline.network.ops import (
    Add,
    Concat,
    Constant,
    Div,
    Elementwise,
    Input,
    LeakyRelu,
    LinearOp,
    MatMul,
    MaxPool2d,
    Mul,
    Op,
    Relu,
    Softmax,
    Sub,
)


@dataclass(frozen=True, eq=False)
class LinearGraph(Batched):
    """A graph whose nonlinear nodes are relaxed, for each of ``N`` instances.

    Attributes:
        graph: the network.
        relaxations: place of a nonlinear node -> its relaxation.
    """

    graph: Graph
    relaxations: dict[int, Relaxation]

    def to(self, dtype: torch.dtype) -> LinearGraph:
        """The same in another dtype, rounded to nearest: for directions, not for verdicts."""

        def move(values: Tensor) -> Tensor:
            return values.to(dtype) if values.is_floating_point() else values

        moved = {place: relaxation.map(move) for place, relaxation in self.relaxations.items()}
        return LinearGraph(self.graph.to(dtype), moved)


@dataclass(frozen=True, eq=False)
class RelaxedBounds(NodeBounds):
    """Bounds, with relaxations made of them that splits of ReLUs do not change.

    Attributes:
        relaxations: place of a nonlinear node -> its relaxation, ``N`` instances.
    """

    relaxations: dict[int, Relaxation] = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph, bounds: NodeBounds) -> RelaxedBounds:
        """Those of a graph: of each nonlinear node that reads no (leaky) ReLU's input."""
        split = {n.inputs[0] for n in graph.nodes if isinstance(n.op, Relu | LeakyRelu)}
        relaxations = {
            place: relax_node(graph, place, bounds)
            for place, node in enumerate(graph.nodes)
            if not is_affine(node.op) and not split & {*reads(node.op, place, node.inputs)}
        }
        return RelaxedBounds(bounds.lower, bounds.upper, relaxations)


def linearise(graph: Graph, bounds: NodeBounds, splits: Splits | None = None) -> LinearGraph:
    """Relax every nonlinear node over its bounds, cut by the splits."""
    known = bounds.relaxations if isinstance(bounds, RelaxedBounds) else {}
    if splits:
        bounds = clamp_to_splits(bounds, graph, splits)
    relaxations = {
        place: known[place] if place in known else relax_node(graph, place, bounds)
        for place, node in enumerate(graph.nodes)
        if not is_affine(node.op)
    }
    return LinearGraph(graph, relaxations)


@singledispatch
def reads(op: Op, place: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
    """Places whose bounds the relaxation of the node at ``place`` is made of."""
    return (place,)


@reads.register(Input)
@reads.register(LinearOp)
@reads.register(Add)
@reads.register(Sub)
@reads.register(Concat)
@reads.register(Constant)
def _(op: Op, place: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
    return ()


@reads.register
def _(op: Elementwise, place: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
    return inputs if has_curve(op.function) else (place,)


@reads.register(Relu)
@reads.register(LeakyRelu)
@reads.register(MaxPool2d)
@reads.register(AtLeast)
@reads.register(Maximum)
@reads.register(Single)
@reads.register(Mul)
@reads.register(Div)
@reads.register(MatMul)
@reads.register(Softmax)
@reads.register(SoftmaxOfDifferences)
def _(op: Op, place: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
    return inputs


def is_affine(op: Op) -> bool:
    """Whether the operation is affine in all its inputs together, so needs no relaxation."""
    return isinstance(op, (Input, LinearOp, Add, Sub, Concat, Constant))


def relax_node(graph: Graph, place: int, bounds: NodeBounds) -> Relaxation:
    """The relaxation of the nonlinear node at ``place``.

    Args:
        graph: the network.
        place: of the node.
        bounds: of the places that :func:`reads` names.
    """
    node = graph.nodes[place]
    read = reads(node.op, place, node.inputs)
    missing = [graph.nodes[i].name for i in read if i not in bounds.lower]
    if missing:
        raise KeyError(f"no bounds of {', '.join(missing)}, which {node.name} needs")
    intervals = [(bounds.lower[i], bounds.upper[i]) for i in read]
    return relax(node.op, intervals, len(node.inputs))


@singledispatch
def relax(op: Op, read: list[Interval], inputs: int) -> Relaxation:
    """The relaxation of ``op``.

    Args:
        op: the operation.
        read: bounds ``N x *V`` of the places that it :func:`reads`.
        inputs: how many inputs it has.
    """
    return Constants(*read[0], inputs)


@relax.register
def _(op: Relu, read: list[Interval], inputs: int) -> Relaxation:
    return lines(0.0, *read[0])


@relax.register
def _(op: LeakyRelu, read: list[Interval], inputs: int) -> Relaxation:
    return lines(op.slope, *read[0])


@relax.register
def _(op: Elementwise, read: list[Interval], inputs: int) -> Relaxation:
    if has_curve(op.function):
        return tangents(op.function, *read[0])
    return Constants(*read[0], inputs)


@relax.register
def _(op: MaxPool2d, read: list[Interval], inputs: int) -> Relaxation:
    return selection(op, *read[0])


@relax.register
def _(op: AtLeast, read: list[Interval], inputs: int) -> Relaxation:
    return at_least(op.limit, *read[0])


@relax.register
def _(op: Maximum, read: list[Interval], inputs: int) -> Relaxation:
    return greater(*read)


@relax.register
def _(op: Single, read: list[Interval], inputs: int) -> Relaxation:
    return rounded(*read[0])


@relax.register
def _(op: Mul, read: list[Interval], inputs: int) -> Relaxation:
    return product(ELEMENTWISE, *read)


@relax.register
def _(op: MatMul, read: list[Interval], inputs: int) -> Relaxation:
    return product(MATRIX, *read)


@relax.register
def _(op: Div, read: list[Interval], inputs: int) -> Relaxation:
    return quotient(*read)


@relax.register
def _(op: Softmax, read: list[Interval], inputs: int) -> Relaxation:
    return shares(op.axis + 1, *read[0], *enclose(op, read[0]))


@relax.register
def _(op: SoftmaxOfDifferences, read: list[Interval], inputs: int) -> Relaxation:
    return shares_of_differences(op, *read[0], *enclose(op, read[0]))
