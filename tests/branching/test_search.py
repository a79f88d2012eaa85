"""The search: sound and complete against the mixed-integer oracle, fair, punctual, honest."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    crown_intermediate,
    interval_bounds,
)
from verify_pipeline.branching import bounding as bounding_module
from verify_pipeline.branching import tightening as tightening_module
from verify_pipeline.branching.accounts import Found
from verify_pipeline.branching.deadlines import Deadlines
from verify_pipeline.branching.domains import Domains
from verify_pipeline.branching.narrowing import Narrowing
from verify_pipeline.branching.nogoods import Nogoods
from verify_pipeline.branching.search import search
from verify_pipeline.branching.settings import BranchingSettings, SearchSettings
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Elementwise, Linear, Relu
from verify_pipeline.problem import Box, Reason, Specification, Status

QUICK = SearchSettings(
    batch=256,
    root=OptimiseSettings(iterations=10),
    domain=OptimiseSettings(iterations=5, lr_alpha=0.1, lr_beta=0.1),
)
ORACLE_TOLERANCE = 1e-6
NUDGES = (1.0, 1.0, 0.05, -0.05, 1e-3, -1e-3)


def root_bounds(graph: Graph, box: Box) -> NodeBounds:
    graph64, box64 = graph.to(torch.float64), box.to(torch.float64)
    return crown_intermediate(graph64, box64, interval_bounds(graph64, box64), MemoryBudget())


def run(
    case: Any, settings: SearchSettings = QUICK, seconds: float = 1e6, **more: Any
) -> list[Found]:
    """All instances' ends in their own order; each comes exactly once."""
    deadlines = Deadlines.alone(torch.full((len(case.box),), seconds))
    root = root_bounds(case.graph, case.box)
    found = list(search(case.graph, case.box, case.spec, root, settings, deadlines, **more))
    assert sorted(f.instance for f in found) == list(range(len(case.box)))
    return sorted(found, key=lambda f: f.instance)


def check_against_oracle(case: Any, found: list[Found]) -> None:
    graph64, spec64 = case.graph.to(torch.float64), case.spec.to(torch.float64)
    for n, end in enumerate(found):
        exact = float(case.exact[n])
        if end.status is Status.VERIFIED:
            assert end.bound is not None
            assert 0 < end.bound <= exact + ORACLE_TOLERANCE
        else:
            assert end.status is Status.FALSIFIED, f"{n}: {end.reason} at margin {exact}"
            assert exact <= ORACLE_TOLERANCE
            assert end.point is not None
            assert end.point.dtype is torch.float32
            point = end.point.unsqueeze(0)
            assert point.device == case.box.lower.device
            assert bool(case.box[n : n + 1].contains(point).all())
            assert float(spec64[n : n + 1].values(graph64(point.double())).min()) <= 0


@pytest.mark.parametrize("seed", range(8))
def test_mlps_get_the_oracles_verdicts(seed: int, make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(seed), 24, seed, NUDGES)
    check_against_oracle(case, run(case))


@pytest.mark.parametrize("seed", range(6))
def test_convolutional_networks_get_the_oracles_verdicts(
    seed: int, make_case: Any, make_conv: Any
) -> None:
    case = make_case(make_conv(seed), 18, seed, NUDGES)
    check_against_oracle(case, run(case))


def test_the_instances_are_of_both_kinds_and_need_splits(make_case: Any, make_conv: Any) -> None:
    found = run(make_case(make_conv(1), 24, 1, NUDGES)) + run(
        make_case(make_conv(2), 24, 2, NUDGES)
    )
    kinds = [f.status for f in found]
    assert 12 <= kinds.count(Status.VERIFIED) <= 36
    assert any(f.domains > 20 for f in found if f.status is Status.VERIFIED)
    assert any(f.domains > 2 for f in found if f.status is Status.FALSIFIED)


