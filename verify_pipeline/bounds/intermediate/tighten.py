"""CROWN bounds of the neurons inside a network, of the unstable ones only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds.intermediate.needed_neurons import (
    are_loose,
    nearly_linear_products,
    needed_neurons,
)
from verify_pipeline.bounds.intermediate.neuron_batches import BoundingMethod, neuron_batches
from verify_pipeline.bounds.interval.ibp import Interval, node_interval
from verify_pipeline.bounds.linear.backward import Functional, lower_bounds
from verify_pipeline.bounds.memory import functionals_that_fit, within_memory
from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.bounds.relaxations.base import Relaxation
from verify_pipeline.bounds.relaxations.relaxed_graph import (
    LinearGraph,
    RelaxedBounds,
    is_affine,
    relax_node,
)
from verify_pipeline.bounds.relaxations.relu import Lines, without_choice
from verify_pipeline.bounds.types import MemoryBudget, NodeBounds, Splits, always
from verify_pipeline.network.differences import SoftmaxOfDifferences
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import (
    Relu,
    Softmax,
)
from verify_pipeline.problem import Box

# Outputs of softmax, in [0, 1], whose intervals are narrower are not asked for.
_WIDE_SHARE = 0.05

# Whether an instance's bounds suffice is asked where it has more neurons to bound than this.
_WORTH_ASKING = 8

Wanted = Callable[[NodeBounds], Tensor]
"""Which instances' bounds are to be made tighter still, ``N`` booleans, from bounds so far."""


@dataclass(frozen=True)
class _Crown:
    """Plain CROWN bounds."""

    budget: MemoryBudget
    dtype: torch.dtype

    def through(self, linear: LinearGraph) -> LinearGraph:
        return LinearGraph(linear.graph, without_choice(linear.relaxations))

    def solve(self, linear: LinearGraph, box: Box, functional: Functional) -> Tensor:
        return lower_bounds(linear, box, functional).lower

    def capacity(self, graph: Graph, place: int) -> int:
        return functionals_that_fit(graph, place, self.budget, self.dtype)


@full_precision()
def crown_intermediate(
    graph: Graph,
    box: Box,
    start: NodeBounds,
    budget: MemoryBudget,
    has_time: Callable[[], bool] = always,
    behind: int = 0,
    wanted: Wanted | None = None,
) -> NodeBounds:
    """Tighten bounds of the inputs of nonlinear nodes by CROWN, layer by layer.

    Only neurons whose bounds matter are asked for, instance by instance: those of a ReLU's input
    that may be of either sign, those of any other operation's input that are not a point. Each
    layer is bounded through the tightened layers before it.

    Args:
        graph: the network.
        box: ``N`` boxes.
        start: valid bounds, such as interval bounds.
        budget: of memory for the functionals that are walked back at once; halved if it fails.
        has_time: asked before each such batch; once it says no, the neurons that are left are
            bounded by intervals only.
        behind: neurons of places up to this one are not asked for.
        wanted: asked before each layer, with the bounds of all places so far; None: all are.

    Returns:
        Bounds of every place, nowhere looser than ``start`` or than intervals of the tightened
        bounds; infinite at all places where a value of the instance cannot be bounded.
    """

    def run(allowed: MemoryBudget) -> NodeBounds:
        method = _Crown(allowed, box.lower.dtype)
        return tighten(graph, box, start, method, has_time, behind=behind, wanted=wanted)

    return within_memory(run, budget)


@full_precision()
def crown_activations(
    graph: Graph,
    box: Box,
    start: RelaxedBounds,
    asked: dict[int, Tensor],
    budget: MemoryBudget,
    has_time: Callable[[], bool] = always,
) -> RelaxedBounds:
    """Tighten bounds of some inputs of (leaky) ReLUs by CROWN, and of nothing else.

    For boxes or domains that are parts of those that ``start`` is of: relaxations that no ReLU's
    input is read by stay as they are there.

    Args:
        graph: the network.
        box: ``N`` boxes, cut or not.
        start: valid bounds of ``needed_places``, with relaxations.
        asked: place of a (leaky) ReLU -> which of its neurons, ``N x *V`` booleans.
        budget: of memory for the functionals that are walked back at once; halved if it fails.
        has_time: asked before each such batch; once it says no, the neurons that are left keep
            their bounds.

    Returns:
        Bounds of the same places, nowhere looser than ``start``, with its relaxations.
    """

    def run(allowed: MemoryBudget) -> RelaxedBounds:
        method = _Crown(allowed, box.lower.dtype)
        lower, upper, relaxations = dict(start.lower), dict(start.upper), dict(start.relaxations)
        for place, node in enumerate(graph.nodes):
            if is_affine(node.op) or place in relaxations:
                continue
            if place in asked:
                source = node.inputs[0]
                interval = lower[source], upper[source]
                mask = asked[place] & are_loose(True, interval)
                linear = LinearGraph(graph, relaxations)
                lower[source], upper[source] = _solve_neurons(
                    linear, box, source, interval, mask, method, has_time
                )
            relaxations[place] = relax_node(graph, place, NodeBounds(lower, upper))
        return RelaxedBounds(lower, upper, start.relaxations)

    return within_memory(run, budget)


