"""What splits of ReLU neurons imply for the bounds of their inputs."""

from __future__ import annotations

from verify_pipeline.bounds.types import NodeBounds, Splits
from verify_pipeline.network.graph import Graph


def clamp_to_splits(bounds: NodeBounds, graph: Graph, splits: Splits) -> NodeBounds:
    """Clamp the bounds of split neurons at 0: ``lower >= 0`` if active, ``upper <= 0`` if inactive.

    If a split contradicts the bounds, a lower bound of the domain exceeds its upper bound, and
    ``NodeBounds.empty`` reports the domain. Every bound computed from it is valid, because the
    domain contains no input.

    Args:
        bounds: bounds of ``N`` domains, at least of the ReLUs' inputs.
        graph: the network.
        splits: the splits of the same domains.
    """
    lower, upper = dict(bounds.lower), dict(bounds.upper)
    for place, split in splits.items():
        below = graph.nodes[place].inputs[0]
        active, inactive = (split > 0).nonzero(as_tuple=True), (split < 0).nonzero(as_tuple=True)
        lower[below], upper[below] = lower[below].clone(), upper[below].clone()
        lower[below][active] = lower[below][active].clamp(min=0)
        upper[below][inactive] = upper[below][inactive].clamp(max=0)
    return NodeBounds(lower, upper)
