"""Which relaxation each nonlinear operation gets, and a whole graph relaxed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from torch import Tensor

from verify_pipeline.bounds.contract import NodeBounds, Splits
from verify_pipeline.bounds.curves import curve, has_curve
from verify_pipeline.bounds.lines import lines
from verify_pipeline.bounds.pooling import selection
from verify_pipeline.bounds.relaxation import Constants, Relaxation
from verify_pipeline.bounds.splits import clamp_to_splits
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import (
    Add,
    Concat,
    Constant,
    Elementwise,
    Input,
    LeakyRelu,
    LinearOp,
    MaxPool2d,
    Op,
    Relu,
    Sub,
)


@dataclass(frozen=True, eq=False)
class LinearGraph:
    """A graph whose nonlinear nodes are relaxed, for each of ``N`` instances.

    Attributes:
        graph: the network.
        relaxations: place of a nonlinear node -> its relaxation.
    """

    graph: Graph
    relaxations: dict[int, Relaxation]

    def __getitem__(self, index: slice | Tensor) -> LinearGraph:
        picked = {place: relaxation[index] for place, relaxation in self.relaxations.items()}
        return LinearGraph(self.graph, picked)


def linearise(graph: Graph, bounds: NodeBounds, splits: Splits | None = None) -> LinearGraph:
    """Relax every nonlinear node over its bounds, cut by the splits."""
    if splits:
        bounds = clamp_to_splits(bounds, graph, splits)
    relaxations = {
        place: relax_node(graph, place, bounds)
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
    lower, upper = bounds.lower[read[0]], bounds.upper[read[0]]
    return relax(node.op, lower, upper, len(node.inputs))


@singledispatch
def relax(op: Op, lower: Tensor, upper: Tensor, inputs: int) -> Relaxation:
    """The relaxation of ``op`` from bounds ``N x *V`` of the place that it reads."""
    return Constants(lower, upper, inputs)


@relax.register
def _(op: Relu, lower: Tensor, upper: Tensor, inputs: int) -> Relaxation:
    return lines(0.0, lower, upper)


@relax.register
def _(op: LeakyRelu, lower: Tensor, upper: Tensor, inputs: int) -> Relaxation:
    return lines(op.slope, lower, upper)


@relax.register
def _(op: Elementwise, lower: Tensor, upper: Tensor, inputs: int) -> Relaxation:
    if has_curve(op.function):
        return curve(op.function, lower, upper)
    return Constants(lower, upper, inputs)


@relax.register
def _(op: MaxPool2d, lower: Tensor, upper: Tensor, inputs: int) -> Relaxation:
    return selection(op, lower, upper)
