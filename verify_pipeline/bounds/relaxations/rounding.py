"""How much rounding can raise the result of a backward walk, as one number for each row.

At a node, functionals ``Λ`` of its value become functionals of its inputs. Rounding changes the
coefficients of an affine operation by at most ``γ |Λ| |W|``, elementwise. Applied to values of its
input, which are at most m in size, the change is at most

    γ Σ_o |Λ_o| Σ_i |W_oi| m  <=  γ g m ‖Λ‖₁,     g = max_o Σ_i |W_oi|.

So one sum over the coefficients that arrive at each node bounds all that rounding does there. The
walk goes on with the rounded coefficients: what it proves of them is exact up to the next node's
term, and the terms add up. docs/soundness.md has the term of each operation.

In float32, nothing is proved, and all terms are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds.floating_point import LEAST_WIDTH, gamma, greatest
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.bounds.relaxations.base import Relaxation, inner
from verify_pipeline.bounds.types import NodeBounds
from verify_pipeline.network.affine_error import EXACT, AffineError
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.limits import Maximum
from verify_pipeline.network.norms import fans
from verify_pipeline.network.ops import (
    Add,
    Concat,
    Constant,
    Conv2d,
    LeakyRelu,
    Linear,
    LinearOp,
    MaxPool2d,
    Op,
    Relu,
    Scale,
    Sub,
    size,
)
from verify_pipeline.problem import Box

LEAST = 2.0**-900
"""Times a value's size, more than what a node's products lose below the normal range, summed."""

UPWARD = 1 + 2.0**-16
"""Makes up for the rounding of the terms themselves, sums of up to 2^36 non-negative numbers."""

HUGE = 2.0**100
"""Constants of this size are masks (``onnx.masks``): beside them, other numbers need sizes of their
own."""


@dataclass(frozen=True, eq=False)
class Rounding(Batched):
    """The terms of a relaxed network's nodes, for ``N`` instances; no terms in float32.

    A size or a term is one number for all elements of a node, ``N``. For nodes whose elements
    differ by masks, it is a number for each element, ``N x *V``.

    Attributes:
        sizes: index of a node -> the greatest absolute value of its elements.
        terms: index of a node -> the greatest change of a functional of its value, per unit of a
            coefficient.
        least: what a walk loses below the normal range in all nodes, ``N``; None: no terms.
    """

    sizes: dict[int, Tensor]
    terms: dict[int, Tensor]
    least: Tensor | None

    def of_node(self, place: int, coefficients: Tensor) -> Tensor | float:
        """The term of functionals ``N x S x *V`` that arrive at a node, ``N x S``."""
        return _times(coefficients, self.terms[place]) if place in self.terms else 0.0

    def of_stored(self, place: int, op: Op, indices: Tensor) -> Tensor | float:
        """How far single elements may be from those with exact weights and constants, ``N x U``.

        Args:
            place: index of the node.
            op: its operation.
            indices: ``N x U`` indices into its flattened value.
        """
        if not _error(op) or place not in self.terms:
            return 0.0
        term = self.terms[place]
        return term.unsqueeze(1) if term.dim() == 1 else term.flatten(1).gather(1, indices)

    def of_sum(self, place: int, coefficients: Tensor) -> Tensor | float:
        """The rounding of a sum of functionals of a node, ``N x S``."""
        return self._of_roundings(1, place, coefficients)

    def of_end(self, place: int, coefficients: Tensor) -> Tensor | float:
        """The rounding of functionals of the node at which a short walk ends, ``N x S``.

        A node's term covers what (leaky) ReLUs that read its value do to functionals, but is never
        taken off where the walk ends.
        """
        return self._of_roundings(8, place, coefficients)

    def _of_roundings(self, count: int, place: int, coefficients: Tensor) -> Tensor | float:
        if place not in self.sizes:
            return 0.0
        return gamma(count, coefficients.dtype) * _times(coefficients, self.sizes[place])

    def of_constants(self, constants: Tensor) -> Tensor | float:
        """The rounding of a sum of constants, ``N x S``."""
        return gamma(1, constants.dtype) * constants.abs() if self.terms else 0.0

    def below_normal(self) -> Tensor | float:
        """What is lost below the normal range in all nodes, ``N x 1``."""
        return 0.0 if self.least is None else self.least.unsqueeze(1)

    def outward(self, lost: Tensor | float) -> Tensor | float:
        """The sum of terms, increased by what its own rounding may have taken from it."""
        return lost * UPWARD


NO_ROUNDING = Rounding({}, {}, None)
"""Of networks in float32, and of what proves nothing."""


def _times(coefficients: Tensor, numbers: Tensor) -> Tensor:
    """``Σ |coefficients| numbers`` over a node's elements, ``N x S``."""
    if numbers.dim() == 1:
        return absolute_sums(coefficients) * numbers.unsqueeze(1)
    return inner(coefficients.abs(), numbers)


