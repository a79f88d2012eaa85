"""Estimates of a batch's memory."""

from __future__ import annotations

import torch

from verify_pipeline.bounds import MemoryBudget
from verify_pipeline.branching.search.ways import InputSplitRoom
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import size

PARTS_AT_ONCE = 1024
"""Parts of boxes that are bounded at once, at most."""

KEPT = 2
"""Open parts of boxes may take this many times a batch's memory; then the search is given up."""

CPU_BATCH, ACCELERATOR_BATCH = 64, 1024
"""Images at once: on a CPU core, interval bounds and CROWN of 64 took 0.6 of the time of 1024."""


def usual_batch(device: torch.device) -> int:
    """How many instances bounds and the attack take at once where nothing else is said."""
    return CPU_BATCH if device.type == "cpu" else ACCELERATOR_BATCH


def activation_bytes(graph: Graph, dtype: torch.dtype) -> int:
    """Bytes of the values of all nodes of one instance."""
    return sum(size(node.shape) for node in graph.nodes) * dtype.itemsize


def backward_bytes(graph: Graph, rows: int, dtype: torch.dtype) -> int:
    """Approximate bytes of a backward bound of ``rows`` functionals of one instance.

    Coefficients of the widest node and what replaces them, two of each, beside the values' bounds.
    """
    widest = max(size(node.shape) for node in graph.nodes) * dtype.itemsize
    return 4 * rows * widest + 6 * activation_bytes(graph, dtype)


def input_split_room(graph: Graph, rows: int, memory: int, budget: MemoryBudget) -> InputSplitRoom:
    """What a search that splits inputs may use.

    Args:
        graph: in float64.
        rows: S, of each specification.
        memory: bytes that a batch may take, about.
        budget: of functionals that are bounded at once.
    """
    batch = max(1, min(PARTS_AT_ONCE, memory // backward_bytes(graph, rows, torch.float64)))
    return InputSplitRoom(batch, KEPT * memory, budget)


def release(device: torch.device) -> None:
    """Free torch's cached memory on an accelerator for the next attempt."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
