"""Maxima written with ReLUs, for methods that split or encode ReLUs.

A maximum of several values is computed pair by pair, as ``max(a, b) = b + relu(a - b)``. Branch and
bound can then split each comparison, and a linear program can encode it exactly, like any other
ReLU. In floating point, the rounding error of the sum is relative to the greater of ``|a|`` and
``|b|``, which may be much larger than the maximum. ``bounds/interval/maxima_as_relus.py`` decides
where this is precise enough.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.limits import Maximum
from verify_pipeline.network.ops import (
    Add,
    Gather,
    MaxPool2d,
    Op,
    Relu,
    Reshape,
    Scale,
    Slice,
    Sub,
    size,
)


def without_max_pooling(graph: Graph) -> Graph:
    """A graph of the same function without :class:`MaxPool2d`; ``graph`` itself if it has none."""
    pools = [p for p, node in enumerate(graph.nodes) if isinstance(node.op, MaxPool2d)]
    return with_relus(graph, pools, {}) if pools else graph


def with_relus(graph: Graph, maxima: Collection[int], limits: Mapping[int, Tensor | None]) -> Graph:
    """A graph of the same function in which ReLUs replace some of the maxima and limits.

    Args:
        graph: the network.
        maxima: indices of the :class:`MaxPool2d` and :class:`Maximum` nodes to rewrite.
        limits: index of an ``AtLeast`` node to rewrite -> its limit, or None if its input never
            reaches the limit.
    """
    rewriter = _Rewriter()
    new_place: list[int] = []
    for place, node in enumerate(graph.nodes):
        inputs = tuple(new_place[i] for i in node.inputs)
        if place in limits:
            new_place.append(rewriter.at_least(limits[place], inputs[0], node))
        elif place in maxima and isinstance(node.op, MaxPool2d):
            new_place.append(rewriter.pool(node.op, inputs[0], node))
        elif place in maxima:
            assert isinstance(node.op, Maximum)
            new_place.append(rewriter.greater(inputs[0], inputs[1], node.shape, node.name))
        else:
            new_place.append(rewriter.add(node.op, inputs, node.shape, node.name))
    return rewriter.graph(new_place[-1])


def greater_of(graph: Graph, place: int) -> tuple[int, int] | None:
    """The indices of a and b if a node computes ``b + relu(a - b)``, which is their maximum.

    Interval bounds of the single operations are loose for such a node. The maximum increases in
    both a and b, so it is easily bounded as a whole.

    Args:
        graph: the network.
        place: index of the node.

    Returns:
        The indices of a and b; None if the node computes something else.
    """
    node = graph.nodes[place]
    if not isinstance(node.op, Add):
        return None
    b, more = node.inputs
    relu = graph.nodes[more]
    if not isinstance(relu.op, Relu):
        return None
    gap = graph.nodes[relu.inputs[0]]
    if not isinstance(gap.op, Sub) or gap.inputs[1] != b:
        return None
    a = gap.inputs[0]
    same = graph.nodes[a].shape == graph.nodes[b].shape == node.shape
    return (a, b) if same else None


def windows(op: MaxPool2d, plane: tuple[int, int], count: tuple[int, int]) -> Tensor:
    """Indices of each window's elements in the flattened plane, ``P x k``; -1 in the padding.

    Args:
        op: the pooling.
        plane: height and width of its input.
        count: number of windows along height and width; ``P`` is their product.
    """
    widths = []
    for axis in (1, 0):
        spanned = (count[axis] - 1) * op.stride[axis] + op.dilation[axis] * (op.kernel[axis] - 1)
        before = op.padding[axis]
        widths += [before, max(spanned + 1 - plane[axis] - before, 0)]
    places = torch.arange(plane[0] * plane[1], dtype=torch.float64).view(1, 1, *plane)
    padded = F.pad(places, widths, value=-1.0)
    rows, columns = (
        (padded.shape[axis + 2] - op.dilation[axis] * (op.kernel[axis] - 1) - 1) // op.stride[axis]
        + 1
        for axis in (0, 1)
    )
    elements = F.unfold(padded, op.kernel, op.dilation, 0, op.stride)
    elements = elements.view(-1, rows, columns)[:, : count[0], : count[1]]
    return elements.flatten(1).T.long()


class _Rewriter:
    """Collects the nodes of the new graph."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def add(self, op: Op, inputs: tuple[int, ...], shape: tuple[int, ...], name: str) -> int:
        self.nodes.append(Node(name, op, inputs, shape))
        return len(self.nodes) - 1

    def graph(self, output: int) -> Graph:
        """The new graph, whose output is the node with index ``output``."""
        if output != len(self.nodes) - 1:  # the output was a limit that has been removed
            shape = self.nodes[output].shape
            self.add(Reshape(shape), (output,), shape, f"{self.nodes[output].name}/output")
        return Graph(tuple(self.nodes))

    def greater(self, a: int, b: int, shape: tuple[int, ...], name: str) -> int:
        """Add ``b + relu(a - b)``; return the index of the last node."""
        gap = self.add(Sub(), (a, b), shape, f"{name}/gap")
        more = self.add(Relu(), (gap,), shape, f"{name}/relu")
        return self.add(Add(), (b, more), shape, name)

    def at_least(self, limit: Tensor | None, source: int, node: Node) -> int:
        """Add ``limit + relu(x - limit)``, or nothing if ``limit`` is None; return the index."""
        if limit is None:
            return source
        one = torch.ones((), dtype=limit.dtype, device=limit.device)
        shape, name = node.shape, node.name
        above = self.add(Scale(one, -limit), (source,), shape, f"{name}/above")
        more = self.add(Relu(), (above,), shape, f"{name}/relu")
        return self.add(Scale(one, limit), (more,), shape, name)

    def pool(self, op: MaxPool2d, source: int, node: Node) -> int:
        """Add the maximum over each window of node ``source``; return the index of the last node.

        The last node has the name and shape of ``node``.
        """
        inside = not op.ceil_mode and op.padding == (0, 0)
        elements = self._slices if inside else self._gathered
        values = elements(op, source, node)
        shape = self.nodes[values[0]].shape
        step = 0
        while len(values) > 1:
            # neighbours are paired, so that the tree has the least possible depth
            pairs = zip(values[::2], values[1::2], strict=False)
            left_over = [values[-1]] if len(values) % 2 else []
            values = []
            for a, b in pairs:
                values.append(self.greater(a, b, shape, f"{node.name}/max{step}"))
                step += 1
            values += left_over
        if shape == node.shape:
            return values[0]
        return self.add(Reshape(node.shape), (values[0],), node.shape, node.name)

    def _slices(self, op: MaxPool2d, source: int, node: Node) -> list[int]:
        """Add one node ``C x h x w`` for each kernel position, with this element of each window."""
        channels, height, width = node.shape
        in_width = self.nodes[source].shape[2]
        found = []
        for i in range(op.kernel[0]):
            first = i * op.dilation[0]
            rows = Slice(1, first, first + (height - 1) * op.stride[0] + 1, op.stride[0])
            row_name = f"{node.name}/row{i}"
            row = self.add(rows, (source,), (channels, height, in_width), row_name)
            for j in range(op.kernel[1]):
                first = j * op.dilation[1]
                columns = Slice(2, first, first + (width - 1) * op.stride[1] + 1, op.stride[1])
                found.append(self.add(columns, (row,), node.shape, f"{row_name}/column{j}"))
        return found

    def _gathered(self, op: MaxPool2d, source: int, node: Node) -> list[int]:
        """As :meth:`_slices` for windows that reach into the padding, ``C x P``.

        An element in the padding is replaced by another element of the window.
        """
        channels, height, width = self.nodes[source].shape
        count = (node.shape[1], node.shape[2])
        places = windows(op, (height, width), count)
        places = torch.where(places < 0, places.amax(1, keepdim=True), places)
        flat_shape, name = (channels, height * width), f"{node.name}/flat"
        flat = self.add(Reshape(flat_shape), (source,), flat_shape, name)
        shape = (channels, size(count))
        return [
            self.add(Gather(1, column.contiguous()), (flat,), shape, f"{node.name}/element{k}")
            for k, column in enumerate(places.T)
        ]
