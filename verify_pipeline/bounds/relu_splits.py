"""Splits of ReLU neurons: what they say about bounds."""

from __future__ import annotations

from verify_pipeline.bounds.types import NodeBounds, Splits
from verify_pipeline.network.graph import Graph


def clamp_to_splits(bounds: NodeBounds, graph: Graph, splits: Splits) -> NodeBounds:
    """Cut the bounds of split neurons at 0: ``lower >= 0`` if active, ``upper <= 0`` if not.

    A domain whose split contradicts its bounds gets a lower bound above an upper one, which
    ``NodeBounds.empty`` reports; every bound that is computed from it is valid, for it holds no
    input.

    Args:
        bounds: of the ReLUs' inputs at least, ``N`` domains.
        graph: the network.
        splits: of the same domains.
    """
    lower, upper = dict(bounds.lower), dict(bounds.upper)
    for place, split in splits.items():
        below = graph.nodes[place].inputs[0]
        active, inactive = (split > 0).nonzero(as_tuple=True), (split < 0).nonzero(as_tuple=True)
        lower[below], upper[below] = lower[below].clone(), upper[below].clone()
        lower[below][active] = lower[below][active].clamp(min=0)
        upper[below][inactive] = upper[below][inactive].clamp(max=0)
    return NodeBounds(lower, upper)
