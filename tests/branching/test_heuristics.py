"""Branching heuristics: what each picks, and how one is added that all kinds of split follow."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.searching import (
    NUDGES,
    QUICK,
    Asked,
    by_graph,
    check_against_oracle,
    in_order,
    query_of,
    run,
)
from verify_pipeline.bounds import MemoryBudget
from verify_pipeline.branching.config.search_settings import BranchingSettings
from verify_pipeline.branching.heuristics import (
    HEURISTICS,
    Candidates,
    best_gain,
    best_of_both,
    best_of_layers,
)
from verify_pipeline.branching.search.ways import InputSplitRoom, split_inputs, split_intervals
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Concat, Elementwise, Linear
from verify_pipeline.problem import Box, Specification, Status

ROOT = Path(__file__).resolve().parents[2]

GAIN = torch.tensor([[5.0, 4.0, 3.0, 9.0]])
LOSS = torch.tensor([[0.0, 1.0, 2.0, 9.0]])
LAYER = torch.tensor([[0, 0, 1, 1]])


def candidates(*allowed: bool) -> Candidates:
    return Candidates(torch.tensor([allowed]), GAIN, LOSS, LAYER)


def test_what_is_not_allowed_is_not_picked() -> None:
    some = candidates(True, True, True, False)
    assert best_gain(some, 3).tolist() == [[0]]
    assert best_of_both(some, 2).tolist() == [[0, 1, 2, 1]]
    assert best_of_layers(some, 1).tolist() == [[0, 2, 1, 2]]


def test_of_a_layer_without_candidates_none_are_picked() -> None:
    """Columns that only fill up a batch are of a layer of their own."""
    assert best_of_layers(candidates(True, True, False, False), 1).tolist() == [[0, 1]]


def test_too_few_candidates_are_repeated() -> None:
    one = candidates(False, True, False, False)
    assert best_of_both(one, 3).tolist() == [[1] * 6]
    assert best_of_layers(one, 1).tolist() == [[1, 1]]


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
@pytest.mark.parametrize("pick", [best_gain, best_of_both, best_of_layers])
def test_a_score_that_is_no_number_is_the_worst_of_those_that_are_allowed(
    pick: Callable[[Candidates, int], Tensor], bad: float
) -> None:
    scores = torch.tensor([[9.0, bad, 3.0]])
    allowed = torch.tensor([[False, True, True]])
    assert pick(Candidates.scored(scores, allowed), 1).unique().tolist() == [2]
    alone = torch.tensor([[False, True, False]])
    assert pick(Candidates.scored(scores, alone), 1).unique().tolist() == [1]


def best_by_chance(candidates: Candidates, count: int) -> Tensor:
    """One of the allowed candidates of each subproblem, drawn evenly."""
    chance = torch.rand_like(candidates.gain)
    return torch.where(candidates.allowed, chance, -1.0).argmax(1, keepdim=True)


@pytest.fixture
def at_random(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Adds the heuristic "random"; the shapes ``D x U`` of what it was asked."""
    torch.manual_seed(0)
    asked: list[tuple[int, ...]] = []

    def watched(candidates: Candidates, count: int) -> Tensor:
        asked.append(tuple(candidates.allowed.shape))
        return best_by_chance(candidates, count)

    monkeypatch.setitem(HEURISTICS, "random", watched)
    return asked


ROOM = InputSplitRoom(64, 1 << 28, MemoryBudget())


def random_settings() -> Any:
    branching = BranchingSettings(method="random", intervals="random", inputs="random")
    return replace(QUICK, branching=branching)


def test_relus_are_split_by_a_new_heuristic(
    at_random: list[tuple[int, ...]], make_case: Any, make_mlp: Any
) -> None:
    case = make_case(make_mlp(2), 12, 2, NUDGES)
    check_against_oracle(case, run(case, random_settings()))
    assert len(at_random) > 3


def test_inputs_are_split_by_a_new_heuristic(
    at_random: list[tuple[int, ...]], make_case: Any, make_mlp: Any
) -> None:
    case = make_case(make_mlp(3, 3), 8, 3, (1.0, 0.2, -0.2))
    query = query_of(case)
    replay = by_graph(query.spec, query.graph)
    found = split_inputs(query, random_settings(), ROOM, replay, perf_counter)
    check_against_oracle(case, in_order(found, len(case.box)))
    assert {shape[1] for shape in at_random} == {3}


def waves() -> Graph:
    """``tanh(x) - 0.6 x + 0.5 tanh(y)``."""
    builder = GraphBuilder((2,))
    both = builder.add(Concat(0), builder.add(Elementwise("tanh"), 0), 0)
    builder.add(Linear(torch.tensor([[1.0, 0.5, -0.6, 0.0]])), both)
    return builder.build()


def test_intervals_are_split_by_a_new_heuristic(at_random: list[tuple[int, ...]]) -> None:
    graph, box = waves(), Box(-2 * torch.ones(3, 2), 2 * torch.ones(3, 2))
    x = torch.linspace(-2, 2, 4001)
    least = graph(torch.stack([x, torch.full_like(x, -2)], 1)).min()
    offsets = torch.tensor([[0.05], [-0.05], [-0.3]]) - least
    case = Asked(graph, box, Specification(torch.ones(3, 1, 1), offsets))
    query = query_of(case)
    replay = by_graph(query.spec, query.graph)
    found = in_order(split_intervals(query, random_settings(), replay, perf_counter), 3)
    kinds = [one.status for one in found]
    assert kinds == [Status.VERIFIED, Status.FALSIFIED, Status.FALSIFIED]
    assert found[0].bound is not None
    assert 0 < found[0].bound <= 0.05 + 1e-4
    assert found[0].subproblems > 3
    assert {shape[1] for shape in at_random} == {2}


def test_a_name_that_is_not_registered_is_refused() -> None:
    with pytest.raises(ValueError, match="'gain', 'babsr', 'kfsb', 'fsb'"):
        BranchingSettings(inputs="random")


def test_the_page_about_it_shows_this_code() -> None:
    page = (ROOT / "docs" / "extending" / "branching-heuristic.md").read_text(encoding="utf-8")
    assert textwrap.indent(inspect.getsource(best_by_chance), "    ") in page
    assert 'BranchingSettings(method="random", intervals="random", inputs="random")' in page
