"""How much memory a batch takes."""

from __future__ import annotations

import torch

from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import size


def activation_bytes(graph: Graph, dtype: torch.dtype) -> int:
    """Bytes of the values of all nodes of one instance."""
    return sum(size(node.shape) for node in graph.nodes) * dtype.itemsize


def backward_bytes(graph: Graph, rows: int, dtype: torch.dtype) -> int:
    """Bytes that a backward bound of ``rows`` functionals of one instance takes, about.

    Coefficients of the widest node and what replaces them, two of each, beside the values' bounds.
    """
    widest = max(size(node.shape) for node in graph.nodes) * dtype.itemsize
    return 4 * rows * widest + 6 * activation_bytes(graph, dtype)


def release(device: torch.device) -> None:
    """Give what torch keeps in reserve on an accelerator back, so that the next attempt has it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
