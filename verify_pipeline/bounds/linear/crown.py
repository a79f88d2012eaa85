"""CROWN bounds of margins: Zhang et al. 2018 (arXiv:1811.00866).

The multipliers β of splits are those of β-CROWN: Wang et al. 2021 (arXiv:2103.06624).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from verify_pipeline.bounds.linear.backward import lower_bounds, of_margins
from verify_pipeline.bounds.linear.multipliers import fixed_multipliers
from verify_pipeline.bounds.memory import coefficients_at_once
from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.bounds.relaxations.relaxed_graph import linearise, reads
from verify_pipeline.bounds.types import MarginBounds, Multipliers, NodeBounds, Splits
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import size
from verify_pipeline.problem import Box, Specification

LATE_WALKS = 2
"""How many short walks bound a margin before a walk to the input does."""


def needed_places(graph: Graph) -> tuple[int, ...]:
    """Indices of the nodes whose bounds CROWN needs to bound the margins, in order.

    These are the inputs of nonlinear nodes with linear bounds, and nonlinear nodes that are bounded
    by constants. A search keeps the bounds of these nodes only. In a network without nonlinear
    nodes, the result is the output's index, whose bounds show whether every value is defined
    (:meth:`NodeBounds.where_defined`).
    """
    nodes = enumerate(graph.nodes)
    read = {i for place, node in nodes for i in reads(node.op, place, node.inputs)}
    return tuple(sorted(read)) or (len(graph.nodes) - 1,)


@full_precision()
def crown_margins(
    graph: Graph,
    box: Box,
    spec: Specification,
    bounds: NodeBounds,
    multipliers: Multipliers | None = None,
    splits: Splits | None = None,
) -> MarginBounds:
    """Lower bounds of the margins ``C f(x) + d`` for many instances or domains at once.

    Every instance or domain has its own box, specification, bounds and splits. The bounds hold for
    every x in the box that satisfies the splits, for any multipliers: α is clamped to [0, 1] and β
    to >= 0.

    Args:
        graph: the network.
        box: ``N`` boxes.
        spec: ``N`` specifications of ``S`` rows.
        bounds: bounds that are valid on the domains, at least of the nodes of
            :func:`needed_places`.
        multipliers: α and β; None: adaptive α, no β.
        splits: splits of (leaky) ReLUs; None: none. A split neuron is linear.
    """
    linear = linearise(graph, box, bounds, splits)
    found = lower_bounds(
        linear, box, of_margins(graph, spec), fixed_multipliers(multipliers, splits)
    )
    return of_defined(found, bounds)


def late_bottlenecks(graph: Graph) -> Iterator[int]:
    """Nodes that every path from the input to the output passes through, the last ones first.

    The input and the output are not among them.
    """
    nodes = graph.nodes
    reached = {len(nodes) - 1}
    for place in range(len(nodes) - 1, 0, -1):
        if place in reached:
            if reached == {place} and place < len(nodes) - 1:
                yield place
            reached.remove(place)
            reached.update(nodes[place].inputs)


def late_ends(graph: Graph, bounds: NodeBounds) -> list[int]:
    """The bottlenecks at which short walks end: bounded, and near the output, the last one first.

    The values behind them have a quarter of the network's numbers at most, and so have the walks.
    """
    sizes = [size(node.shape) for node in graph.nodes]
    ends = (place for place in late_bottlenecks(graph) if place in bounds.lower)
    near = (place for place in ends if 4 * sum(sizes[place + 1 :]) <= sum(sizes))
    return list(islice(near, LATE_WALKS))


@full_precision()
def late_margins(
    graph: Graph,
    box: Box,
    spec: Specification,
    bounds: NodeBounds,
    at_once: int,
    has_time: Callable[[], bool],
) -> Tensor:
    """Bounds of the margins by short walks, which end at late layers, ``N x S``; cheap and loose.

    Where bounds of the neurons are good, they suffice for most rows. GPUPoly ends walks early as
    well (Müller et al. 2021, arXiv:2007.10868).

    Args:
        graph: the network.
        box: ``N`` boxes of inputs.
        spec: ``N`` specifications of ``S`` rows.
        bounds: as for :func:`crown_margins`.
        at_once: how many rows of each instance fit into a walk to the input; short walks take more.
        has_time: called before each walk; rows without one have the bound -inf.
    """
    linear = linearise(graph, box, bounds)
    best = torch.full_like(spec.offsets, -torch.inf)
    last, rows = len(graph.nodes) - 1, torch.arange(best.shape[1], device=best.device)
    for end in late_ends(graph, bounds):
        lower, upper = bounds.lower[end], bounds.upper[end]
        if not bool(torch.isfinite(upper - lower).all() & (lower <= upper).all()):
            break
        wider = coefficients_at_once(graph, last) // coefficients_at_once(graph, last, end)
        for part in rows.split(at_once * wider):
            if not has_time():
                return best
            some = Specification(spec.rows[:, part], spec.offsets[:, part])
            found = lower_bounds(linear, Box(lower, upper), of_margins(graph, some), end=end)
            best[:, part] = torch.maximum(best[:, part], of_defined(found, bounds).lower)
    return best


def of_defined(margins: MarginBounds, bounds: NodeBounds) -> MarginBounds:
    """The margins' bounds, with ``-inf`` for instances in which a value may be undefined.

    Relaxations of such an instance give no finite bound, but an affine path that bypasses them
    would.

    Args:
        margins: bounds of ``N`` instances.
        bounds: bounds of some nodes after :meth:`NodeBounds.where_defined`. They are infinite at
            all nodes of an instance or at none, so one node is checked.
    """
    lower = next(iter(bounds.lower.values()), None)
    if lower is None:
        return margins
    undefined = torch.isinf(lower).flatten(1).any(1, keepdim=True)
    return replace(margins, lower=margins.lower.masked_fill(undefined, -torch.inf))


@full_precision()
def relu_coefficients(
    graph: Graph,
    box: Box,
    spec: Specification,
    bounds: NodeBounds,
    multipliers: Multipliers | None = None,
    splits: Splits | None = None,
) -> dict[int, Tensor]:
    """Coefficients of each nonlinear node's value in the bound of :func:`crown_margins`.

    Branching scores are computed from them (BaBSR: Bunel et al. 2020, JMLR 21, arXiv:1909.06588).
    The arguments are those of :func:`crown_margins`.

    Returns:
        Index of a nonlinear node -> ``N x S x *V``. Nodes that the margins do not depend on are
        absent.
    """
    linear = linearise(graph, box, bounds, splits)
    found: dict[int, Tensor] = {}

    def visit(place: int, coefficients: Tensor) -> None:
        if place in linear.relaxations:
            found[place] = coefficients

    lower_bounds(
        linear, box, of_margins(graph, spec), fixed_multipliers(multipliers, splits), visit
    )
    return found