@pytest.mark.parametrize("method", ["babsr", "fsb", "kfsb"])
def test_every_way_of_branching_decides_alike(
    method: Literal["babsr", "fsb", "kfsb"], make_case: Any, make_conv: Any
) -> None:
    case = make_case(make_conv(1), 12, 1, NUDGES)
    branching = BranchingSettings(method=method)
    check_against_oracle(case, run(case, replace(QUICK, branching=branching)))


def test_nogoods_close_domains_and_change_no_verdict(
    make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, closed, forced = Nogoods.follow, [], []

    def watched(self: Nogoods, domains: Domains) -> tuple[Domains, Tensor]:
        found, known = honest(self, domains)
        closed.append(int(known.sum()))
        forced.append(int((found.splits != domains.splits).sum()))
        return found, known

    monkeypatch.setattr(Nogoods, "follow", watched)
    # domains with bounds of their own teach no nogoods
    monkeypatch.setattr(Narrowing, "narrowed", lambda self, bounder, domains: domains)
    hasty = replace(QUICK, domain=OptimiseSettings(iterations=1), descent=0)
    case = make_case(make_mlp(3), 24, 3, NUDGES)
    check_against_oracle(case, run(case, hasty))
    assert sum(closed) > 0
    assert sum(forced) > 0


def test_leaves_decide_where_no_ascent_helps(make_case: Any, make_mlp: Any) -> None:
    none = OptimiseSettings(iterations=0)
    case = make_case(make_mlp(3, 3, (5, 5)), 12, 3, NUDGES)
    check_against_oracle(case, run(case, replace(QUICK, root=none, domain=none)))


def test_optimised_bounds_of_the_neurons_change_no_verdict(
    make_case: Any, make_conv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tightening_module, "FUNCTIONAL_SHARE", 0.0)  # at once, for everyone
    chosen = []
    honest = tightening_module.optimise_intermediate

    def watched(*args: Any) -> Any:
        chosen.append(len(args[1]))
        return honest(*args)

    monkeypatch.setattr(tightening_module, "optimise_intermediate", watched)
    case = make_case(make_conv(1), 24, 1, NUDGES)
    check_against_oracle(case, run(case))
    assert sum(chosen) > 3


def test_a_batch_of_one_decides_alike(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(2, 3, (6,)), 8, 2, NUDGES)
    check_against_oracle(case, run(case, replace(QUICK, batch=1)))


def test_instances_do_not_change_each_other(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(4), 12, 4, NUDGES)
    together = run(case)
    for n in (0, 5, 11):
        one = slice(n, n + 1)
        alone = replace(case, box=case.box[one], spec=case.spec[one], exact=case.exact[one])
        end = run(alone)[0]
        assert end.status is together[n].status
        if end.bound is not None and end.status is Status.VERIFIED:
            assert end.bound == pytest.approx(together[n].bound, rel=1e-3)


def test_too_optimistic_float32_bounds_verify_nothing_wrongly(
    make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = bounding_module.optimise

    def lie(*args: Any, **kwargs: Any) -> Any:
        margins, multipliers = honest(*args, **kwargs)
        return replace(margins, lower=margins.lower.abs() + 1), multipliers

    monkeypatch.setattr(bounding_module, "optimise", lie)
    case = make_case(make_mlp(5, 3, (6, 5)), 16, 5, NUDGES)
    check_against_oracle(case, run(case))


def test_bounds_that_are_not_numbers_are_no_good_news(
    make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = bounding_module.optimise

    def nothing(*args: Any, **kwargs: Any) -> Any:
        margins, multipliers = honest(*args, **kwargs)
        return replace(margins, lower=torch.full_like(margins.lower, math.nan)), multipliers

    monkeypatch.setattr(bounding_module, "optimise", nothing)
    case = make_case(make_mlp(6, 3, (5,)), 8, 6, NUDGES)
    check_against_oracle(case, run(case))


def ticking(step: float) -> Callable[[], float]:
    """A clock that goes on by ``step`` seconds whenever it is read."""
    ticks = itertools.count()
    return lambda: next(ticks) * step


def nothing_in_disguise(inputs: int) -> Graph:
    """f(x) = Σ 2 relu(x_i) - relu(2 x_i) = 0, but each i loses 1 until both its ReLUs are split."""
    eye = torch.eye(inputs)
    builder = GraphBuilder((inputs,))
    active = builder.add(Relu(), builder.add(Linear(torch.cat([eye, 2 * eye])), 0))
    builder.add(Linear(torch.tensor([[2.0] * inputs + [-1.0] * inputs])), active)
    return builder.build()


class Instances:
    """The function that is 0, over [-1, 1] in each input, plus an offset."""

    def __init__(self, inputs: int, offsets: list[float]) -> None:
        count = len(offsets)
        self.graph = nothing_in_disguise(inputs)
        self.box = Box(-torch.ones(count, inputs), torch.ones(count, inputs))
        self.spec = Specification(torch.ones(count, 1, 1), torch.tensor(offsets).unsqueeze(1))


def test_a_tie_is_not_verified() -> None:
    [end] = run(Instances(2, [0.0]))
    assert end.status is Status.FALSIFIED


def test_margins_on_either_side_of_a_tie_are_told_apart() -> None:
    above, below = run(Instances(3, [1e-4, -1e-4]))
    assert above.status is Status.VERIFIED
    assert above.bound == pytest.approx(1e-4, rel=1e-3)
    assert below.status is Status.FALSIFIED


def test_a_deadline_ends_an_instance_and_leaves_the_others() -> None:
    instances = Instances(6, [1e-3, 100.0, 1e-3])
    root = root_bounds(instances.graph, instances.box)
    deadlines = Deadlines.alone(torch.tensor([0.5, 5.0, 1e6]))
    found = {
        f.instance: f
        for f in search(
            instances.graph,
            instances.box,
            instances.spec,
            root,
            QUICK,
            deadlines,
            clock=ticking(0.25),
        )
    }
    assert found[0].status is Status.UNKNOWN
    assert found[0].reason is Reason.TIMEOUT
    assert 0.5 <= found[0].seconds <= 0.75
    assert found[1].status is Status.VERIFIED
    assert found[2].status is Status.VERIFIED


def test_the_seconds_of_all_instances_add_up_to_the_time_that_passed() -> None:
    step = 0.125
    reads = itertools.count()
    found = run(Instances(4, [1e-2, -1e-2, 5.0, 1e-3]), clock=lambda: next(reads) * step)
    batches = next(reads) / 2  # every batch reads the clock twice: at its beginning and its end
    assert sum(f.seconds for f in found) == pytest.approx(batches * step)


def test_the_budget_of_domains_is_kept() -> None:
    hard, easy = run(Instances(8, [1e-5, 100.0]), replace(QUICK, max_domains=16, batch=4))
    assert hard.reason is Reason.BUDGET
    assert 16 < hard.domains <= 16 + 8
    assert easy.status is Status.VERIFIED


def test_the_budget_of_memory_gives_up_the_greediest_instance() -> None:
    none = OptimiseSettings(iterations=0)
    settings = replace(QUICK, max_bytes=1000, root=none, domain=none)
    [hard] = run(Instances(8, [1e-5]), settings)
    assert hard.reason is Reason.BUDGET


def test_what_is_found_comes_before_the_search_goes_on() -> None:
    instances = Instances(5, [-1.0, 1e-3])
    root = root_bounds(instances.graph, instances.box)
    first = next(
        search(
            instances.graph,
            instances.box,
            instances.spec,
            root,
            QUICK,
            Deadlines.alone(torch.full((2,), 1e6)),
        )
    )
    assert (first.instance, first.status) == (0, Status.FALSIFIED)


def test_a_smooth_network_is_left_undecided_rather_than_guessed() -> None:
    builder = GraphBuilder((1,))  # relu(σ(x) - 0.5) minus itself, by two sigmoids
    twice = builder.add(Linear(torch.ones(2, 1)), 0)
    smooth = builder.add(Elementwise("sigmoid"), twice)
    shifted = builder.add(Linear(torch.eye(2), torch.tensor([-0.5, -0.5])), smooth)
    builder.add(Linear(torch.tensor([[1.0, -1.0]])), builder.add(Relu(), shifted))
    instances = Instances(1, [1e-3])
    instances.graph = builder.build()
    [end] = run(instances)
    assert end.status is Status.UNKNOWN
    assert end.reason is Reason.NOT_DECIDED


def test_bounds_that_are_not_finite_are_reported() -> None:
    instances = Instances(2, [1.0, 1.0])
    root = root_bounds(instances.graph, instances.box)
    root.upper[1][1, 0] = math.inf
    found = list(
        search(
            instances.graph,
            instances.box,
            instances.spec,
            root,
            QUICK,
            Deadlines.alone(torch.full((2,), 1e6)),
        )
    )
    ends = {f.instance: f for f in found}
    assert ends[1].reason is Reason.NOT_FINITE
    assert ends[0].status is Status.VERIFIED


def test_given_multipliers_are_where_the_search_starts(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(7), 12, 7, NUDGES)
    root = root_bounds(case.graph, case.box)
    alpha = {place: torch.full((12, 1, 8), 0.5) for place in (2, 4)}
    given = Deadlines.alone(torch.full((12,), 1e6))
    found = list(
        search(
            case.graph,
            case.box,
            case.spec,
            root,
            QUICK,
            given,
            start=bounding_module.Multipliers(alpha, {}),
        )
    )
    check_against_oracle(case, sorted(found, key=lambda f: f.instance))


def test_no_instance_is_no_work() -> None:
    assert run(Instances(2, [])) == []


def test_an_affine_network_is_decided_by_its_corners() -> None:
    instances = Instances(2, [0.5, 2.5])
    builder = GraphBuilder((2,))
    builder.add(Linear(torch.ones(1, 2)), 0)  # the sum of two numbers in [-1, 1], at least -2
    instances.graph = builder.build()
    below, above = run(instances)
    assert below.status is Status.FALSIFIED
    assert above.status is Status.VERIFIED
    assert above.bound == pytest.approx(0.5)


def test_stable_networks_need_no_split() -> None:
    builder = GraphBuilder((1,))
    active = builder.add(Relu(), builder.add(Linear(torch.ones(1, 1), torch.tensor([2.0])), 0))
    builder.add(Linear(torch.ones(1, 1)), active)  # x + 2 >= 1
    instances = Instances(1, [0.0, -1.5])
    instances.graph = builder.build()
    above, below = run(instances)
    assert above.status is Status.VERIFIED
    assert below.status is Status.FALSIFIED


ACCELERATOR = torch.OutOfMemoryError("too much")
PROCESSOR = RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")


def memory_for(
    count: int, monkeypatch: pytest.MonkeyPatch, failure: Exception = PROCESSOR
) -> list[int]:
    """More than ``count`` domains at once do not fit; returns the sizes of batches that did."""
    honest, sizes = bounding_module.optimise, []

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
    monkeypatch.setattr(tightening_module, "FUNCTIONAL_SHARE", 0.0)
    tried = []

    def fails(*args: Any) -> Any:
        tried.append(args)
        raise PROCESSOR

    monkeypatch.setattr(tightening_module, "optimise_intermediate", fails)
    case = make_case(make_conv(1), 24, 1, NUDGES)
    check_against_oracle(case, run(case))
    assert tried


def test_other_failures_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    memory_for(0, monkeypatch, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(Instances(3, [1e-3, 100.0]))


def test_the_search_runs_where_its_network_is(
    device: torch.device, make_case: Any, make_conv: Any
) -> None:
    case = make_case(make_conv(1), 12, 1, NUDGES)
    moved = replace(
        case, graph=case.graph.to(device), box=case.box.to(device), spec=case.spec.to(device)
    )
    check_against_oracle(moved, run(moved))
