"""Receptive fields: the part of a convolutional network that a single neuron depends on.

A neuron of a plane depends on a window of each earlier plane. For all neurons of a node, the
windows have one size, and their positions follow from the neuron's position. The part of the
network that computes one neuron is therefore a small network, the same for all neurons of the node:
convolutions without padding, applied to windows. To bound a neuron, this small network is bounded
over a window of the instance's box, with windows of the relaxations. Every method that bounds a
graph can bound it. Outside the plane, a window is zero, like padding. (The patches mode of
auto_LiRPA uses the same locality: Xu et al. 2020, arXiv:2002.12920.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import Tensor

from verify_pipeline.bounds.intermediate.windows import Pair, Windows, pair
from verify_pipeline.bounds.linear.backward import Functional, of_neurons
from verify_pipeline.bounds.relaxations.base import Relaxation
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph, is_affine
from verify_pipeline.bounds.relaxations.relu import Lines
from verify_pipeline.bounds.relaxations.rounding import Rounding
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.limits import AtLeast, Maximum, Rounded
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Elementwise,
    Input,
    LeakyRelu,
    Op,
    Relu,
    Scale,
    Slice,
    Sub,
    size,
)
from verify_pipeline.problem import Box

# A receptive field larger than this share of the network is not worth cutting out.
_WORTHWHILE = 0.4


@dataclass(frozen=True, eq=False)
class _Inside(Op):
    """Sets values outside the plane to zero; its relaxation says which ones these are."""

    def __call__(self, *inputs: Tensor) -> Tensor:
        raise AssertionError("what lies inside differs from neuron to neuron")


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """The small network that computes a neuron of a node, the same for every neuron.

    Attributes:
        graph: the network over windows. Its output is the neuron's pixel with all channels.
        base: shape of the node, ``C x H x W``.
        views: index in ``graph`` -> the windows that the value consists of.
        relaxed: index of a nonlinear node in ``graph`` -> its index in the whole network.
        insides: index in ``graph`` of a node that sets the outside of a plane to zero -> height and
            width of the plane.
        origins: index in ``graph`` -> index in the whole network of the node that it stands for.
    """

    graph: Graph
    base: tuple[int, int, int]
    views: dict[int, Windows]
    relaxed: dict[int, int]
    insides: dict[int, Pair]
    origins: dict[int, int]

    def of_neurons(
        self, linear: LinearGraph, box: Box, instance: Tensor, neurons: Tensor, sides: Tensor
    ) -> tuple[LinearGraph, Box, Functional]:
        """The problem of bounding single neurons, each as an instance of its own.

        Args:
            linear: the relaxed network, ``N`` instances.
            box: ``N`` boxes.
            instance: instance of each neuron, ``Q``, in ascending order.
            neurons: indices into the node's flattened value, ``Q``.
            sides: ``Q x S``: 1 to bound a neuron from below, -1 from above.

        Returns:
            The small network, boxes and functionals of ``Q`` instances, ``S`` rows each.
        """
        height, width = self.base[1:]
        channel = neurons.div(height * width, rounding_mode="floor")
        y, x = neurons.div(width, rounding_mode="floor") % height, neurons % width
        # only instances with a neuron in the batch are padded and cut
        some, which = instance.unique_consecutive(return_inverse=True)

        def cut(place: int, planes: Tensor) -> Tensor:
            return self.views[place].cut(planes, (height, width), which, y, x)

        relaxations: dict[int, Relaxation] = {
            local: linear.relaxations[place][some].map(lambda t, at=local: cut(at, t))  # type: ignore[misc]
            for local, place in self.relaxed.items()
        }
        for place, plane in self.insides.items():
            ones = box.lower.new_ones(len(some), 1, *plane)
            inside = cut(place, ones).expand(-1, *self.graph.nodes[place].shape)
            relaxations[place] = Lines(1.0, inside, torch.zeros_like(inside))
        boxes = Box(cut(0, box.lower[some]), cut(0, box.upper[some]))
        last = len(self.graph.nodes) - 1
        rounding = self._rounding(linear.rounding, instance, lambda i, t: cut(i, t[some]))
        small = LinearGraph(self.graph, relaxations, rounding)
        functional = of_neurons(small, last, channel.unsqueeze(1).expand_as(sides), sides)
        return small, boxes, functional

    def _rounding(
        self, rounding: Rounding, instance: Tensor, cut: Callable[[int, Tensor], Tensor]
    ) -> Rounding:
        """Sizes and terms of the small network: windows have no more terms and no larger values.

        Nodes that only cut windows or set values to zero do not round. Numbers of single elements
        are cut as the values are; no coefficient arrives at elements outside the plane.
        """

        def of_origins(numbers: dict[int, Tensor]) -> dict[int, Tensor]:
            found = {at: numbers[i] for at, i in self.origins.items() if i in numbers}
            return {at: t[instance] if t.dim() == 1 else cut(at, t) for at, t in found.items()}

        least = None if rounding.least is None else rounding.least[instance]
        return Rounding(of_origins(rounding.sizes), of_origins(rounding.terms), least)


def receptive_field(graph: Graph, place: int) -> ReceptiveField | None:
    """The small network that computes one neuron of the node with index ``place``.

    Returns:
        None if an earlier operation is not local, or if the receptive field is most of the network.
    """
    views = _views(graph, place)
    if views is None:
        return None
    whole = sum(size(graph.nodes[i].shape) for i in views)
    seen = sum(graph.nodes[i].shape[0] * size(view.extent) for i, view in views.items())
    return _cut_out(graph, place, views) if seen <= _WORTHWHILE * whole else None


def _views(graph: Graph, place: int) -> dict[int, Windows] | None:
    """The windows of all earlier nodes that a neuron of ``place`` depends on.

    None if the neuron depends on a part of a node that is not a window.
    """
    views = {place: Windows()}
    for current in range(place, 0, -1):
        if current not in views:
            continue
        node = graph.nodes[current]
        needed = view_of_input(node.op, views[current])
        for i in node.inputs:
            shape = graph.nodes[i].shape
            fits = isinstance(node.op, (Conv2d, AvgPool2d, Slice)) or shape[1:] == node.shape[1:]
            if needed is None or len(shape) != 3 or len(node.shape) != 3 or not fits:
                return None
            view = views[i].union(needed) if i in views else needed
            if view is None:
                return None
            views[i] = view
    return views if 0 in views else None


@singledispatch
def view_of_input(op: Op, view: Windows) -> Windows | None:
    """The windows of an operation's inputs from which it computes ``view``.

    None if these parts of its inputs are not windows.
    """
    return None


@view_of_input.register(Relu)
@view_of_input.register(LeakyRelu)
@view_of_input.register(Elementwise)
@view_of_input.register(Maximum)
@view_of_input.register(Rounded)
@view_of_input.register(Add)
@view_of_input.register(Sub)
def _(op: Op, view: Windows) -> Windows | None:
    return view


@view_of_input.register
def _(op: Concat, view: Windows) -> Windows | None:
    return view if op.axis == 0 else None


@view_of_input.register
def _(op: Scale, view: Windows) -> Windows | None:
    return view if _by_channel(op.scale) and _by_channel(op.shift) else None


@view_of_input.register
def _(op: AtLeast, view: Windows) -> Windows | None:
    return view if _by_channel(op.limit) else None


def _by_channel(constant: Tensor) -> bool:
    """Whether a constant has one value for each channel."""
    return constant.numel() == 1 or (constant.dim() == 3 and constant.shape[1:].numel() == 1)


@view_of_input.register
def _(op: Slice, view: Windows) -> Windows | None:
    if op.axis == 0:
        return None
    stride, start = [1, 1], [0, 0]
    stride[op.axis - 1], start[op.axis - 1] = op.step, op.start
    return view.through((1, 1), pair(stride), pair(-first for first in start), (1, 1))


@view_of_input.register
def _(op: Conv2d, view: Windows) -> Windows | None:
    height, width = op.weight.shape[2:]
    return view.through((height, width), op.stride, op.padding, op.dilation)


@view_of_input.register
def _(op: AvgPool2d, view: Windows) -> Windows | None:
    if op.ceil_mode or (op.padding != (0, 0) and not op.count_include_pad):
        return None
    return view.through(op.kernel, op.stride, op.padding, (1, 1))


def _over_windows(op: Op, view: Windows) -> Op:
    """The operation, applied to windows ``view`` of its input instead of planes."""
    if isinstance(op, (Conv2d, AvgPool2d)):
        return replace(op, padding=(0, 0))
    if isinstance(op, Slice):
        return replace(op, start=0, stop=view.extent[op.axis - 1])
    return op


class _Cutter:
    """Collects the nodes of a small network."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.views: dict[int, Windows] = {}
        self.insides: dict[int, Pair] = {}

    def add(self, op: Op, inputs: tuple[int, ...], channels: int, view: Windows) -> int:
        place = len(self.nodes)
        self.nodes.append(Node(f"n{place}", op, inputs, (channels, *view.extent)))
        self.views[place] = view
        return place

    def narrow(self, source: int, view: Windows) -> int:
        """Cut the windows of node ``source`` down to ``view``; return the new node's index."""
        have, channels = self.views[source], self.nodes[source].shape[0]
        for i in range(2):
            if have.extent[i] == view.extent[i]:
                continue
            first = view.start[i] - have.start[i]
            extent, start = list(have.extent), list(have.start)
            extent[i], start[i] = view.extent[i], view.start[i]
            have = Windows(pair(extent), view.step, pair(start))
            cut = Slice(i + 1, first, first + view.extent[i])
            source = self.add(cut, (source,), channels, have)
        return source

    def keep_inside(self, source: int, plane: Pair) -> int:
        """Set the windows of node ``source`` to zero outside the plane; return the new index."""
        channels, view = self.nodes[source].shape[0], self.views[source]
        place = self.add(_Inside(), (source,), channels, view)
        self.insides[place] = plane
        return place


