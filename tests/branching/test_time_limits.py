"""Deadlines by clocks that the tests turn: nobody takes a tenth more than it may."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.branching.searching import Instances, in_order, search
from verify_pipeline.branching.evaluate.bounder import Bounded, Bounder
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.problem import Reason, Status


@pytest.mark.parametrize("seconds", [3.0, 5.0])
@pytest.mark.parametrize("count", [1, 4])
def test_no_instance_takes_a_tenth_more_than_it_may(
    seconds: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each domain takes 0.05 s, so that a full batch would take 12 s."""
    now, honest = [0.0], Bounder.bound

    def slow(self: Bounder, domains: Any, settings: Any) -> Bounded:
        now[0] += 0.05 * len(domains)
        return honest(self, domains, settings)

    monkeypatch.setattr(Bounder, "bound", slow)
    instances = Instances(8, [1e-4] * count)
    found = in_order(search(instances, seconds=seconds, clock=lambda: now[0]), count)
    late = [f for f in found if f.status is not Status.VERIFIED]
    assert late
    assert all(f.reason is Reason.TIMEOUT for f in late)
    taken = [f.seconds or 0.0 for f in found]
    assert max(taken) <= 1.1 * seconds
    assert sum(taken) == pytest.approx(now[0])


def test_members_of_a_group_may_get_all_of_its_seconds() -> None:
    deadlines = Deadlines(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([5, 3, 5]))
    assert deadlines.shared().tolist() == [5.0, 2.0, 5.0]


def test_what_is_left_goes_to_open_members_in_equal_parts() -> None:
    deadlines = Deadlines(torch.full((4,), 10.0), torch.tensor([0, 0, 1, 0]))
    charged = torch.tensor([4.0, 0.0, 0.0, 0.0])
    open_ = torch.tensor([False, True, True, True])
    assert deadlines.after(0, charged, open_).seconds.tolist() == [10.0, 13.0, 10.0, 13.0]
    # more than it had: nothing is taken from the others
    assert deadlines.after(0, 20 + charged, open_).seconds.tolist() == [10.0] * 4
    nobody = torch.tensor([False, False, True, False])
    assert deadlines.after(0, charged, nobody).seconds.tolist() == [10.0] * 4


def test_something_stays_of_what_is_used_up() -> None:
    less = Deadlines.alone(torch.tensor([1.0, 3.0])).less(2.0).seconds
    assert less[1] == 1.0
    assert 0 < less[0] < 1e-3
