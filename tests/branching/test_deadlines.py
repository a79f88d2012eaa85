"""Deadlines by clocks that the tests turn: nobody takes a tenth more than it may."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.branching.searching import QUICK, Instances, root_bounds
from verify_pipeline.branching.evaluate.bounder import Bounded, Bounder
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.relu_split import search
from verify_pipeline.problem import Reason, Status


class Watch:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return self.now


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
