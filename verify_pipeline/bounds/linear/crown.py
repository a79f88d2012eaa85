"""CROWN bounds of margins: Zhang et al. 2018, arXiv:1811.00866; with β: Wang et al. 2021."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from verify_pipeline.bounds.linear.backward import lower_bounds, of_margins
from verify_pipeline.bounds.linear.multipliers import fixed_multipliers
from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.bounds.relaxations.relaxed_graph import linearise, reads
from verify_pipeline.bounds.types import MarginBounds, Multipliers, NodeBounds, Splits
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification


def needed_places(graph: Graph) -> tuple[int, ...]:
    """Places whose bounds CROWN bounds of the margins are made of, in order.

    Inputs of nonlinear nodes that have linear bounds, values of those that have constants only. A
    search need keep the bounds of these places only. Where there are none the output is named,
    whose bounds tell whether every value is defined (:meth:`NodeBounds.where_defined`).
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
    """Lower bounds of the margins ``C f(x) + d``, of many instances or domains at once.

    Each has its own box, specification, bounds and splits. Valid for every x of the box that obeys
    the splits, whatever the multipliers; α is cut to [0, 1] and β to >= 0.

    Args:
        graph: the network.
        box: ``N`` boxes.
        spec: ``N`` specifications of ``S`` rows.
        bounds: of :func:`needed_places` at least, valid on the domains.
        multipliers: α and β; None: adaptive α, no β.
        splits: of (leaky) ReLUs; None: none. Split neurons count as linear.
    """
    linear = linearise(graph, bounds, splits)
    found = lower_bounds(
        linear, box, of_margins(graph, spec), fixed_multipliers(multipliers, splits)
    )
    return of_defined(found, bounds)


def of_defined(margins: MarginBounds, bounds: NodeBounds) -> MarginBounds:
    """The margins' bounds, ``-inf`` for instances of which some value may be undefined.

    Relaxations of such an instance give no finite bound; an affine path past them would.

    Args:
        margins: of ``N`` instances.
        bounds: of some places, after :meth:`NodeBounds.where_defined`: one place tells of all.
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
    """Coefficients of each nonlinear node's value in the bound that :func:`crown_margins` finds.

    What branching scores are made of (BaBSR: Bunel et al. 2020, JMLR 21). Arguments as there.

    Returns:
        Place of a nonlinear node -> ``N x S x *V``; nodes that the margins do not reach are absent.
    """
    linear = linearise(graph, bounds, splits)
    found: dict[int, Tensor] = {}

    def visit(place: int, coefficients: Tensor) -> None:
        if place in linear.relaxations:
            found[place] = coefficients

    lower_bounds(
        linear, box, of_margins(graph, spec), fixed_multipliers(multipliers, splits), visit
    )
    return found