def _cut_out(graph: Graph, place: int, views: dict[int, Windows]) -> ReceptiveField:
    channels, height, width = graph.nodes[place].shape
    cutter = _Cutter()
    new_place: dict[int, int] = {}
    relaxed: dict[int, int] = {}
    for old in sorted(views):
        node, view = graph.nodes[old], views[old]
        needed = view_of_input(node.op, view)
        sources = []
        for i in node.inputs:
            assert needed is not None
            source = cutter.narrow(new_place[i], needed)
            plane = pair(graph.nodes[i].shape[1:])
            mixes = isinstance(node.op, (Conv2d, AvgPool2d))
            # outside the plane, lines of nonlinear nodes and the input's box are already zero
            leaks = is_affine(graph.nodes[i].op) and i != 0
            if mixes and leaks and any(needed.margins((height, width), plane)):
                source = cutter.keep_inside(source, plane)
            sources.append(source)
        op = node.op if needed is None else _over_windows(node.op, needed)
        new_place[old] = cutter.add(op, tuple(sources), node.shape[0], view)
        if not is_affine(node.op):
            relaxed[new_place[old]] = old
    assert isinstance(cutter.nodes[0].op, Input)
    local = Graph(tuple(cutter.nodes))
    origins = {new: old for old, new in new_place.items()}
    return ReceptiveField(
        local, (channels, height, width), cutter.views, relaxed, cutter.insides, origins
    )
