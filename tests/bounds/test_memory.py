"""Memory is planned and backed off from; neurons are laid out once each."""

import pytest
import torch

from verify_pipeline.bounds import MemoryBudget
from verify_pipeline.bounds.intermediate.neuron_batches import Rows
from verify_pipeline.bounds.memory import (
    functionals_that_fit,
    functionals_with_gradients,
    within_memory,
)
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, Relu


def deep() -> Graph:
    b = GraphBuilder((10,))
    x = b.add(Relu(), b.add(Linear(torch.zeros(50, 10)), 0))
    return b.build(b.add(Linear(torch.zeros(2, 50)), x))


def test_functionals_grow_with_the_budget_and_never_vanish() -> None:
    graph = deep()
    small, large = MemoryBudget(bytes=1), MemoryBudget(bytes=1 << 20)
    for plan in (functionals_that_fit, functionals_with_gradients):
        assert plan(graph, 3, small, torch.float32) == 1
        assert plan(graph, 3, large, torch.float64) * 2 <= plan(graph, 3, large, torch.float32) + 1
        # a functional holds 100 numbers at once, where ReLU's value and input meet
        assert plan(graph, 3, large, torch.float32) * 100 * 4 <= large.bytes


@pytest.mark.parametrize("longest", [1, 3, 1000])
def test_rows_hold_every_neuron_that_is_asked_for(longest: int) -> None:
    mask = torch.zeros(5, 4, 6, dtype=torch.bool)
    mask[0] = True
    mask[2, 1, 3] = True
    mask[4, :, 2] = True
    rows = Rows(mask, longest)
    assert rows.neurons.shape[1] <= longest
    seen = torch.zeros(5, 24, dtype=torch.int)
    for part in rows.parts(7, 2):
        seen[rows.instance[part].unsqueeze(1), rows.neurons[part]] = 1
    assert torch.equal(seen.bool(), mask.flatten(1))


def test_rows_of_nothing_are_none() -> None:
    rows = Rows(torch.zeros(3, 4, dtype=torch.bool), 8)
    assert list(rows.parts(100, 2)) == []


def test_parts_stay_below_their_limit() -> None:
    rows = Rows(torch.ones(9, 40, dtype=torch.bool), 16)
    width = rows.neurons.shape[1]
    for part in rows.parts(64, 2):
        assert 2 * width * len(rows.instance[part]) <= 64


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
