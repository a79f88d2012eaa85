"""Memory is planned and backed off from."""

from __future__ import annotations

import pytest
import torch

from tests.networks import mlp
from verify_pipeline.bounds import MemoryBudget
from verify_pipeline.bounds.memory import (
    functionals_that_fit,
    functionals_with_gradients,
    within_memory,
)


def test_functionals_grow_with_the_budget_and_never_vanish() -> None:
    graph = mlp(0, 10, (50,))
    small, large = MemoryBudget(bytes=1), MemoryBudget(bytes=1 << 20)
    for plan in (functionals_that_fit, functionals_with_gradients):
        assert plan(graph, 3, small, torch.float32) == 1
        assert plan(graph, 3, large, torch.float64) * 2 <= plan(graph, 3, large, torch.float32) + 1
        # a functional holds 100 numbers at once, where ReLU's value and input meet
        assert plan(graph, 3, large, torch.float32) * 100 * 4 <= large.bytes


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_halves_the_budget(failure: Exception) -> None:
    tried = []

    def run(budget: MemoryBudget) -> int:
        tried.append(budget.bytes)
        if budget.bytes > 300:
            raise failure
        return budget.bytes

    assert within_memory(run, MemoryBudget(bytes=1024)) == 256
    assert tried == [1024, 512, 256]


def test_what_does_not_fit_at_all_is_passed_on() -> None:
    def run(budget: MemoryBudget) -> int:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        within_memory(run, MemoryBudget(bytes=1024))


def test_other_errors_are_not_taken_for_memory() -> None:
    tried = []

    def run(budget: MemoryBudget) -> int:
        tried.append(budget)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        within_memory(run, MemoryBudget(bytes=1024))
    assert len(tried) == 1
