"""Nogoods: what follows from them, and that they are true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    OptimiseSettings,
    crown_intermediate,
    interval_bounds,
)
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.search.root import plant
from verify_pipeline.branching.tree import nogoods as nogoods_module
from verify_pipeline.branching.tree.nogoods import Nogoods
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import Domains, split
from verify_pipeline.network.graph import Graph

F64 = torch.float64


def domains(open_row: list[int], splits: list[list[int]]) -> Domains:
    values = torch.zeros(len(open_row), len(splits[0]))
    chosen = torch.tensor(splits, dtype=torch.int8)
    return Domains(
        torch.tensor(open_row),
        values[:, 0],
        chosen,
        values,
        values,
        values - torch.inf,
        values + torch.inf,
    )


def taught(open_row: list[int], splits: list[list[int]]) -> Nogoods:
    nogoods = Nogoods()
    nogoods.learn(torch.tensor(open_row), torch.tensor(splits, dtype=torch.int8))
    return nogoods


def followed(nogoods: Nogoods, open_row: int, splits: list[int]) -> tuple[list[int], bool]:
    found, closed = nogoods.follow(domains([open_row], [splits]))
    return found.splits[0].tolist(), bool(closed)


def test_what_contains_a_nogood_is_closed() -> None:
    nogoods = taught([0], [[1, 0, -1, 0]])
    assert followed(nogoods, 0, [1, 1, -1, 0]) == ([1, 1, -1, 0], True)
    assert followed(nogoods, 0, [1, 1, 1, 0]) == ([1, 1, 1, 0], False)
    assert followed(nogoods, 0, [0, 1, 0, 0]) == ([0, 1, 0, 0], False)
    assert followed(nogoods, 1, [1, 1, -1, 0]) == ([1, 1, -1, 0], False)


def test_the_opposite_of_the_last_split_follows() -> None:
    nogoods = taught([0, 0], [[1, 0, -1, 0], [0, 1, 1, 0]])
    assert followed(nogoods, 0, [1, 0, 0, 0]) == ([1, -1, 1, 0], False)  # the second by the first
    assert followed(nogoods, 0, [1, 1, 0, 0])[1]  # -1 and +1 of the third are both closed


def test_no_split_at_all_closes_everything() -> None:
    assert followed(taught([3], [[0, 0]]), 3, [0, 1])[1]


def test_what_is_forgotten_closes_nothing() -> None:
    nogoods = taught([0, 1], [[1, 0], [1, 0]])
    nogoods.forget(torch.tensor([False, True]))
    assert followed(nogoods, 0, [1, 0])[1]
    assert not followed(nogoods, 1, [1, 0])[1]


def test_the_shorter_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nogoods_module, "MOST", 2)
    nogoods = taught([0], [[1, 1, 1]])
    nogoods.learn(torch.tensor([0, 0]), torch.tensor([[0, 0, -1], [1, -1, 0]], dtype=torch.int8))
    assert followed(nogoods, 0, [0, 1, -1])[1]
    assert not followed(nogoods, 0, [1, 1, 1])[1]


def test_without_room_nothing_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    nogoods = taught([0], [[1, 0]])
    monkeypatch.setattr(nogoods_module, "BYTES", 1)
    nogoods.learn(torch.tensor([0]), torch.tensor([[0, 1]], dtype=torch.int8))
    assert not followed(nogoods, 0, [0, 1])[1]


def inputs_of_activations(graph: Graph, points: Tensor, bounder: Bounder) -> Tensor:
    """``P x R``."""
    values = [points]
    for node in graph.nodes[1:]:
        values.append(node.op(*(values[i] for i in node.inputs)))
    neurons = bounder.open_rows.neurons
    found = {p: values[s] for p, s in zip(neurons.places, neurons.sources, strict=True)}
    return neurons.flatten(found, len(points))


def test_the_row_holds_wherever_the_splits_that_are_left_hold(
    make_case: Any, make_conv: Callable[[int], Graph]
) -> None:
    case = make_case(make_conv(1), 24, 1, (1.0,))
    graph, box = case.graph.to(F64), case.box.to(F64)
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    exact = SearchInstances(graph, box, case.spec.to(F64), bounds)
    roots = plant(exact, None, 64)
    bounder = Bounder(roots.open_rows, exact.to(torch.float32), exact)
    opened, settings, dropped = roots.domains, OptimiseSettings(iterations=5), 0
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        columns = bounder.open_rows.undecided(opened).float().argmax(1)
        bounded = bounder.bound(split(opened, columns), settings)
        closed = bounded.confirmed > 0
        proved = bounded.domains[closed]
        splits, lower = bounder.generalise(proved, bounded.confirmed[closed])
        assert bool((lower > 0).all())
        assert bool(((splits == proved.splits) | (splits == 0)).all())
        dropped += int((splits != proved.splits).sum())
        for d in range(len(proved)):
            n = int(bounder.open_rows.instance[proved.open_row[d]])
            low, high = box.lower[n], box.upper[n]
            points = low + (high - low) * torch.rand(500, *low.shape, generator=generator)
            inputs = bounder.open_rows.compress(
                proved.open_row[d].repeat(500), inputs_of_activations(graph, points, bounder)
            )
            there = ((inputs * splits[d]) >= 0).all(1)
            rows = exact.spec.rows[n] @ graph(points).T + exact.spec.offsets[n].unsqueeze(1)
            row = rows[bounder.open_rows.row[proved.open_row[d]]]
            assert bool((row[there] >= lower[d] - 1e-9).all())
        left = bounded.domains[~closed]
        opened = left[bounder.open_rows.undecided(left).any(1)][:40]
    assert dropped > 3
