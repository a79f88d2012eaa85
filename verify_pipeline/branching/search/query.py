"""The input of a search: instances of one network, and their time limits."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds import Multipliers, NodeBounds, needed_places
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification


@dataclass(frozen=True, eq=False)
class SearchQuery(Batched):
    """N instances of one network.

    Attributes:
        graph: the network in float64.
        box: ``N`` boxes.
        spec: ``N`` specifications, some of whose rows may be allowed to fail.
        sufficient: ``N`` specifications whose rows must all hold; each implies that of ``spec``.
        root: float64 bounds over the boxes, of ``bounds.needed_places`` at least.
        deadlines: time limits of the instances.
        start: multipliers of the root's bounds for the rows of ``sufficient``; None: unknown.
        input_dtype: input type of the file; counterexamples are its numbers, of
            :func:`rounding.searched`'s dtype.
        rows: float64 lower bounds of the rows of ``sufficient``, ``N x S``; None: unknown.
    """

    graph: Graph
    box: Box
    spec: Specification
    sufficient: Specification
    root: NodeBounds
    deadlines: Deadlines
    start: Multipliers | None = None
    input_dtype: torch.dtype = torch.float32
    rows: Tensor | None = None

    def instances(self, spec: Specification) -> SearchInstances:
        """The instances with the specification ``spec``, in float64."""
        root = self.root.only(needed_places(self.graph))
        return SearchInstances(self.graph, self.box, spec, root).to(torch.float64)

    def with_share(self, share: float) -> SearchQuery:
        """The same query with the share ``share`` of each instance's seconds."""
        deadlines = Deadlines(self.deadlines.seconds * share, self.deadlines.group)
        return replace(self, deadlines=deadlines)
