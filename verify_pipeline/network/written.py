"""A network as its file writes it, whose roundings are those of the file's own operations."""

from __future__ import annotations

from dataclasses import dataclass

from verify_pipeline.network.graph import Graph


@dataclass(frozen=True, eq=False)
class Written:
    """The operations of a file, before any of them are merged.

    Attributes:
        graph: float64, the same function as the merged graph, ``N x *X`` to ``N x K``.
        held_by: names of the arithmetics that hold each constant of the file exactly.
        foreign: the first operation whose roundings do not follow from the graph; empty: none.
    """

    graph: Graph
    held_by: frozenset[str]
    foreign: str = ""