def tighten(
    graph: Graph,
    box: Box,
    start: NodeBounds,
    method: BoundingMethod,
    has_time: Callable[[], bool] = always,
    splits: Splits | None = None,
    behind: int = 0,
    wanted: Wanted | None = None,
) -> NodeBounds:
    """Walk the graph forward and bound the neurons that matter with ``method``.

    Args:
        graph: the network.
        box: ``N`` boxes.
        start: valid bounds of some or all places.
        method: see there.
        has_time: once it says no, the neurons that are left keep their intervals, and nothing is
            asked or made for them.
        splits: of ReLUs, which ``start`` obeys; ``method`` may charge for them. None: none.
        behind: neurons of places up to this one are not asked for.
        wanted: asked before each layer for which much is to be done; None: all instances are.
    """
    splits = splits or {}
    asked = needed_neurons(graph, nearly_linear_products(graph, start))
    lower, upper = {0: box.lower}, {0: box.upper}
    relaxations: dict[int, Relaxation] = {}
    for place, node in enumerate(graph.nodes[1:], 1):
        interval = node_interval(graph, place, lambda i: (lower[i], upper[i]))
        if place in start.lower:
            interval = _meet(interval, (start.lower[place], start.upper[place]))
        lower[place], upper[place] = interval
        if not is_affine(node.op):
            relaxation = relax_node(graph, place, NodeBounds(lower, upper))
            if place in splits and isinstance(relaxation, Lines):
                relaxation = replace(relaxation, sides=splits[place].to(box.lower.dtype))
            relaxations[place] = relaxation
        if place in asked and place > behind and has_time():
            mask = are_loose(asked[place], interval)
            if isinstance(node.op, (Softmax, SoftmaxOfDifferences)):
                mask = interval[1] - interval[0] > _WIDE_SHARE
            if wanted is not None and int(mask.sum()) > _WORTH_ASKING * len(box):
                so_far = _with_intervals(graph, NodeBounds(lower, upper), start)
                mask = mask & wanted(so_far).view(-1, *(1,) * len(node.shape))
            linear = LinearGraph(graph, relaxations)
            lower[place], upper[place] = _solve_neurons(
                linear, box, place, interval, mask, method, has_time
            )
    return NodeBounds(lower, upper).where_defined()


def _with_intervals(graph: Graph, known: NodeBounds, start: NodeBounds) -> NodeBounds:
    """``known`` of the first places, and of all others intervals that follow from them."""
    lower, upper = dict(known.lower), dict(known.upper)
    for place in range(len(known.lower), len(graph.nodes)):
        interval = node_interval(graph, place, lambda i: (lower[i], upper[i]))
        if place in start.lower:
            interval = _meet(interval, (start.lower[place], start.upper[place]))
        lower[place], upper[place] = interval
    return NodeBounds(lower, upper).where_defined()


def _solve_neurons(
    linear: LinearGraph,
    box: Box,
    place: int,
    interval: Interval,
    mask: Tensor,
    method: BoundingMethod,
    has_time: Callable[[], bool],
) -> Interval:
    """``interval`` with the neurons of ``mask`` ``N x *V`` bounded by ``method`` as well.

    Where only ReLUs read it, a neuron is bounded on its likelier side first, and on the other only
    if it is not inactive by then: how far below 0 it goes changes nothing behind a ReLU.
    """
    readers = [node.op for node in linear.graph.nodes if place in node.inputs]
    of_relus = all(isinstance(op, Relu) for op in readers)
    lower, upper = (bound.flatten(1).clone() for bound in interval)
    likelier = torch.where(lower + upper < 0, -1.0, 1.0).to(lower)
    rounds = [(likelier,), (-likelier,)] if of_relus else [(likelier, -likelier)]
    shape = interval[0].shape
    problems_of = neuron_batches(method.through(linear), box, place, method)
    for sides in rounds:
        asked = mask.flatten(1) & ((upper > 0) | (not of_relus))
        for instance, neurons, problem in problems_of(asked, sides):
            if not has_time():
                return lower.view(shape), upper.view(shape)
            bounds = method.solve(*problem).split(neurons.shape[1], dim=1)
            at = (instance.unsqueeze(1), neurons)
            for side, bound in zip(sides, bounds, strict=True):
                below = bound.where(side[at] > 0, -torch.inf)
                above = (-bound).where(side[at] < 0, torch.inf)
                lower[at], upper[at] = _meet((lower[at], upper[at]), (below, above))
    return lower.view(shape), upper.view(shape)


def _meet(first: Interval, second: Interval) -> Interval:
    """The intersection of two valid intervals; where rounding made them miss, a point of it."""
    lower, upper = torch.maximum(first[0], second[0]), torch.minimum(first[1], second[1])
    lower = torch.minimum(lower, first[1])
    return lower, torch.maximum(lower, upper)
