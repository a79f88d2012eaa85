"""How many functionals go together: memory is planned from a budget, and halved when it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from verify_pipeline.bounds.types import MemoryBudget
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import MatMul, Mul, size

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

# Tensors of a step's size that live at once beside the coefficients themselves: the products and
# selections inside a relaxation, and what a convolution takes as its workspace.
_TEMPORARIES = 3

# What torch's allocators, CUDA's libraries and onnxruntime say, in lower case.
_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "failed to allocate",
    "alloc_failed",
)


def functionals_that_fit(graph: Graph, place: int, budget: MemoryBudget, dtype: torch.dtype) -> int:
    """How many functionals of the node at ``place`` may be walked back at once; at least 1."""
    live, peak = {place}, 0
    for current in range(place, 0, -1):
        if current in live:
            live.remove(current)
            live.update(graph.nodes[current].inputs)
            walked = sum(size(graph.nodes[i].shape) for i in live) + size(
                graph.nodes[current].shape
            )
            peak = max(peak, walked)
    return max(1, budget.bytes // (dtype.itemsize * _TEMPORARIES * max(peak, 1)))


def functionals_with_gradients(
    graph: Graph, place: int, budget: MemoryBudget, dtype: torch.dtype
) -> int:
    """As :func:`functionals_that_fit`, when every step is kept for a gradient."""
    total = sum(size(node.shape) + _pairs_of(graph, node) for node in graph.nodes[: place + 1])
    return max(1, budget.bytes // (dtype.itemsize * 2 * _TEMPORARIES * max(total, 1)))


def pairs(graph: Graph) -> int:
    """How many pairs of factors the graph's products multiply: variables of one functional."""
    return sum(_pairs_of(graph, node) for node in graph.nodes)


def _pairs_of(graph: Graph, node: Node) -> int:
    if isinstance(node.op, MatMul):
        return size(graph.nodes[node.inputs[0]].shape) * node.shape[-1]
    return size(node.shape) if isinstance(node.op, Mul) else 0


def within_memory(run: Callable[[MemoryBudget], Result], budget: MemoryBudget) -> Result:
    """``run(budget)``, begun anew with half of the budget each time that memory runs out.

    Args:
        run: what needs memory.
        budget: to begin with; below a 64th of it the failure is passed on.
    """
    least = budget.bytes // 64
    while True:
        try:
            return run(budget)
        except Exception as error:
            if not is_out_of_memory(error) or budget.bytes // 2 < max(least, 1):
                raise
        budget = MemoryBudget(bytes=budget.bytes // 2)


def unless_memory_ends(
    run: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result | None:
    """``run(*args, **kwargs)``, or None where memory ran out.

    By then the frames of the failure, and the tensors that they held, are gone.
    """
    try:
        return run(*args, **kwargs)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on whatever device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, Exception) and any(sign in text for sign in _SIGNS)
