"""Which neuron of the graph that is searched is which neuron of the network that is checked.

The graph is simplified, the checker reads the file as it is. Both have the same kinked activations;
which belong together is found by their values at a few inputs. Nothing rests on it: multipliers are
valid wherever they stand, and a wrong guess only makes a proof that the checker rejects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from verify_checker.operations import Kink
from verify_checker.regions import enclose
from verify_pipeline.bounds import NodeBounds, needed_places
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import LeakyRelu, Relu
from verify_pipeline.problem import Box
from verify_pipeline.proving.root import Floats, Places, Root, Unproved

POINTS = 3
CLOSE = 1e-6
"""Values are equal up to this share of their largest magnitude; both are float64."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """A graph whose nonlinear operations are the kinked ones of a network.

    Attributes:
        graph: in float64.
        activations: places of its activations, in order.
        values: for each, the place in the checker's network of the value that feeds it.
    """

    graph: Graph
    activations: tuple[int, ...]
    values: tuple[int, ...]

    @staticmethod
    def of(graph: Graph, root: Root) -> Aligned:
        """Align a graph with a root's network.

        Raises:
            Unproved: they have not the same activations, in the same order of neurons.
        """
        kinds = (Relu, LeakyRelu)
        activations = tuple(p for p, n in enumerate(graph.nodes) if isinstance(n.op, kinds))
        sources = tuple(graph.nodes[place].inputs[0] for place in activations)
        if set(needed_places(graph)) != set(sources):
            raise Unproved("slopes and splits are recorded for ReLU and leaky ReLU only")
        mine, theirs = _values(graph, sources, root), _values_of_checker(root)
        values = tuple(_equal(mine[source], theirs) for source in sources)
        if -1 in values or len(set(values)) < len(values):
            raise Unproved("the neurons of graph and file stand in different orders")
        return Aligned(graph.to(torch.float64), activations, values)

    def bounds(self, root: Root) -> NodeBounds:
        """The root's bounds of the activations' inputs, one instance."""
        lower, upper = {}, {}
        for place, value in zip(self.activations, self.values, strict=True):
            source = self.graph.nodes[place].inputs[0]
            shape = (1, *self.graph.nodes[source].shape)
            lower[source] = torch.from_numpy(root.regions.lower[value].reshape(shape).copy())
            upper[source] = torch.from_numpy(root.regions.upper[value].reshape(shape).copy())
        return NodeBounds(lower, upper)

    def box(self, root: Root) -> Box:
        """The root's box, one instance."""
        shape = (1, *self.graph.input_shape)
        lower, upper = root.claim.lower.reshape(shape), root.claim.upper.reshape(shape)
        return Box(torch.from_numpy(lower.copy()), torch.from_numpy(upper.copy()))

    def columns(self, root: Root, alpha: dict[int, Tensor]) -> Floats:
        """Multipliers ``R x *V`` by activation as the proof has them, ``R x columns``."""
        of_value = dict(zip(self.values, self.activations, strict=True))
        parts = [
            alpha[of_value[value]].flatten(1)[:, torch.from_numpy(columns)]
            for value, columns in zip(root.kinks, root.columns, strict=True)
        ]
        found: Floats = torch.cat(parts, 1).double().cpu().numpy()
        return found

    def neuron(self, activation: int) -> int:
        """The checker's value that feeds an activation."""
        return self.values[self.activations.index(activation)]


def _points(root: Root) -> Floats:
    """A few inputs of the box, ``POINTS x *X`` flattened."""
    shares = np.random.default_rng(0).random((POINTS, len(root.claim.lower)))
    points: Floats = root.claim.lower + shares * (root.claim.upper - root.claim.lower)
    return points


def _values(graph: Graph, places: tuple[int, ...], root: Root) -> dict[int, Floats]:
    exact = graph.to(torch.float64)
    given = torch.from_numpy(_points(root)).reshape(POINTS, *graph.input_shape)
    found: list[Tensor] = [given]
    for node in exact.nodes[1:]:
        found.append(node.op(*(found[i] for i in node.inputs)))
    return {place: found[place].flatten(1).numpy() for place in places}


def _values_of_checker(root: Root) -> dict[int, Floats]:
    points = _points(root).reshape(POINTS, *root.network.nodes[0].shape)
    regions = enclose(root.network, (points, points), {})
    nodes = root.network.nodes
    places = {n.inputs[0] for n in nodes if isinstance(n.operation, Kink)}
    return {place: regions.lower[place].reshape(POINTS, -1) for place in places}


def _equal(values: Floats, others: dict[int, Floats]) -> int:
    """The place of the same values; -1: there is none."""
    for place, other in others.items():
        if other.shape == values.shape:
            scale = max(float(np.abs(values).max(initial=0)), 1e-300)
            if float(np.abs(other - values).max(initial=0)) <= CLOSE * scale:
                return place
    return -1


__all__ = ["Aligned", "Places"]
