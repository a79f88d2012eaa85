"""Backward bound propagation: linear functionals walk from a node back to the input.

The method is that of Zhang et al. 2018 (arXiv:1811.00866) and Xu et al. 2020 (arXiv:2002.12920).
This module holds the walk. ``adjoint`` transforms functionals through affine operations, and
``relaxations`` through nonlinear ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds.broadcasting import broadcast_back
from verify_pipeline.bounds.linear.adjoint import adjoint, constant, picked_rows
from verify_pipeline.bounds.linear.halfspace_box import HalfspaceBox
from verify_pipeline.bounds.relaxations.base import Choice
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph
from verify_pipeline.bounds.relaxations.rounding import of_charge, of_minimum
from verify_pipeline.bounds.types import MarginBounds, sound_lower
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Add, Concat, Constant, LinearOp, Op, Sub
from verify_pipeline.problem import Box, Specification

Shape = tuple[int, ...]
Pulled = tuple[tuple[Tensor | None, ...], Tensor | None]
Visit = Callable[[int, Tensor], None]


@dataclass(frozen=True, eq=False)
class Functional(Batched):
    """Linear functionals ``A · z + c`` of the value ``z`` of one node.

    Attributes:
        place: index of the node.
        coefficients: A, ``N x S x *V``.
        constants: c, ``N x S``.
    """

    place: int
    coefficients: Tensor
    constants: Tensor

    def to(self, dtype: torch.dtype) -> Functional:
        """The same functionals in another dtype, rounded to nearest."""
        return Functional(self.place, self.coefficients.to(dtype), self.constants.to(dtype))


def of_margins(graph: Graph, spec: Specification) -> Functional:
    """The margins ``C f + d`` as functionals of the output node."""
    return Functional(len(graph.nodes) - 1, spec.rows, spec.offsets)


def of_neurons(linear: LinearGraph, place: int, indices: Tensor, sides: Tensor) -> Functional:
    """Functionals of single neurons, each multiplied by its side.

    A lower bound of such a functional bounds the neuron from below (side 1) or from above (side
    -1).

    Args:
        linear: the relaxed network, ``N`` instances, with the rounding of this node.
        place: index of the neurons' node.
        indices: ``N x U`` indices into its flattened value.
        sides: ``N x U``, 1 or -1, in the functionals' dtype.

    Returns:
        ``S = U`` rows. If rows of the operation's matrix are available, the functionals are of the
        node's input, and no one-hot vectors are needed.
    """
    node = linear.graph.nodes[place]
    flat = indices.flatten()
    rows, constants = None, torch.zeros_like(sides)
    if isinstance(node.op, LinearOp):
        below = linear.graph.nodes[node.inputs[0]].shape
        rows = picked_rows(node.op, flat, node.shape, below)
    if rows is not None:
        origin = node.op(sides.new_zeros(1, *below))
        constants = origin.flatten()[indices] * sides
        # the walk does not visit this node, whose stored constants may differ from the exact ones
        constants = constants - linear.rounding.of_stored(place, node.op, indices)
        place, shape = node.inputs[0], below
    else:
        shape = node.shape
        rows = sides.new_zeros(len(flat), *shape)
        rows.flatten(1).scatter_(1, flat.unsqueeze(1), 1.0)
    rows = rows * sides.view(-1, *(1,) * len(shape))
    return Functional(place, rows.view(*indices.shape, *shape), constants)


def _nothing(place: int, coefficients: Tensor) -> None:
    """Do nothing at a visited node."""


def lower_bounds(
    linear: LinearGraph,
    box: Box,
    functional: Functional,
    choices: Mapping[int, Choice] | None = None,
    visit: Visit = _nothing,
    end: int = 0,
) -> MarginBounds:
    """Lower bounds of functionals of a node's value over boxes of an earlier node's value.

    In float64, they hold in spite of rounding, if ``linear`` has the rounding of its nodes.

    Args:
        linear: the relaxed network, ``N`` instances.
        box: ``N`` boxes of the value of the node ``end``.
        functional: ``N x S`` functionals.
        choices: index of a nonlinear node -> values of its free parameters. Other nodes have their
            default lines.
        visit: called for each node with its index and the coefficients ``N x S x *V`` that arrive
            at its value.
        end: the node at which the walk ends, the input by default. Every path from the input to the
            functionals' node has to pass through it.

    Raises:
        ValueError: the functionals depend on a node before ``end`` directly.
    """
    nodes, rounding = linear.graph.nodes, linear.rounding
    choices = choices or {}
    pending = {functional.place: functional.coefficients}
    constants = functional.constants
    lost = rounding.below_normal()
    for place in range(functional.place, end, -1):
        if place not in pending:
            continue
        coefficients = pending.pop(place)
        visit(place, coefficients)
        lost = lost + rounding.of_node(place, coefficients)
        node = nodes[place]
        pulled: Pulled
        if place in linear.relaxations:
            relaxation = linear.relaxations[place]
            pulled = relaxation.pull_back(coefficients, choices.get(place))
        else:
            pulled = pull_back(node.op, coefficients, [nodes[i].shape for i in node.inputs])
        parts, added = pulled
        if added is not None:
            constants = constants + added
            lost = lost + rounding.of_constants(constants)
        for i, part in zip(node.inputs, parts, strict=True):
            if part is not None and i in pending:
                pending[i] = pending[i] + part
                lost = lost + rounding.of_sum(i, pending[i])
            elif part is not None:
                pending[i] = part
    nothing = constants.new_zeros(()).expand(*constants.shape, *nodes[end].shape)
    arrived = pending.pop(end, nothing)
    if pending:
        raise ValueError(f"functionals of node {functional.place} pass by node {end}")
    if end > 0:
        lost = lost + rounding.of_end(end, arrived)
    return concretise(arrived, constants - rounding.outward(lost), box)


def concretise(coefficients: Tensor, constants: Tensor, box: Box) -> MarginBounds:
    """Minimise linear functions over boxes: ``A⁺·l + A⁻·u + c``, less what rounding may add.

    If the box is cut by a half-space, λ times its function is added to A and c first.

    Args:
        coefficients: A, ``N x S x *X``.
        constants: c, ``N x S``.
        box: ``N`` boxes.
    """
    if isinstance(box, HalfspaceBox):
        before = coefficients, constants
        coefficients, constants = box.charged(coefficients, constants)
        constants = constants - of_charge(before, (coefficients, constants), box)
    constants = constants - of_minimum(coefficients, constants, box)
    flat = coefficients.flatten(2)
    least = torch.linalg.vecdot(flat.clamp(min=0), box.lower.flatten(1).unsqueeze(1))
    least += torch.linalg.vecdot(flat.clamp(max=0), box.upper.flatten(1).unsqueeze(1))
    return MarginBounds(sound_lower(least + constants), coefficients, constants)


@singledispatch
def pull_back(op: Op, coefficients: Tensor, shapes: list[Shape]) -> Pulled:
    """Transform functionals of an affine operation's value into functionals of its inputs.

    Args:
        op: the operation.
        coefficients: ``N x S x *V``.
        shapes: ``*V_in`` of each input.

    Returns:
        The functionals of each input (None: the input does not matter) and the constants ``N x S``
        (None: 0).

    Raises:
        NotImplementedError: the operation is not affine.
    """
    raise NotImplementedError(f"{type(op).__name__} is not affine")


@pull_back.register
def _(op: LinearOp, coefficients: Tensor, shapes: list[Shape]) -> Pulled:
    rows = coefficients.shape[:2]
    flat = coefficients.flatten(0, 1)
    added = constant(op, flat)
    pulled = adjoint(op, flat, shapes[0])
    return (pulled.reshape(*rows, *shapes[0]),), None if added is None else added.view(rows)


@pull_back.register
def _(op: Add, coefficients: Tensor, shapes: list[Shape]) -> Pulled:
    return tuple(broadcast_back(coefficients, shape) for shape in shapes), None


@pull_back.register
def _(op: Sub, coefficients: Tensor, shapes: list[Shape]) -> Pulled:
    left, right = shapes
    return (broadcast_back(coefficients, left), -broadcast_back(coefficients, right)), None


@pull_back.register
def _(op: Concat, coefficients: Tensor, shapes: list[Shape]) -> Pulled:
    return coefficients.split([shape[op.axis] for shape in shapes], dim=op.axis + 2), None


@pull_back.register
def _(op: Constant, coefficients: Tensor, shapes: list[Shape]) -> Pulled:
    return (None,), (coefficients * op.value).unsqueeze(2).flatten(2).sum(2)
