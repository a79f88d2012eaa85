"""How many functionals go together: memory is planned from a budget, and halved when it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from verify_pipeline.bounds.contract import MemoryBudget
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


class Rows:
    """Neurons of many instances laid out as rows of equal length, for few padded places.

    An instance with many neurons has several rows; one without any has none.

    Attributes:
        instance: the instance of each row, ``R``.
        neurons: places of its neurons in the flattened value, ``R x U``; a row that is not full
            repeats its first.
    """

    def __init__(self, mask: Tensor, longest: int) -> None:
        """Lay out the neurons that ``mask`` ``N x *V`` picks, at most ``longest`` in a row."""
        instance, neuron = mask.flatten(1).nonzero(as_tuple=True)
        counts = torch.bincount(instance, minlength=mask.shape[0])
        width = _best_width(counts, longest)
        rows = (counts + width - 1).div(width, rounding_mode="floor")
        position = (
            torch.arange(len(neuron), device=mask.device) - (counts.cumsum(0) - counts)[instance]
        )
        row = (rows.cumsum(0) - rows)[instance] + position.div(width, rounding_mode="floor")
        column = position % width
        self.instance = torch.arange(mask.shape[0], device=mask.device).repeat_interleave(rows)
        first = neuron[column == 0]
        self.neurons = first.unsqueeze(1).repeat(1, width)
        self.neurons[row, column] = neuron

    def parts(self, functionals: int, each: int) -> Iterator[slice]:
        """Slices of the rows, each with at most that many functionals, ``each`` for a neuron."""
        step = max(1, functionals // (each * self.neurons.shape[1])) if len(self.instance) else 1
        for first in range(0, len(self.instance), step):
            yield slice(first, first + step)


def _best_width(counts: Tensor, longest: int) -> int:
    """The length of rows that costs least: places in all rows, and what each row costs besides."""
    widths = [1 << power for power in range(7) if 1 << power <= longest]
    overhead = 2  # a row gathers its instance's relaxations: about what two neurons cost

    def cost(width: int) -> int:
        rows = int((counts + width - 1).div(width, rounding_mode="floor").sum())
        return rows * (width + overhead)

    return min(widths, key=cost)
