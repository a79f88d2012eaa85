"""Masks: ``-inf`` that a file adds to scores, or writes in their place, before a softmax.

In the graph, float32's lowest number replaces it. A softmax maps both to 0, whatever score was
absorbed by the sum; any other operation would see a different number.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from verify_pipeline.errors import NetworkError
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Add, Gather, Op, Reshape, Scale, Slice, Softmax, Transpose
from verify_pipeline.onnx.half import is_real
from verify_pipeline.onnx.model_file import Array

LOWEST = float(np.finfo(np.float32).min)


def is_mask(constant: Array) -> bool:
    """Whether some element is ``-inf``."""
    return is_real(constant) and bool(np.isneginf(constant).any())


def finite(constant: Array) -> Array:
    """The constant with float32's lowest number for ``-inf``."""
    return np.where(np.isneginf(constant), LOWEST, constant) if is_mask(constant) else constant


def refuse_masks_before_others(graph: Graph, masked: Collection[str], source: str) -> None:
    """Refuse a graph in which something else than a softmax takes a masked value.

    Args:
        graph: as it was written down.
        masked: names of the nodes whose value holds ``-inf``.
        source: how messages name the file.

    Raises:
        NetworkError: naming the first such node.
    """
    first = {
        place: node.name for place, node in enumerate(graph.nodes) if masked and node.name in masked
    }
    origin: dict[int, str] = {}
    for place, node in enumerate(graph.nodes):
        carried = next((origin[i] for i in node.inputs if i in origin), None)
        if carried is not None and isinstance(node.op, Softmax):
            continue
        if carried is not None and not _keeps_it(node.op):
            raise _error(source, carried, node.name)
        found = carried or first.get(place)
        if found is not None:
            origin[place] = found
    last = len(graph.nodes) - 1
    if last in origin:
        raise _error(source, origin[last], "the output")


def _keeps_it(op: Op) -> bool:
    """Whether what was lowest is so afterwards."""
    moves = isinstance(op, Add | Gather | Reshape | Slice | Transpose)
    return moves or (isinstance(op, Scale) and bool((op.scale == 1).all()))


def _error(source: str, mask: str, user: str) -> NetworkError:
    return NetworkError(
        f"{source}: value {mask!r}",
        expected="-inf before a softmax only",
        got=f"-inf that {user!r} takes",
        remedy="Write a finite number in its place.",
    )
