"""CROWN bounds of margins: Zhang et al. 2018, arXiv:1811.00866; with β: Wang et al. 2021."""

from __future__ import annotations

from torch import Tensor

from verify_pipeline.bounds.backward import lower_bounds, of_margins
from verify_pipeline.bounds.contract import MarginBounds, Multipliers, NodeBounds, Splits
from verify_pipeline.bounds.linearise import linearise, reads
from verify_pipeline.bounds.lines import given
from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification


def needed_places(graph: Graph) -> tuple[int, ...]:
    """Places whose bounds CROWN bounds of the margins are made of, in order.

    Inputs of nonlinear nodes that have linear bounds, values of those that have constants only. A
    search need keep the bounds of these places only.
    """
    nodes = enumerate(graph.nodes)
    return tuple(sorted({i for place, node in nodes for i in reads(node.op, place, node.inputs)}))


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
    return lower_bounds(linear, box, of_margins(graph, spec), given(multipliers, splits))


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

    lower_bounds(linear, box, of_margins(graph, spec), given(multipliers, splits), visit)
    return found
