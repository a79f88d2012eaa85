"""The search within its limits: seconds, domains, memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.searching import (
    NUDGES,
    QUICK,
    Instances,
    Watch,
    charged,
    check_against_oracle,
    run,
    search,
    slowly,
    ticking,
)
from verify_pipeline.bounds import OptimiseSettings, optimise
from verify_pipeline.branching.evaluate import bounder as bounding_module
from verify_pipeline.branching.evaluate.bounder import Bounded, Bounder
from verify_pipeline.branching.improve import cutoff_on_box as cutoff_module
from verify_pipeline.branching.improve import optimise_at_root as root_module
from verify_pipeline.branching.improve.cutoff_on_box import BoxCutoff
from verify_pipeline.branching.limits import cost
from verify_pipeline.branching.search import relu_split as relu_module
from verify_pipeline.problem import Reason, Status


def test_a_deadline_ends_an_instance_and_leaves_the_others() -> None:
    instances = Instances(4, [1e-3, 100.0, 1e-3])
    seconds = torch.tensor([0.5, 5.0, 1e6])
    found = run(instances, seconds=seconds, clock=ticking(0.0625))
    assert found[0].status is Status.UNKNOWN
    assert found[0].reason is Reason.TIMEOUT
    assert 0.5 <= charged(found[0]) <= 0.75
    assert found[1].status is Status.VERIFIED
    assert found[2].status is Status.VERIFIED


def test_the_seconds_of_all_instances_add_up_to_the_time_that_passed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watch = Watch()
    for owner, name, seconds in (
        (Bounder, "bound", 1.0),
        (Bounder, "candidates", 2.0),
        (relu_module, "choose", 4.0),
        (relu_module, "descend", 8.0),
    ):
        monkeypatch.setattr(owner, name, slowly(watch, seconds, getattr(owner, name)))
    found = run(Instances(4, [1e-2, -1e-2, 5.0, 1e-3]), clock=watch)
    assert watch.now > 15
    assert sum(map(charged, found)) == pytest.approx(watch.now)


def test_nobody_pays_for_what_is_done_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the box is bounded for the first instance alone, which takes an hour each time."""
    watch, honest = Watch(), BoxCutoff._near

    def of_the_first(self: BoxCutoff, bounded: Bounded, left: Tensor) -> Tensor:
        chosen = honest(self, bounded, left)
        return chosen[bounded.domains.open_row[chosen] == 0]

    monkeypatch.setattr(cutoff_module, "pairs", lambda graph: 1)
    monkeypatch.setattr(BoxCutoff, "_near", of_the_first)
    monkeypatch.setattr(Bounder, "bound", slowly(watch, 1.0, Bounder.bound))
    monkeypatch.setattr(BoxCutoff, "_tried", slowly(watch, 3600.0, BoxCutoff._tried))
    starving, other = run(Instances(5, [1e-3, 1e-3]), seconds=1e5, clock=watch)
    assert charged(starving) > 3600.0
    assert charged(other) < 3600.0
    assert charged(starving) + charged(other) == pytest.approx(watch.now)


def test_the_budget_of_domains_is_kept() -> None:
    hard, easy = run(Instances(8, [1e-5, 100.0]), replace(QUICK, max_domains=16, batch=4))
    assert hard.reason is Reason.BUDGET
    assert 16 < hard.subproblems <= 16 + 8
    assert easy.status is Status.VERIFIED


def test_the_budget_of_memory_gives_up_the_greediest_instance() -> None:
    none = OptimiseSettings(iterations=0)
    settings = replace(QUICK, max_bytes=1000, root=none, domain=none)
    [hard] = run(Instances(8, [1e-5]), settings)
    assert hard.reason is Reason.BUDGET


def test_what_is_found_comes_before_the_search_goes_on() -> None:
    instances = Instances(5, [-1.0, 1e-3])
    first = next(search(instances))
    assert (first.place, first.status) == (0, Status.FALSIFIED)


ACCELERATOR = torch.OutOfMemoryError("too much")
PROCESSOR = RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")


def memory_for(
    count: int, monkeypatch: pytest.MonkeyPatch, failure: Exception = PROCESSOR
) -> list[int]:
    """More than ``count`` domains at once do not fit; returns the sizes of batches that did."""
    honest, sizes = optimise, []

    def limited(*args: Any, **kwargs: Any) -> Any:
        if len(args[1]) > count:
            raise failure
        sizes.append(len(args[1]))
        return honest(*args, **kwargs)

    monkeypatch.setattr(bounding_module, "optimise", limited)
    return sizes


@pytest.mark.parametrize("failure", [ACCELERATOR, PROCESSOR])
def test_where_memory_ends_batches_become_smaller(
    failure: Exception, make_case: Any, make_conv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(make_conv(1), 12, 1, NUDGES)
    sizes = memory_for(5, monkeypatch, failure)
    check_against_oracle(case, run(case))
    assert max(sizes) > 1


def test_an_instance_too_large_alone_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_for(1, monkeypatch)  # a root fits, two children do not
    hard, easy = run(Instances(3, [1e-3, 100.0]))
    assert hard.reason is Reason.MEMORY
    assert easy.status is Status.VERIFIED


def test_without_room_for_better_bounds_of_the_neurons_the_search_goes_on(
    make_case: Any, make_conv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "OF_A_DOMAIN", 0.0)
    tried = []

    def fails(*args: Any) -> Any:
        tried.append(args)
        raise PROCESSOR

    monkeypatch.setattr(root_module, "optimise_intermediate", fails)
    case = make_case(make_conv(1), 24, 1, NUDGES)
    check_against_oracle(case, run(case))
    assert tried


def test_other_failures_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_for(0, monkeypatch, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(Instances(3, [1e-3, 100.0]))
