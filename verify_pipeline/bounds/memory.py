"""How many functionals fit into memory at once, and how to continue when memory runs out.

Batches are planned from a budget. After an out-of-memory error, the budget is halved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from verify_pipeline.bounds.types import MemoryBudget
from verify_pipeline.network.graph import Graph, Node
from verify_pipeline.network.ops import MatMul, Mul, size

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")

# How many tensors of the coefficients' size one step holds at the same time: the coefficients, the
# products and selections inside a relaxation, and a convolution's workspace.
_TEMPORARIES = 3

# Phrases in out-of-memory errors of torch's allocators, CUDA's libraries and onnxruntime, in lower
# case.
_SIGNS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "failed to allocate",
    "alloc_failed",
)


def functionals_that_fit(graph: Graph, place: int, budget: MemoryBudget, dtype: torch.dtype) -> int:
    """How many functionals of the node with index ``place`` fit into one backward pass.

    The number is at least 1.
    """
    peak = coefficients_at_once(graph, place)
    return max(1, budget.bytes // (dtype.itemsize * _TEMPORARIES * peak))


def coefficients_at_once(graph: Graph, place: int, end: int = 0) -> int:
    """How many coefficients of one functional a walk from one node to another holds, at least 1."""
    live, peak = {place}, 1
    for current in range(place, end, -1):
        if current in live:
            live.remove(current)
            live.update(graph.nodes[current].inputs)
            held = (size(graph.nodes[i].shape) for i in (current, *live))
            peak = max(peak, sum(held))
    return peak


def functionals_with_gradients(
    graph: Graph, place: int, budget: MemoryBudget, dtype: torch.dtype
) -> int:
    """As :func:`functionals_that_fit`, if every step is kept for the gradient."""
    total = sum(size(node.shape) + _pairs_of(graph, node) for node in graph.nodes[: place + 1])
    return max(1, budget.bytes // (dtype.itemsize * 2 * _TEMPORARIES * max(total, 1)))


def pairs(graph: Graph) -> int:
    """How many pairs of factors the graph's products multiply.

    One functional has one plane position for each pair.
    """
    return sum(_pairs_of(graph, node) for node in graph.nodes)


def _pairs_of(graph: Graph, node: Node) -> int:
    if isinstance(node.op, MatMul):
        return size(graph.nodes[node.inputs[0]].shape) * node.shape[-1]
    return size(node.shape) if isinstance(node.op, Mul) else 0


def within_memory(run: Callable[[MemoryBudget], Result], budget: MemoryBudget) -> Result:
    """Return ``run(budget)``; start again with half of the budget whenever memory runs out.

    Args:
        run: the computation.
        budget: the first budget. The budget is never reduced below 1/64 of this; then the error is
            passed on.
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
    """Return ``run(*args, **kwargs)``, or None if memory ran out.

    When None is returned, the frames of the failed call and their tensors are released.
    """
    try:
        return run(*args, **kwargs)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception reports that memory ran out, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, Exception) and any(sign in text for sign in _SIGNS)
