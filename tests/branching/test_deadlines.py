"""Deadlines by clocks that the tests turn: nobody takes a tenth more than it may."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.branching.searching import QUICK, Instances, root_bounds
from verify_pipeline.branching import affordable
from verify_pipeline.branching.bounding import Bounded, Bounder
from verify_pipeline.branching.cells import AFFORDABLE_SECONDS, search_with_cells
from verify_pipeline.branching.deadlines import STEP_SECONDS, STEP_SHARE, Deadlines
from verify_pipeline.branching.search import search
from verify_pipeline.problem import Reason, Status


class Watch:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now


def test_a_step_is_a_share_of_what_most_have() -> None:
    alone = Deadlines.alone(torch.tensor([1e-6, 2.0, 3.0]))
    assert alone.step_seconds() == pytest.approx(2.0 * STEP_SHARE)
    assert Deadlines.alone(torch.tensor([60.0])).step_seconds() == STEP_SECONDS
    together = Deadlines(torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([0, 0, 0, 0]))
    assert together.step_seconds() == pytest.approx(4.0 * STEP_SHARE)


@pytest.mark.parametrize("seconds", [3.0, 5.0])
@pytest.mark.parametrize("count", [1, 4])
def test_no_instance_takes_a_tenth_more_than_it_may(
    seconds: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each domain takes 0.05 s, so that a full batch would take 12 s."""
    watch, honest = Watch(), Bounder.bound

    def slow(self: Bounder, domains: Any, settings: Any) -> Bounded:
        watch.now += 0.05 * len(domains)
        return honest(self, domains, settings)

    monkeypatch.setattr(Bounder, "bound", slow)
    instances = Instances(8, [1e-4] * count)
    root = root_bounds(instances.graph, instances.box)
    deadlines = Deadlines.alone(torch.full((count,), seconds))
    found = list(
        search(instances.graph, instances.box, instances.spec, root, QUICK, deadlines, None, watch)
    )
    late = [f for f in found if f.status is not Status.VERIFIED]
    assert late
    assert all(f.reason is Reason.TIMEOUT for f in late)
    assert max(f.seconds for f in found) <= 1.1 * seconds
    assert sum(f.seconds for f in found) == pytest.approx(watch.now)


def test_finding_out_that_cells_cost_too_much_costs_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch, asked = Watch(), []

    def endless(*arguments: Any) -> Any:
        has_time = arguments[4]
        while has_time():
            watch.now += 0.02
            asked.append(watch.now)
        return arguments[2]

    monkeypatch.setattr(affordable, "crown_intermediate", endless)
    instances = Instances(2, [1e-3])
    root = root_bounds(instances.graph, instances.box)
    deadlines = Deadlines.alone(torch.tensor([600.0]))
    list(
        search_with_cells(
            instances.graph, instances.box, instances.spec, root, QUICK, deadlines, clock=watch
        )
    )
    assert asked
    assert asked[-1] <= AFFORDABLE_SECONDS + 0.02
