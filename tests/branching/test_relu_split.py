"""Splits of ReLUs: sound and complete against the mixed-integer oracle, however they are set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch

from tests.branching.searching import NUDGES, QUICK, check_against_oracle, run
from verify_pipeline.bounds import Multipliers, OptimiseSettings, optimise_intermediate
from verify_pipeline.branching.config.search_settings import BranchingSettings
from verify_pipeline.branching.improve import optimise_at_root as root_module
from verify_pipeline.branching.limits import cost
from verify_pipeline.problem import Status


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
    assert any(f.subproblems > 20 for f in found if f.status is Status.VERIFIED)
    assert any(f.subproblems > 2 for f in found if f.status is Status.FALSIFIED)


@pytest.mark.parametrize("method", ["babsr", "fsb", "kfsb"])
def test_every_way_of_branching_decides_alike(
    method: Literal["babsr", "fsb", "kfsb"], make_case: Any, make_conv: Any
) -> None:
    case = make_case(make_conv(1), 12, 1, NUDGES)
    branching = BranchingSettings(method=method)
    check_against_oracle(case, run(case, replace(QUICK, branching=branching)))


def test_leaves_decide_where_no_ascent_helps(make_case: Any, make_mlp: Any) -> None:
    none = OptimiseSettings(iterations=0)
    case = make_case(make_mlp(3, 3, (5, 5)), 12, 3, NUDGES)
    check_against_oracle(case, run(case, replace(QUICK, root=none, domain=none)))


def test_optimised_bounds_of_the_neurons_change_no_verdict(
    make_case: Any, make_conv: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "OF_A_DOMAIN", 0.0)  # at once, for everyone
    chosen = []
    honest = optimise_intermediate

    def watched(*args: Any) -> Any:
        chosen.append(len(args[1]))
        return honest(*args)

    monkeypatch.setattr(root_module, "optimise_intermediate", watched)
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


def test_given_multipliers_are_where_the_search_starts(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(7), 12, 7, NUDGES)
    alpha = {place: torch.full((12, 1, 8), 0.5) for place in (2, 4)}
    check_against_oracle(case, run(case, start=Multipliers(alpha, {})))


def test_the_search_runs_where_its_network_is(
    device: torch.device, make_case: Any, make_conv: Any
) -> None:
    case = make_case(make_conv(1), 12, 1, NUDGES)
    moved = replace(
        case, graph=case.graph.to(device), box=case.box.to(device), spec=case.spec.to(device)
    )
    check_against_oracle(moved, run(moved))