def absolute_sums(coefficients: Tensor) -> Tensor:
    """The sum of absolute coefficients of each functional, ``N x S``; torch's norm is slower."""
    return coefficients.unsqueeze(2).flatten(2).abs().sum(2)


def of_minimum(coefficients: Tensor, constants: Tensor, box: Box) -> Tensor | float:
    """The rounding of the minimum of linear functions ``N x S x *X`` over boxes, ``N x S``."""
    share = gamma(size(tuple(box.lower.shape[1:])) + 8, constants.dtype)
    if not share:
        return 0.0
    # a box's lower ends are at most its upper ones, so these two are the greatest sizes
    most = torch.maximum(-box.lower.flatten(1).amin(1), box.upper.flatten(1).amax(1))
    lost = share * _times(coefficients, most)
    return (lost + gamma(4, constants.dtype) * constants.abs() + LEAST) * UPWARD


def of_charge(
    before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], box: Box
) -> Tensor | float:
    """The rounding of adding a multiple of a half-space's function to linear functions, ``N x S``.

    Args:
        before: coefficients ``N x S x *X`` and constants ``N x S`` of the functions.
        after: likewise; a summand is at most as large as both together.
        box: ``N`` boxes.
    """
    share = gamma(4, before[1].dtype)
    if not share:
        return 0.0
    most = greatest((box.lower, box.upper))
    lost = inner(before[0].abs(), most) + inner(after[0].abs(), most)
    return (share * (lost + before[1].abs() + after[1].abs()) + LEAST) * UPWARD


class Rounder:
    """Collects sizes and terms while a graph is relaxed from its input to its output.

    Args:
        graph: the network.
        box: ``N`` boxes.
    """

    def __init__(self, graph: Graph, box: Box) -> None:
        self._graph = graph
        self._proves = box.lower.dtype == torch.float64
        self._masked = masked_places(graph) if self._proves else frozenset()
        activations = (node for node in graph.nodes if isinstance(node.op, Relu | LeakyRelu))
        self._activated = {node.inputs[0] for node in activations}
        self._sizes: dict[int, Tensor] = {}
        self._terms: dict[int, Tensor] = {}
        if self._proves:
            self._sizes[0] = self._reduced(0, greatest((box.lower, box.upper)))

    def add(self, place: int, bounds: NodeBounds, relaxation: Relaxation | None) -> None:
        """Add a node behind all that it depends on.

        Args:
            place: index of the node.
            bounds: bounds of some nodes, in all cases those that the node's relaxation needs.
            relaxation: of the node; None: it is affine.
        """
        if not self._proves or place == 0:
            return
        before = [self._sizes[i] for i in self._graph.nodes[place].inputs]
        if relaxation is not None:
            own = relaxation.rounding([_greatest(value) for value in before])
        else:
            own = None if self._only_moves(place) else self._of_operation(place, before)
        self._sizes[place] = self._size(place, bounds, before)
        if place in self._activated:
            # slopes were multiplied with the coefficients, multipliers of splits subtracted
            arriving = gamma(8, self._sizes[place].dtype) * self._sizes[place]
            own = arriving if own is None else _sum(own, arriving)
        if own is not None:
            self._terms[place] = own * UPWARD + LEAST_WIDTH  # for what own itself lost

    def rounding(self) -> Rounding:
        """The sizes and terms of the nodes so far."""
        if not self._proves:
            return NO_ROUNDING
        sizes = torch.stack([_greatest(values) for values in self._sizes.values()])
        return Rounding(dict(self._sizes), dict(self._terms), LEAST * (1 + sizes).sum(0))

    def _only_moves(self, place: int) -> bool:
        """Whether a node's adjoint and constant are not rounded at all."""
        node = self._graph.nodes[place]
        shapes = [self._graph.nodes[i].shape for i in node.inputs]
        if isinstance(node.op, LinearOp):
            return fans(node.op, shapes[0], node.shape).outward == 0
        same = all(shape == node.shape for shape in shapes)
        return isinstance(node.op, Concat) or (isinstance(node.op, Add | Sub) and same)

    def _reduced(self, place: int, values: Tensor) -> Tensor:
        """One number for each instance, if no masks need more."""
        return values if place in self._masked else _greatest(values)

    def _spread(self, place: int, sizes: Tensor) -> Tensor:
        """A number for each element of a node, ``N x *V``."""
        shape = self._graph.nodes[place].shape
        return sizes.view(-1, *(1,) * len(shape)).expand(-1, *shape) if sizes.dim() == 1 else sizes

    def _size(self, place: int, bounds: NodeBounds, before: list[Tensor]) -> Tensor:
        node = self._graph.nodes[place]
        if place in bounds.lower:
            known = greatest((bounds.lower[place], bounds.upper[place]))
            return self._reduced(place, known)
        if place in self._masked:
            spread = [self._spread(i, value) for i, value in zip(node.inputs, before, strict=True)]
            return _sizes_of_elements(node.op, spread)
        sizes = [_greatest(value) for value in before]
        if isinstance(node.op, LinearOp):
            norms, error = self._graph.norms[place], _error(node.op)
            return (norms.gain + error.gain) * sizes[0] + (norms.constant + error.constant)
        found = _size_of(node.op, sizes)
        if found is not None:
            return found
        intervals = [(bounds.lower[i], bounds.upper[i]) for i in node.inputs]
        return _greatest(greatest(enclose(node.op, *intervals)))

    def _of_operation(self, place: int, before: list[Tensor]) -> Tensor:
        """The rounding of an affine operation's adjoint and constant, per unit of a coefficient."""
        node, dtype = self._graph.nodes[place], before[0].dtype
        shapes = [self._graph.nodes[i].shape for i in node.inputs]
        of_all = gamma(size(node.shape) + 8, dtype)
        if isinstance(node.op, LinearOp):
            outward = fans(node.op, shapes[0], node.shape).outward
            share, error = gamma(outward + 8 if outward else 0, dtype), _error(node.op)
            if place in self._masked:
                spread = self._spread(node.inputs[0], before[0])
                constant = of_all * node.op(torch.zeros_like(spread)).abs()
                changed = error.gain * spread.amax() + error.constant
                return share * node.op.linear_abs(spread) + constant + changed
            norms = self._graph.norms[place]
            gain = share * norms.gain + error.gain
            return gain * before[0] + (of_all * norms.constant + error.constant)
        if isinstance(node.op, Constant):
            value = node.op.value.abs().expand(len(before[0]), *node.shape)
            return of_all * self._reduced(place, value)
        if isinstance(node.op, Add | Sub) and any(shape != node.shape for shape in shapes):
            return of_all * torch.stack([_greatest(value) for value in before]).sum(0)
        return before[0].new_zeros(len(before[0]))


