"""How much memory a batch takes."""

from __future__ import annotations

import math

import torch

from verify_pipeline.bounds import MemoryBudget, needed_places
from verify_pipeline.branching.search.input_split import InputSplitLimits
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import size

PARTS_AT_ONCE = 1024
"""Parts of halved boxes that are bounded at once, at most."""

KEPT = 2
"""Times a batch's memory that open parts of halved boxes may take; beyond, they are given up."""

CPU_BATCH, ACCELERATOR_BATCH = 64, 1024
"""Images at once: on a CPU core, interval bounds and CROWN of 64 took 0.6 of the time of 1024."""


def usual_batch(device: torch.device) -> int:
    """How many instances bounds and the attack take at once where nothing else is said."""
    return CPU_BATCH if device.type == "cpu" else ACCELERATOR_BATCH


def activation_bytes(graph: Graph, dtype: torch.dtype) -> int:
    """Bytes of the values of all nodes of one instance."""
    return sum(size(node.shape) for node in graph.nodes) * dtype.itemsize


def backward_bytes(graph: Graph, rows: int, dtype: torch.dtype) -> int:
    """Bytes that a backward bound of ``rows`` functionals of one instance takes, about.

    Coefficients of the widest node and what replaces them, two of each, beside the values' bounds.
    """
    widest = max(size(node.shape) for node in graph.nodes) * dtype.itemsize
    return 4 * rows * widest + 6 * activation_bytes(graph, dtype)


def room_to_halve(
    graph: Graph,
    rows: int,
    memory: int,
    budget: MemoryBudget,
    give_up: float | None = None,
    patience: float = math.inf,
) -> InputSplitLimits:
    """What a search that halves boxes may use.

    Args:
        graph: in float64.
        rows: S, of each specification.
        memory: bytes that a batch may take, about.
        budget: of functionals that are bounded at once.
        give_up: times its seconds that a search may be expected to take; None: any.
        patience: see ``InputSplitLimits``.
    """
    batch = max(1, min(PARTS_AT_ONCE, memory // backward_bytes(graph, rows, torch.float64)))
    kept = sum(size(graph.nodes[place].shape) for place in (0, *needed_places(graph)))
    most = KEPT * memory // (16 * kept)
    return InputSplitLimits(batch, most, budget, math.inf if give_up is None else give_up, patience)


def release(device: torch.device) -> None:
    """Give what torch keeps in reserve on an accelerator back, so that the next attempt has it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
