"""Whether bounding all neurons of a box anew takes little of an instance's time.

What cuts boxes into parts with bounds of their own (``halving``, ``cells``) gets somewhere with
many parts only.
"""

from __future__ import annotations

from collections.abc import Callable

from verify_pipeline.bounds import MemoryBudget, NodeBounds, crown_intermediate
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box


def is_rebounded_within(
    seconds: float,
    graph: Graph,
    box: Box,
    root: NodeBounds,
    budget: MemoryBudget,
    clock: Callable[[], float],
) -> bool:
    """Whether CROWN bounds of the first box's neurons are made in so many seconds.

    It takes no longer than about that to find out, and nobody is charged for it.

    Args:
        seconds: > 0.
        graph: the network.
        box: boxes, the first of which is tried.
        root: bounds over these that are known.
        budget: of functionals that are bounded at once; time is looked at between two such batches.
        clock: in seconds.
    """
    until = clock() + seconds

    def has_time() -> bool:
        return clock() < until

    crown_intermediate(graph, box[:1], root[:1], budget, has_time)
    return has_time()
