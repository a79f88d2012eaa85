"""One instance's network without its inactive neurons.

Over one box about two thirds of the ReLUs of a network trained for certification are inactive:
their values are zero, and so are the coefficients that arrive at their inputs. Functionals of that
instance alone are walked back through the others: linear layers keep some rows and columns,
convolutions become sparse matrices, a tenth of what they were. What is left out is a zero in the
whole network's walk as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from verify_pipeline.bounds.intermediate.sparse_convolution import fits_sparse, sparse_convolution
from verify_pipeline.bounds.linear.adjoint import adjoint
from verify_pipeline.bounds.relaxations.base import Relaxation
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph, is_affine
from verify_pipeline.bounds.relaxations.relu import FixedLines
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import Conv2d, LeakyRelu, Linear, LinearOp, Op, Relu, Reshape, size

Shape = tuple[int, ...]

# A sparse matrix is made in the time of so many multiplications for each candidate for a place.
_MAKING = 64

# So many candidates take about a second and a GiB, in one go: who has more is walked back as usual.
_MOST = 1 << 25


@dataclass(frozen=True, eq=False)
class Put(LinearOp):
    """Elements put at ``places`` of a flattened value ``*V`` of ``shape``, zeros elsewhere."""

    places: Tensor
    shape: Shape

    def linear(self, x: Tensor) -> Tensor:
        """``N x L`` to ``N x *V``."""
        whole = x.new_zeros(len(x), size(self.shape)).index_copy(1, self.places, x)
        return whole.view(-1, *self.shape)


@dataclass(frozen=True, eq=False)
class Take(LinearOp):
    """The elements at ``places`` of a flattened value."""

    places: Tensor

    def linear(self, x: Tensor) -> Tensor:
        """``N x *V`` to ``N x L``."""
        return x.flatten(1).index_select(1, self.places)


@adjoint.register
def _(op: Put, coefficients: Tensor, shape: Shape) -> Tensor:
    return coefficients.flatten(1).index_select(1, op.places)


@adjoint.register
def _(op: Take, coefficients: Tensor, shape: Shape) -> Tensor:
    whole = coefficients.new_zeros(len(coefficients), size(shape))
    return whole.index_copy(1, op.places, coefficients).view(-1, *shape)


def is_chain(graph: Graph, place: int) -> bool:
    """Whether affine operations and (leaky) ReLUs, one after the other, lead to a node."""
    nodes = graph.nodes[1 : place + 1]
    known = all(is_affine(node.op) or isinstance(node.op, (Relu, LeakyRelu)) for node in nodes)
    return known and all(node.inputs == (i,) for i, node in enumerate(nodes))


def where_it_pays(linear: LinearGraph, place: int, functionals: Tensor) -> Tensor:
    """Where :func:`active_subnetwork` spares more than making it is worth, and is small.

    Args:
        linear: the relaxed network, ``N`` instances.
        place: of a node.
        functionals: how many of its neurons are to be walked back, about, ``N`` integers.

    Returns:
        ``N`` booleans.
    """
    nodes = linear.graph.nodes
    lines = {i: known for i, known in linear.relaxations.items() if isinstance(known, FixedLines)}
    made, spared = torch.zeros_like(functionals), torch.zeros_like(functionals)
    if len(lines) < len(linear.relaxations) or not is_chain(linear.graph, place):
        return spared > made
    share = {i: known.live.flatten(1).double().mean(1) for i, known in lines.items()}
    for i, node in enumerate(nodes[:place]):
        if isinstance(node.op, Conv2d) and i + 1 in share and fits_sparse(node.op):
            whole = size(node.shape) * node.op.weight[0].numel()
            # candidates are all taps of the input's live elements
            candidates = whole * share.get(i - 1, torch.ones_like(share[i + 1]))
            made = made + candidates
            spared = spared + whole - candidates * share[i + 1]
    return (functionals * spared > _MAKING * made) & (made <= _MOST)


def active_subnetwork(linear: LinearGraph, place: int) -> LinearGraph:
    """The network up to a node without the inactive ReLUs of its one instance.

    Args:
        linear: the relaxed network, one instance, with fixed lines; a chain up to the node.
        place: of the node. Its own elements are all kept, and it is the result's last node.
    """
    live = {
        i: known.live[0].flatten().nonzero().flatten()
        for i, known in linear.relaxations.items()
        if isinstance(known, FixedLines) and i < place
    }
    return _Chain(linear.graph.nodes[: place + 1], live).relaxed(linear.relaxations)


class _Chain:
    """Nodes one after the other, rewritten.

    Args:
        nodes: the chain.
        live: place of a ReLU -> places of its elements that are not inactive.
    """

    def __init__(self, nodes: Sequence[Node], live: Mapping[int, Tensor]) -> None:
        self._old, self._live = nodes, live
        self._nodes = [nodes[0]]
        # where only these elements of the last value are there, and that value's whole shape
        self._kept: Tensor | None = None
        self._shape = nodes[0].shape

    def relaxed(self, known: Mapping[int, Relaxation]) -> LinearGraph:
        """The new network, with lines out of those of the old one by place."""
        relaxations: dict[int, Relaxation] = {}
        for place, node in enumerate(self._old[1:], 1):
            if place in self._live:
                some = self._live[place]
                relaxations[len(self._nodes)] = known[place].map(
                    lambda t, some=some: t.flatten(1).index_select(1, some)  # type: ignore[misc]
                )
                self._add(node.op, (len(some),))
            else:
                self._affine(place)
            self._shape = node.shape
        self._whole()
        return LinearGraph(Graph(tuple(self._nodes)), relaxations)

    def _affine(self, place: int) -> None:
        """Add an affine operation, of whose value a ReLU behind it wants only live elements."""
        node, wanted = self._old[place], self._live.get(place + 1)
        op, kept = node.op, self._kept
        if isinstance(op, Reshape) and kept is not None and wanted is None:
            return
        if isinstance(op, Linear) and len(self._shape) == 1:
            weight = op.weight if kept is None else op.weight.index_select(1, kept)
            bias = op.bias
            if wanted is not None:
                weight = weight.index_select(0, wanted)
                bias = None if bias is None else bias[wanted]
            self._add(Linear(weight, bias), (len(weight),))
        elif isinstance(op, Conv2d) and wanted is not None and fits_sparse(op):
            made = sparse_convolution(op, self._shape, node.shape, kept, wanted)
            self._add(made, (len(wanted),))
        else:
            self._whole()
            self._add(op, node.shape)
            if wanted is not None:
                self._add(Take(wanted), (len(wanted),))
        self._kept = wanted

    def _whole(self) -> None:
        if self._kept is not None:
            self._add(Put(self._kept, self._shape), self._shape)
            self._kept = None

    def _add(self, op: Op, shape: Shape) -> None:
        place = len(self._nodes)
        self._nodes.append(Node(f"n{place}", op, (place - 1,), shape))
