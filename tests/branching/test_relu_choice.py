"""Which of several candidates a domain is split at: by what both of its children gain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.searching import QUICK, exactly, roots_of
from verify_pipeline.branching.config.search_settings import BranchingSettings
from verify_pipeline.branching.evaluate import relu_choice
from verify_pipeline.branching.evaluate.bounder import DomainProblem
from verify_pipeline.branching.evaluate.relu_choice import best_candidate, choose, lifts_both


def test_what_both_children_gain_decides() -> None:
    columns = torch.tensor([[7, 4, 9]])
    before = torch.tensor([-4.0])
    even, uneven, closing = [-2.0, -2.0], [-3.9, 0.0], [-2.8, 5.0]  # 1/4, 1/40, 3/10 of 1
    assert best_candidate(torch.tensor([[even, uneven, closing]]), columns, before).tolist() == [9]
    assert best_candidate(torch.tensor([[even, uneven, uneven]]), columns, before).tolist() == [7]
    # what a child is above zero does not count, and where one gains nothing the other decides
    higher, idle, worse = [-2.0, 9.0], [-4.0, -1.0], [-5.0, -2.0]
    assert best_candidate(torch.tensor([[idle, worse, higher]]), columns, before).tolist() == [9]
    assert best_candidate(torch.tensor([[worse, idle, worse]]), columns, before).tolist() == [4]


def test_bounds_that_are_infinite_are_no_gain() -> None:
    lower = torch.tensor([[[-torch.inf, -1.0], [-3.0, -3.0]]] * 2)
    before = torch.tensor([-4.0, -torch.inf])
    columns = torch.tensor([[7, 4], [7, 4]])
    assert best_candidate(lower, columns, before)[0] == 4


def test_both_children_are_lifted_by_a_thousandth_of_what_is_lacking_or_more() -> None:
    before = torch.tensor([-4.0, -4.0, -4.0, -4.0])
    lower = torch.tensor(
        [
            [[-3.99, -3.99], [0.0, -4.0]],  # 1/400 each
            [[-3.999, -3.0], [0.0, -4.0]],  # 1/4000, and nothing
            [[-4.0, 2.0], [-torch.inf, -1.0]],
            [[torch.nan, -1.0], [torch.nan, torch.nan]],
        ]
    )
    assert lifts_both(lower, before).tolist() == [True, False, False, False]


@pytest.mark.parametrize("method", ["babsr", "kfsb", "fsb"])
def test_an_undecided_neuron_is_chosen_and_its_price_is_told(
    method: str, make_case: Any, make_mlp: Any
) -> None:
    bounder, roots = roots_of(exactly(make_case(make_mlp(1), 8, 1, (0.1,))))
    domains = roots[bounder.open_rows.undecided(roots).any(1)]
    branching = BranchingSettings(method=method, candidates=2, lookahead=None)
    columns, steps = choose(bounder, domains, replace(QUICK, branching=branching), 5)
    undecided = bounder.open_rows.undecided(domains)
    assert bool(undecided.gather(1, columns.unsqueeze(1)).all())
    layers = len(bounder.open_rows.neurons.places)
    picked = {"babsr": 0, "kfsb": 4, "fsb": 4 * layers}[method]
    assert steps.tolist() == [2.0 * picked] * len(domains)


def test_a_second_look_is_taken_where_the_first_bounds_lift_no_child(
    make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounder, domains = roots_of(exactly(make_case(make_mlp(1), 8, 1, (0.1,))))
    assert len(domains) > 2
    first = torch.arange(len(domains)) == 0

    def all_but_the_first(lower: Tensor, before: Tensor) -> Tensor:
        return ~first

    looked: list[int] = []
    honest = relu_choice._looked_ahead

    def watched(ascent: Any, view: DomainProblem) -> Tensor:
        looked.append(len(view))
        return honest(ascent, view)

    monkeypatch.setattr(relu_choice, "lifts_both", all_but_the_first)
    monkeypatch.setattr(relu_choice, "_looked_ahead", watched)
    branching = BranchingSettings(candidates=1, wider=2)
    _, steps = choose(bounder, domains, replace(QUICK, branching=branching), 1000)
    assert branching.lookahead is not None
    assert looked == [2 * 4]  # both children of the first domain's two candidates by each score
    again = 2 * 4 * (branching.lookahead.iterations + 1)
    assert steps.tolist() == [4.0 + again] + [4.0] * (len(domains) - 1)
