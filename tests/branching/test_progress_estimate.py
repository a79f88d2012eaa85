"""Who is given up, by hand-computed shares of trees; and that it changes no verdict but UNKNOWN."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.branching.searching import (
    QUICK,
    Instances,
    by_graph,
    in_order,
    query_of,
    search,
    ticking,
)
from verify_pipeline.branching.config.search_settings import EarlySplitSettings
from verify_pipeline.branching.limits.progress_estimate import ProgressEstimate, ProgressRate
from verify_pipeline.branching.search import portfolio
from verify_pipeline.branching.search.portfolio import search_in_turns
from verify_pipeline.problem import Decision, Reason, Status


def _column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def _hopeless(
    prospects: ProgressEstimate, seconds: torch.Tensor, proved: torch.Tensor
) -> list[int]:
    return prospects.hopeless(
        seconds, torch.ones_like(seconds, dtype=torch.bool), lambda: 1 - proved
    )


def _is_looked_at(prospects: ProgressEstimate, *seconds: float) -> bool:
    """Whether the shares of trees are asked for."""
    asked: list[bool] = []

    def nothing_open() -> torch.Tensor:
        asked.append(True)
        return torch.zeros(len(seconds), dtype=torch.float64)

    going = torch.ones(len(seconds), dtype=torch.bool)
    assert prospects.hopeless(_column(*seconds), going, nothing_open) == []
    return bool(asked)


def test_before_there_is_a_past_the_rate_is_that_of_all_the_time() -> None:
    prospects = ProgressEstimate(torch.full((4,), 10.0, dtype=torch.float64), 12.0)
    proved = _column(0.0, 0.02, 0.5, 0.0)
    seconds = _column(1.4, 2.0, 2.0, 2.0)
    # the first is too young; 0.98 · 2 / 0.02 = 98 s and 0.5 · 2 / 0.5 = 2 s are not 118 s; never
    assert _hopeless(prospects, seconds, proved) == [3]


def test_what_counts_is_how_the_share_rose_over_the_last_half() -> None:
    prospects = ProgressEstimate(_column(100.0, 100.0), 3.0)
    # quickly half of it, then one of them stands still and the other does not
    for look in range(7):
        seconds = 11.0 * 1.11**look
        proved = _column(0.5, 0.5 + 0.02 * look)
        assert _hopeless(prospects, _column(seconds, seconds), proved) == []
    # 12 s after 11 s: 0.498 · 12 / 0.002 s are left of the first, 0.35 · 12 / 0.15 of the second
    assert _hopeless(prospects, _column(23, 23), _column(0.502, 0.65)) == [0]


def test_nobody_is_given_up_where_that_was_not_asked_for() -> None:
    assert not _is_looked_at(ProgressEstimate(_column(1.0), math.inf), 1e9)


def test_an_instance_is_looked_at_again_after_a_tenth_more_seconds() -> None:
    prospects = ProgressEstimate(_column(10.0, 100.0), 2.0)
    assert not _is_looked_at(prospects, 0.19, 0.19)
    assert _is_looked_at(prospects, 2.0, 0.0)
    assert not _is_looked_at(prospects, 2.1, 0.0)
    assert _is_looked_at(prospects, 2.3, 0.0)


def test_who_has_ended_is_not_looked_at() -> None:
    prospects, nothing = ProgressEstimate(_column(10.0, 10.0), 1.0), _column(1.0, 1.0)
    going = torch.tensor([False, True])
    assert prospects.hopeless(_column(9.0, 9.0), going, lambda: nothing) == [1]
    assert prospects.hopeless(_column(90.0, 0.0), going, lambda: nothing) == []


def _searched(give_up: float | None, seconds: float) -> list[Decision]:
    """A function that needs many splits beside one that needs none, by a clock of 1/16 s."""
    settings = replace(QUICK, give_up=give_up)
    return in_order(search(Instances(6, [1e-3, 100.0]), settings, seconds, ticking(0.0625)), 2)


def test_a_search_without_hope_ends_after_a_share_of_its_time() -> None:
    hard, easy = _searched(1e-9, 10.0)
    assert (hard.status, hard.reason) == (Status.UNKNOWN, Reason.GIVEN_UP)
    assert hard.seconds is not None
    assert 1.5 <= hard.seconds <= 2.0
    assert easy.status is Status.VERIFIED


def test_a_search_with_hope_goes_on() -> None:
    patient, _ = _searched(None, 1e6)
    hopeful, _ = _searched(1e9, 1e6)
    assert patient.status is hopeful.status is Status.VERIFIED
    assert patient.subproblems == hopeful.subproblems


@pytest.mark.parametrize(("give_up", "reason"), [(1e-9, Reason.GIVEN_UP), (None, Reason.TIMEOUT)])
def test_cutting_into_cells_ends_without_hope_too(
    give_up: float | None, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolio, "in_domains", lambda counts, *_: torch.ones(len(counts)))
    # cells take nearly all of the work
    early = EarlySplitSettings(first=1, first_parts=1, late=1, better=0.01)
    settings = replace(QUICK, give_up=give_up, early=early)
    query = query_of(Instances(12, [1e-3]), 20.0)
    replay = by_graph(query.spec, query.graph)
    (found,) = search_in_turns(query, settings, replay, ticking(0.0625))
    assert (found.status, found.reason) == (Status.UNKNOWN, reason)
    assert found.seconds is not None
    early_end = found.seconds < 8.0
    assert early_end is (reason is Reason.GIVEN_UP)


def test_a_rate_is_that_of_the_last_half_of_the_work() -> None:
    rate = ProgressRate()
    assert rate.expected == math.inf
    rate.note(100.0, 0.6)
    assert rate.expected == pytest.approx(150.0)
    rate.note(200.0, 0.5)  # 0.1 since 100
    assert rate.expected == pytest.approx(500.0)
    rate.note(300.0, 0.6)  # more is open than at 100
    assert rate.expected == math.inf
