"""Specifications of which at least one row has to hold, as further layers of the network.

``problem.Specification`` asks that *every* row of ``C f + d`` is positive. To deny a conjunction of
several constraints, *one* row has to be. That is one number, the greatest row, and
``max(a, b) = a + relu(b - a)`` makes it an output of a network with a few ReLUs more. Bounds,
attacks and splits treat these like any other layers. If the rows' sizes differ so much that the sum
would lose one of them, ``Maximum`` compares them directly. Shape letters: ``N`` inputs, ``K``
outputs of the network, ``R`` rows of a group, ``G`` groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.bounds.interval.maxima_as_relus import Ranges, sum_is_precise
from verify_pipeline.errors import NetworkError
from verify_pipeline.network.affine_error import of_roundings
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.limits import Maximum
from verify_pipeline.network.norms import norms
from verify_pipeline.network.ops import Add, Linear, Op, Relu
from verify_pipeline.problem import Box


@dataclass(frozen=True, eq=False)
class AnyOf:
    """Holds on an output ``f`` iff a row of ``C f + d`` is positive.

    Attributes:
        rows: ``R x K``, the matrix C; at least one row.
        offsets: ``R``, the vector d.
    """

    rows: Tensor
    offsets: Tensor

    def __len__(self) -> int:
        return self.rows.shape[0]

    def values(self, outputs: Tensor) -> Tensor:
        """The greatest row of ``C f + d``, ``N``, of outputs ``N x K``; the group's margin."""
        return (outputs @ self.rows.T + self.offsets).amax(1)


def append_any_of(graph: Graph, groups: Sequence[AnyOf], reach: Box | None = None) -> Graph:
    """The network extended so that its outputs are each group's maximal row.

    All groups hold on an output of ``graph`` iff every output of the result is positive.

    Args:
        graph: ``N x *X`` to ``N x K``.
        groups: G of them, over K outputs; they are rounded to the graph's dtype, so bounds that
            decide need a graph in float64 here.
        reach: one box of all inputs that are asked about; None: any input.

    Returns:
        A graph ``N x *X`` to ``N x G``.

    Raises:
        NetworkError: the graph's output is not a vector of K numbers.
    """
    shape = graph.nodes[-1].shape
    if any(shape != (group.rows.shape[1],) for group in groups):
        raise NetworkError(
            "output of the network",
            expected=f"a vector of {groups[0].rows.shape[1]} numbers",
            got=f"shape {shape}",
        )
    rows = torch.cat([group.rows for group in groups]).to(graph.dtype)
    offsets = torch.cat([group.offsets for group in groups]).to(graph.dtype)
    tail = _Tail(graph, list(graph.nodes))
    sizes = [len(group) for group in groups]
    if max(sizes) == 1:
        tail.linear(rows, offsets)
        return Graph(tuple(tail.nodes))
    write = _summed if _are_of_one_size(graph, rows, offsets, reach) else _compared
    while max(sizes) > 1:
        pairs = _pairs(sizes)
        write(tail, rows, offsets, pairs)
        sizes = pairs.halves
        rows, offsets = torch.eye(sum(sizes)).to(rows), offsets.new_zeros(sum(sizes))
    return Graph(tuple(tail.nodes))


def _are_of_one_size(graph: Graph, rows: Tensor, offsets: Tensor, reach: Box | None) -> bool:
    """Whether sums of the rows' values are as precise as their maximum."""
    lower, upper = Ranges(graph, lambda: reach)[len(graph.nodes) - 1]
    least, most = enclose(Linear(rows.to(lower), offsets.to(lower)), (lower, upper))
    size = torch.maximum(least.abs(), most.abs())
    below_zero = (-least).clamp(min=0)
    # NaN has no size
    return bool(sum_is_precise(below_zero.amax(), size.amin()))


def replay_any_of(
    replay: Callable[[Tensor], Tensor], groups: Sequence[AnyOf]
) -> Callable[[Tensor], Tensor]:
    """The replay ``N x *X`` to ``N x G`` float64 that fits :func:`append_any_of`'s graph."""

    def values(x: Tensor) -> Tensor:
        outputs = replay(x).double()
        return torch.stack([group.values(outputs) for group in groups], dim=1)

    return values


@dataclass
class _Tail:
    """Nodes that a graph is being extended by."""

    graph: Graph
    nodes: list[Node]

    def add(self, op: Op, inputs: tuple[int, ...], width: int) -> int:
        place = len(self.nodes)
        taken = {node.name for node in self.graph.nodes}
        name = f"any_of_{place}"
        while name in taken:
            name += "_"
        self.nodes.append(Node(name, op, inputs, (width,)))
        return place

    def linear(self, rows: Tensor, offsets: Tensor | None, source: int | None = None) -> int:
        return self.layer(Linear(rows, offsets), source)

    def difference(self, rows: Tensor, offsets: Tensor, pairs: _Pairs, source: int) -> int:
        """The right row of each pair less the left one; what the subtraction rounds is an error."""
        gap = Linear(
            rows[pairs.right] - rows[pairs.left], offsets[pairs.right] - offsets[pairs.left]
        )
        error = of_roundings(1, norms(gap, tuple(rows.shape[1:])))
        return self.layer(replace(gap, error=error), source)

    def layer(self, op: Linear, source: int | None) -> int:
        source = len(self.nodes) - 1 if source is None else source
        return self.add(op, (source,), op.weight.shape[0])


@dataclass(frozen=True)
class _Pairs:
    """Neighbours of each group.

    Attributes:
        kept: the first of each pair, and rows that have no neighbour.
        left: the first of each pair.
        right: the second of each pair.
        target: place of each pair among ``kept``.
        halves: how many rows each group has afterwards.
    """

    kept: list[int]
    left: list[int]
    right: list[int]
    target: list[int]
    halves: list[int]


def _pairs(sizes: list[int]) -> _Pairs:
    """The pairs of groups of so many rows, one group after another."""
    pairs = _Pairs([], [], [], [], [(count + 1) // 2 for count in sizes])
    start = 0
    for count in sizes:
        for first in range(start, start + count, 2):
            if first + 1 < start + count:
                pairs.left.append(first)
                pairs.right.append(first + 1)
                pairs.target.append(len(pairs.kept))
            pairs.kept.append(first)
        start += count
    return pairs


def _summed(tail: _Tail, rows: Tensor, offsets: Tensor, pairs: _Pairs) -> None:
    """The greater of each pair, ``a + relu(b - a)``; the tail's last node is what rows are about.

    Subtracted as rows, not as values, so that what two rows share cancels before any bound.
    """
    kept, count = pairs.kept, len(pairs.left)
    source = len(tail.nodes) - 1
    positive = tail.add(Relu(), (tail.difference(rows, offsets, pairs, source),), count)
    spread = rows.new_zeros(len(kept), count)
    spread[pairs.target, range(count)] = 1
    base = tail.linear(rows[kept], offsets[kept], source)
    raised = tail.linear(spread, None, positive)
    tail.add(Add(), (base, raised), len(kept))


def _compared(tail: _Tail, rows: Tensor, offsets: Tensor, pairs: _Pairs) -> None:
    """The maximum by an operation without sums."""
    partner = dict(zip(pairs.target, pairs.right, strict=True))
    others = [partner.get(place, first) for place, first in enumerate(pairs.kept)]
    source = len(tail.nodes) - 1
    one = tail.linear(rows[pairs.kept], offsets[pairs.kept], source)
    other = tail.linear(rows[others], offsets[others], source)
    tail.add(Maximum(), (one, other), len(pairs.kept))
