"""Who is given up, by hand-computed shares of trees; and that it changes no verdict but UNKNOWN."""

import math
from dataclasses import replace

import pytest
import torch

from tests.branching.searching import QUICK, Instances, root_bounds, ticking
from verify_pipeline.branching.limits.bookkeeping import Found
from verify_pipeline.branching.limits.progress_estimate import ProgressEstimate
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search import portfolio
from verify_pipeline.branching.search.portfolio import search_in_turns
from verify_pipeline.branching.search.relu_split import search
from verify_pipeline.branching.tree.subproblems import Domains, Neurons, OpenRows
from verify_pipeline.problem import Reason, Status


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


def test_open_shares_halve_with_every_split_and_are_of_an_instances_trees_together() -> None:
    neurons = Neurons((2,), (1,), ((3,),))
    # instance 0 has two rows open, instance 1 one, instance 2 none
    open_rows = torch.tensor([[True, True], [False, True], [False, False]])
    open_rows = OpenRows.of(neurons, torch.ones(3, 3, dtype=torch.bool), open_rows)
    splits = torch.tensor([[1, 0, 0], [-1, 1, 0], [0, 0, 0], [1, 1, -1]], dtype=torch.int8)
    zeros = torch.zeros(4, 3)
    domains = Domains(torch.tensor([0, 0, 2, 1]), zeros[:, 0], splits, zeros, zeros, zeros, zeros)
    # row 0: 1/2 + 1/4, row 1: 1/8, of two; instance 1: all of it
    assert open_rows.open_share(domains, 3).tolist() == [0.4375, 1.0, 0.0]


def test_members_of_a_group_may_get_all_of_its_seconds() -> None:
    deadlines = Deadlines(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([5, 3, 5]))
    assert deadlines.shared().tolist() == [5.0, 2.0, 5.0]


def _searched(give_up: float | None, seconds: float) -> list[Found]:
    """A function that needs many splits beside one that needs none, by a clock of 0.25 s."""
    instances = Instances(6, [1e-3, 100.0])
    found = search(
        instances.graph,
        instances.box,
        instances.spec,
        root_bounds(instances.graph, instances.box),
        replace(QUICK, give_up=give_up),
        Deadlines.alone(torch.full((2,), seconds)),
        clock=ticking(0.25),
    )
    return sorted(found, key=lambda f: f.instance)


def test_a_search_without_hope_ends_after_a_share_of_its_time() -> None:
    hard, easy = _searched(1e-9, 10.0)
    assert (hard.status, hard.reason) == (Status.UNKNOWN, Reason.GIVEN_UP)
    assert 1.5 <= hard.seconds <= 2.0
    assert easy.status is Status.VERIFIED


def test_a_search_with_hope_goes_on() -> None:
    patient, _ = _searched(None, 1e6)
    hopeful, _ = _searched(1e9, 1e6)
    assert patient.status is hopeful.status is Status.VERIFIED
    assert patient.domains == hopeful.domains


@pytest.mark.parametrize(("give_up", "reason"), [(1e-9, Reason.GIVEN_UP), (None, Reason.TIMEOUT)])
def test_cutting_into_cells_ends_without_hope_too(
    give_up: float | None, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portfolio, "FIRST", 1)
    monkeypatch.setattr(portfolio, "FIRST_CELLS", 1e-9)
    monkeypatch.setattr(portfolio, "LATE", 1)
    monkeypatch.setattr(portfolio, "BETTER", 0.01)  # nothing looks better here: cells go first
    instances = Instances(12, [1e-3])
    (found,) = search_in_turns(
        instances.graph,
        instances.box,
        instances.spec,
        root_bounds(instances.graph, instances.box),
        replace(QUICK, give_up=give_up),
        Deadlines.alone(torch.full((1,), 20.0)),
        clock=ticking(0.25),
    )
    assert (found.status, found.reason) == (Status.UNKNOWN, reason)
    early = found.seconds < 8.0
    assert early is (reason is Reason.GIVEN_UP)
