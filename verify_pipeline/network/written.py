"""A network as its file writes it, whose roundings are those of the file's own operations."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from verify_pipeline.network.arithmetic import ARITHMETICS
from verify_pipeline.network.graph import Graph


@dataclass(frozen=True, eq=False)
class Written:
    """The operations of a file, before any of them are merged.

    Attributes:
        graph: float64, the same function as the merged graph, ``N x *X`` to ``N x K``.
        held_by: names of the arithmetics that hold each constant of the file exactly.
        foreign: the first operation whose roundings do not follow from the graph; empty: none.
        rounded_to: names of the arithmetics narrower than float32 whose numbers values are.
        computed: whether the file computes constants of constants with roundings. Where those are
            rounded first, or their results are not stored, these may change by any amount.
    """

    graph: Graph
    held_by: frozenset[str]
    foreign: str = ""
    rounded_to: frozenset[str] = frozenset()
    computed: bool = False

    @property
    def coarsest(self) -> torch.dtype:
        """The type with the greatest roundings that values are in; float32 if none is narrower."""
        types = (ARITHMETICS[name].dtype for name in self.rounded_to)
        return max(types, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)
