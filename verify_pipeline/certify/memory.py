"""How much memory a batch takes, and what running out of it looks like."""

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


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error).lower() for sign in ("out of memory", "can't allocate memory")
    )


def release(device: torch.device) -> None:
    """Give what torch keeps in reserve on an accelerator back, so that the next attempt has it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
