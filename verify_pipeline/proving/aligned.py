"""Which neuron of the graph that is searched is which neuron of the network that is checked.

The graph is simplified, the checker reads the file as it is. Both have the same kinked activations;
which belong together is found by their values at a few inputs. Nothing rests on it: multipliers are
valid wherever they stand, and a wrong guess only makes a proof that the checker rejects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from verify_checker.regions import Regions, enclose
from verify_pipeline.bounds import MemoryBudget, NodeBounds, crown_intermediate, needed_places
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import LeakyRelu, Relu
from verify_pipeline.problem import Box
from verify_pipeline.proving.root import Floats, Places, Root, Unproved

POINTS = 3
CLOSE = 1e-6
"""Values are equal up to this share of their largest magnitude; both are float64."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """A graph whose ReLUs and leaky ReLUs are the kinked operations of a network.

    Attributes:
        graph: in float64.
        activations: places of its activations, in order.
        values: for each, the place in the checker's network of the value that feeds it.
        others: other values whose bounds relaxations need, and the checker's same values.
    """

    graph: Graph
    activations: tuple[int, ...]
    values: tuple[int, ...]
    others: Mapping[int, int]

    @staticmethod
    def of(graph: Graph, root: Root) -> Aligned:
        """Align a graph with a root's network.

        Raises:
            Unproved: they have not the same activations, in the same order of neurons.
        """
        kinds = (Relu, LeakyRelu)
        activations = tuple(p for p, n in enumerate(graph.nodes) if isinstance(n.op, kinds))
        sources = tuple(graph.nodes[place].inputs[0] for place in activations)
        others = tuple(p for p in needed_places(graph) if p not in sources)
        mine, theirs = _values(graph, sources + others, root), _values_of_checker(root)
        kinked = {p: theirs[p] for p in root.kinked_inputs}
        values = tuple(_equal(mine[source], kinked) for source in sources)
        if -1 in values or len(set(values)) < len(values):
            raise Unproved("the neurons of graph and file stand in different orders")
        same = {place: _equal(mine[place], theirs) for place in others}
        known = {place: value for place, value in same.items() if value >= 0}
        return Aligned(graph.to(torch.float64), activations, values, known)

    @property
    def piecewise_linear(self) -> bool:
        """Whether nothing but its activations is nonlinear."""
        sources = {self.graph.nodes[place].inputs[0] for place in self.activations}
        return set(needed_places(self.graph)) <= sources

    def bounds(self, root: Root, regions: Regions | None = None) -> NodeBounds:
        """Bounds of the nodes that relaxations need, one instance.

        Args:
            root: the box and its bounds.
            regions: newer bounds of some of its values; None: those of the root.
        """
        lower, upper = {}, {}
        sources = (self.graph.nodes[place].inputs[0] for place in self.activations)
        pairs = {**self.others, **dict(zip(sources, self.values, strict=True))}
        for source, value in pairs.items():
            known = regions if regions is not None and value in regions.lower else root.regions
            shape = (1, *self.graph.nodes[source].shape)
            lower[source] = torch.from_numpy(known.lower[value].reshape(shape).copy())
            upper[source] = torch.from_numpy(known.upper[value].reshape(shape).copy())
        found = NodeBounds(lower, upper)
        if set(needed_places(self.graph)) <= set(pairs):
            return found
        # intervals of the nodes that are no value of the file, such as differences of scores
        return crown_intermediate(self.graph, self.box(root), found, MemoryBudget(), _never)

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
    places = root.network.bounded_inputs
    return {place: regions.lower[place].reshape(POINTS, -1) for place in places}


def _never() -> bool:
    return False


def _equal(values: Floats, others: dict[int, Floats]) -> int:
    """The place of the same values; -1: there is none."""
    for place, other in others.items():
        if other.shape == values.shape:
            scale = max(float(np.abs(values).max(initial=0)), 1e-300)
            if float(np.abs(other - values).max(initial=0)) <= CLOSE * scale:
                return place
    return -1


__all__ = ["Aligned", "Places"]