def _greatest(values: Tensor) -> Tensor:
    """The greatest element of each instance, ``N``."""
    return values if values.dim() == 1 else values.flatten(1).amax(1)


def _error(op: Op) -> AffineError:
    return op.error if isinstance(op, (Linear, Conv2d, Scale)) else EXACT


def _sum(one: Tensor, other: Tensor) -> Tensor:
    """The sum of sizes or terms, of which either may have a number for each element."""
    if one.dim() < other.dim():
        one, other = other, one
    return one + other.view(-1, *(1,) * (one.dim() - 1)) if other.dim() == 1 else one + other


@singledispatch
def _size_of(op: Op, sizes: Sequence[Tensor]) -> Tensor | None:
    """The greatest size of an operation's value from those of its inputs; None: no rule."""
    return None


@_size_of.register(Relu)
@_size_of.register(LeakyRelu)
@_size_of.register(MaxPool2d)
@_size_of.register(Maximum)
@_size_of.register(Concat)
def _(op: Op, sizes: Sequence[Tensor]) -> Tensor | None:
    return torch.stack(list(sizes)).amax(0)


@_size_of.register(Add)
@_size_of.register(Sub)
def _(op: Op, sizes: Sequence[Tensor]) -> Tensor | None:
    return torch.stack(list(sizes)).sum(0)


@_size_of.register
def _(op: Constant, sizes: Sequence[Tensor]) -> Tensor | None:
    return torch.full_like(sizes[0], float(op.value.abs().amax()))


def _sizes_of_elements(op: Op, sizes: list[Tensor]) -> Tensor:
    """The size of each element of an affine operation's value, ``N x *V``."""
    if isinstance(op, LinearOp):
        return op.linear_abs(sizes[0]) + op(torch.zeros_like(sizes[0])).abs()
    return Add()(*sizes) if isinstance(op, Sub) else op(*sizes).abs()


def masked_places(graph: Graph) -> frozenset[int]:
    """Nodes whose elements have very different sizes, because a mask was added to some of them."""
    found: set[int] = set()
    for place, node in enumerate(graph.nodes):
        constant = node.op.shift if isinstance(node.op, Scale) else None
        constant = node.op.value if isinstance(node.op, Constant) else constant
        begins = constant is not None and bool((constant.abs() >= HUGE).any())
        goes_on = isinstance(node.op, LinearOp | Add | Sub | Concat) and found & {*node.inputs}
        if begins or goes_on:
            found.add(place)
    return frozenset(found)
