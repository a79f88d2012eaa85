"""The instances of a search, in one precision."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from verify_pipeline.batched import Batched
from verify_pipeline.bounds import NodeBounds, RelaxedBounds
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification


@dataclass(frozen=True, eq=False)
class SearchInstances(Batched):
    """N instances of one network.

    Attributes:
        graph: the network.
        box: ``N x *X``.
        spec: ``N x S x K``.
        bounds: bounds at the root of the nodes that bounds of the margins need.
        planes: positions of the planes of products and of the tangents of smooth activations, the
            same in every domain: node index -> ``N x S x *P`` float32.
    """

    graph: Graph
    box: Box
    spec: Specification
    bounds: NodeBounds
    planes: dict[int, Tensor] = field(default_factory=dict)

    def to(self, dtype: torch.dtype) -> SearchInstances:
        """The same instances in another precision."""
        return SearchInstances(
            self.graph.to(dtype),
            self.box.to(dtype),
            self.spec.to(dtype),
            self.bounds.to(dtype),
            self.planes,
        )

    @cached_property
    def relaxed(self) -> RelaxedBounds:
        """The bounds, with the relaxations that are the same in every domain."""
        return RelaxedBounds.of(self.graph, self.bounds)

    def are_finite(self) -> Tensor:
        """Instances whose bounds are all finite, ``N`` booleans."""
        finite = torch.ones(len(self.box), dtype=torch.bool, device=self.box.lower.device)
        for side in (self.bounds.lower, self.bounds.upper):
            for value in side.values():
                finite &= torch.isfinite(value).flatten(1).all(1)
        return finite
