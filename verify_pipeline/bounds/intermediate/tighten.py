"""CROWN bounds of the neurons inside a network, for unstable neurons only.

Intermediate bounds are computed layer by layer, as in CROWN: Zhang et al. 2018 (arXiv:1811.00866).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.bounds.floating_point import Interval, meet
from verify_pipeline.bounds.intermediate.needed_neurons import (
    are_loose,
    nearly_linear_products,
    needed_neurons,
)
from verify_pipeline.bounds.intermediate.neuron_batches import BoundingMethod, neuron_batches
from verify_pipeline.bounds.interval.ibp import node_interval
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
from verify_pipeline.bounds.relaxations.rounding import Rounder
from verify_pipeline.bounds.types import MemoryBudget, NodeBounds, Splits, always
from verify_pipeline.network.differences import SoftmaxOfDifferences
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import (
    Relu,
    Softmax,
)
from verify_pipeline.problem import Box

# Outputs of softmax lie in [0, 1]. Narrower intervals than this are not tightened.
_WIDE_SHARE = 0.05

# ``wanted`` is called only before layers with more neurons to bound per instance than this.
_WORTH_ASKING = 8

Wanted = Callable[[NodeBounds], Tensor]
"""From the bounds so far, which instances' bounds are to be tightened further, ``N`` booleans."""


@dataclass(frozen=True)
class _Crown:
    """Plain CROWN bounds, without optimisation."""

    budget: MemoryBudget
    dtype: torch.dtype

    def through(self, linear: LinearGraph) -> LinearGraph:
        return replace(linear, relaxations=without_choice(linear.relaxations))

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

    For each instance, only neurons whose bounds matter are bounded: unstable neurons if ReLUs take
    the value, and neurons that are not constant otherwise. Each layer is bounded through the
    tightened layers before it.

    Args:
        graph: the network.
        box: ``N`` boxes.
        start: valid bounds, such as interval bounds.
        budget: memory for the functionals of one backward pass; halved when memory runs out.
        has_time: called before each batch. Once it returns False, the remaining neurons are bounded
            by intervals only.
        behind: nodes up to this index are not tightened.
        wanted: called before layers with many neurons, with the bounds of all nodes so far; selects
            the instances to tighten. None: all instances.

    Returns:
        Bounds of every node, nowhere looser than ``start`` or than intervals of the tightened
        bounds. If a value of an instance cannot be bounded, all its bounds are infinite.
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
    """Tighten bounds of selected inputs of (leaky) ReLUs by CROWN, and of nothing else.

    The boxes may be parts of the boxes for which ``start`` was computed. Relaxations that do not
    depend on a ReLU's input are reused.

    Args:
        graph: the network.
        box: ``N`` boxes, with or without a half-space.
        start: valid bounds of the nodes of ``needed_places``, with relaxations.
        asked: index of a (leaky) ReLU -> the neurons to tighten, ``N x *V`` booleans.
        budget: memory for the functionals of one backward pass; halved when memory runs out.
        has_time: called before each batch. Once it returns False, the remaining neurons keep their
            bounds.

    Returns:
        Bounds of the same nodes, nowhere looser than ``start``, with its relaxations.
    """

    def run(allowed: MemoryBudget) -> RelaxedBounds:
        method = _Crown(allowed, box.lower.dtype)
        lower, upper, relaxations = dict(start.lower), dict(start.upper), dict(start.relaxations)
        rounder = Rounder(graph, box)
        for place, node in enumerate(graph.nodes):
            if is_affine(node.op) or place in relaxations:
                rounder.add(place, NodeBounds(lower, upper), relaxations.get(place))
                continue
            if place in asked:
                source = node.inputs[0]
                interval = lower[source], upper[source]
                mask = asked[place] & are_loose(True, interval)
                linear = LinearGraph(graph, relaxations, rounder.rounding())
                lower[source], upper[source] = _solve_neurons(
                    linear, box, source, interval, mask, method, has_time
                )
            relaxations[place] = relax_node(graph, place, NodeBounds(lower, upper))
            rounder.add(place, NodeBounds(lower, upper), relaxations[place])
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
        start: valid bounds of some or all nodes.
        method: the method that bounds neurons.
        has_time: called before each batch. Once it returns False, the remaining neurons keep their
            intervals.
        splits: splits of ReLUs that ``start`` satisfies; ``method`` may use multipliers for them.
            None: none.
        behind: nodes up to this index are not tightened.
        wanted: called before layers with many neurons; selects the instances to tighten. None: all
            instances.

    Returns:
        Bounds of every node. If a value of an instance cannot be bounded, all its bounds are
        infinite.
    """
    splits = splits or {}
    asked = needed_neurons(graph, nearly_linear_products(graph, start))
    lower, upper = {0: box.lower}, {0: box.upper}
    relaxations: dict[int, Relaxation] = {}
    rounder = Rounder(graph, box)
    for place, node in enumerate(graph.nodes[1:], 1):
        interval = node_interval(graph, place, lambda i: (lower[i], upper[i]))
        if place in start.lower:
            interval = meet(interval, (start.lower[place], start.upper[place]))
        lower[place], upper[place] = interval
        if not is_affine(node.op):
            relaxation = relax_node(graph, place, NodeBounds(lower, upper))
            if place in splits and isinstance(relaxation, Lines):
                relaxation = replace(relaxation, sides=splits[place].to(box.lower.dtype))
            relaxations[place] = relaxation
        rounder.add(place, NodeBounds(lower, upper), relaxations.get(place))
        if place in asked and place > behind and has_time():
            mask = are_loose(asked[place], interval)
            if isinstance(node.op, (Softmax, SoftmaxOfDifferences)):
                mask = interval[1] - interval[0] > _WIDE_SHARE
            if wanted is not None and int(mask.sum()) > _WORTH_ASKING * len(box):
                so_far = _with_intervals(graph, NodeBounds(lower, upper), start)
                mask = mask & wanted(so_far).view(-1, *(1,) * len(node.shape))
            linear = LinearGraph(graph, relaxations, rounder.rounding())
            lower[place], upper[place] = _solve_neurons(
                linear, box, place, interval, mask, method, has_time
            )
    return NodeBounds(lower, upper).where_defined()


def _with_intervals(graph: Graph, known: NodeBounds, start: NodeBounds) -> NodeBounds:
    """``known`` bounds of the first nodes, and intervals that follow from them for all others."""
    lower, upper = dict(known.lower), dict(known.upper)
    for place in range(len(known.lower), len(graph.nodes)):
        interval = node_interval(graph, place, lambda i: (lower[i], upper[i]))
        if place in start.lower:
            interval = meet(interval, (start.lower[place], start.upper[place]))
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
    """``interval``, tightened by ``method`` at the neurons of ``mask`` ``N x *V``.

    If only ReLUs take the value, a neuron is first bounded on the side where it is more likely to
    become stable. The other side follows only if the neuron may still be active, because a ReLU's
    value does not depend on how negative its input is.
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
                lower[at], upper[at] = meet((lower[at], upper[at]), (below, above))
    return lower.view(shape), upper.view(shape)
