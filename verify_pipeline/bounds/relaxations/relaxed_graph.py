"""The relaxation of each nonlinear operation, and the relaxation of a whole graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds.floating_point import Interval
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.bounds.relaxations.base import Constants, Relaxation
from verify_pipeline.bounds.relaxations.bilinear import ELEMENTWISE, MATRIX, product, quotient
from verify_pipeline.bounds.relaxations.clipping import at_least, greater, rounded
from verify_pipeline.bounds.relaxations.max_pool import selection
from verify_pipeline.bounds.relaxations.relu import lines
from verify_pipeline.bounds.relaxations.rounding import NO_ROUNDING, Rounder, Rounding
from verify_pipeline.bounds.relaxations.smooth import has_curve
from verify_pipeline.bounds.relaxations.softmax import shares, shares_of_differences
from verify_pipeline.bounds.relaxations.tangents import tangents
from verify_pipeline.bounds.relu_splits import clamp_to_splits
from verify_pipeline.bounds.types import NodeBounds, Splits
from verify_pipeline.network.differences import SoftmaxOfDifferences
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import AtLeast, Maximum, Rounded
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
from verify_pipeline.problem import Box


@dataclass(frozen=True, eq=False)
class LinearGraph(Batched):
    """A graph with a relaxation of each nonlinear node, for ``N`` instances.

    Attributes:
        graph: the network.
        relaxations: index of a nonlinear node -> its relaxation.
        rounding: what rounding changes at each node. Without it, a bound proves nothing.
    """

    graph: Graph
    relaxations: dict[int, Relaxation]
    rounding: Rounding

    def to(self, dtype: torch.dtype) -> LinearGraph:
        """The same in another dtype, rounded to nearest, so a verdict must not depend on it."""

        def move(values: Tensor) -> Tensor:
            return values.to(dtype) if values.is_floating_point() else values

        moved = {place: relaxation.map(move) for place, relaxation in self.relaxations.items()}
        if dtype == torch.float64:
            raise ValueError("float64 relaxations are made of float64 bounds, for their rounding")
        return LinearGraph(self.graph.to(dtype), moved, NO_ROUNDING)


@dataclass(frozen=True, eq=False)
class RelaxedBounds(NodeBounds):
    """Bounds, together with the relaxations that do not change when ReLUs are split.

    Attributes:
        relaxations: index of a nonlinear node -> its relaxation, for ``N`` instances.
    """

    relaxations: dict[int, Relaxation] = field(default_factory=dict)

    @staticmethod
    def of(graph: Graph, bounds: NodeBounds) -> RelaxedBounds:
        """Add the relaxations of all nodes that depend on no bounds of a (leaky) ReLU's input."""
        split = {n.inputs[0] for n in graph.nodes if isinstance(n.op, Relu | LeakyRelu)}
        relaxations = {
            place: relax_node(graph, place, bounds)
            for place, node in enumerate(graph.nodes)
            if not is_affine(node.op) and not split & {*reads(node.op, place, node.inputs)}
        }
        return RelaxedBounds(bounds.lower, bounds.upper, relaxations)


def linearise(
    graph: Graph, box: Box, bounds: NodeBounds, splits: Splits | None = None
) -> LinearGraph:
    """Relax every nonlinear node over its bounds, which are clamped to the splits.

    Args:
        graph: the network.
        box: ``N`` boxes.
        bounds: bounds of ``N`` instances, at least of the nodes that :func:`reads` names. Contained
            relaxations (:class:`RelaxedBounds`) are reused.
        splits: splits of (leaky) ReLUs; None: none.

    Raises:
        KeyError: bounds of a node are missing.
    """
    known = bounds.relaxations if isinstance(bounds, RelaxedBounds) else {}
    if splits:
        bounds = clamp_to_splits(bounds, graph, splits)
    relaxations = {
        place: known[place] if place in known else relax_node(graph, place, bounds)
        for place, node in enumerate(graph.nodes)
        if not is_affine(node.op)
    }
    rounder = Rounder(graph, box)
    for place in range(1, len(graph.nodes)):
        rounder.add(place, bounds, relaxations.get(place))
    return LinearGraph(graph, relaxations, rounder.rounding())


@singledispatch
def reads(op: Op, place: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
    """Indices of the nodes whose bounds determine the relaxation of the node ``place``."""
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
@reads.register(Rounded)
@reads.register(Mul)
@reads.register(Div)
@reads.register(MatMul)
@reads.register(Softmax)
@reads.register(SoftmaxOfDifferences)
def _(op: Op, place: int, inputs: tuple[int, ...]) -> tuple[int, ...]:
    return inputs


def is_affine(op: Op) -> bool:
    """Whether the operation is jointly affine in all its inputs and needs no relaxation."""
    return isinstance(op, (Input, LinearOp, Add, Sub, Concat, Constant))


def relax_node(graph: Graph, place: int, bounds: NodeBounds) -> Relaxation:
    """The relaxation of one nonlinear node.

    Args:
        graph: the network.
        place: index of the node.
        bounds: bounds of the nodes that :func:`reads` names.

    Raises:
        KeyError: bounds of one of these nodes are missing.
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
    """The relaxation of one operation.

    Args:
        op: the operation.
        read: bounds of the nodes that :func:`reads` names, ``N x *V`` each.
        inputs: how many inputs the operation has.
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
def _(op: Rounded, read: list[Interval], inputs: int) -> Relaxation:
    return rounded(*read[0], op.type)


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
