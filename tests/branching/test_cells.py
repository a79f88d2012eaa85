"""Cells: they cover the box, their bounds hold in them, and verdicts are the oracle's."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from tests.branching.searching import NUDGES, QUICK, check_against_oracle, root_bounds
from verify_pipeline.bounds import clamp_to_splits
from verify_pipeline.branching import cells as cells_module
from verify_pipeline.branching.cells import search_with_cells
from verify_pipeline.branching.deadlines import Deadlines
from verify_pipeline.branching.instances import Instances
from verify_pipeline.problem import Status


def instances(case: Any) -> Instances:
    root = root_bounds(case.graph, case.box)
    return Instances(case.graph, case.box, case.spec, root).to(torch.float64)


def decide(case: Any, seconds: float = 1e6) -> list[Any]:
    deadlines = Deadlines.alone(torch.full((len(case.box),), seconds))
    root = root_bounds(case.graph, case.box)
    found = list(search_with_cells(case.graph, case.box, case.spec, root, QUICK, deadlines))
    assert sorted(f.instance for f in found) == list(range(len(case.box)))
    return sorted(found, key=lambda f: f.instance)


@pytest.fixture
def always_cells(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Cells for every instance that has open rows at the root; how many each had."""
    monkeypatch.setattr(cells_module, "AFFORDABLE", 1.0)
    monkeypatch.setattr(cells_module, "FIRST", 1e-15)
    monkeypatch.setattr(cells_module, "MOST", 12)
    grown = []
    honest = cells_module._InCells._grow

    def watched(self: Any, seconds: float) -> Any:
        cells = honest(self, seconds)
        grown.append(self._bounded)
        return cells

    monkeypatch.setattr(cells_module._InCells, "_grow", watched)
    return grown


@pytest.mark.parametrize("seed", range(3))
def test_mlps_in_cells_get_the_oracles_verdicts(
    seed: int, make_case: Any, make_mlp: Any, always_cells: list[int]
) -> None:
    case = make_case(make_mlp(seed), 12, seed, NUDGES)
    check_against_oracle(case, decide(case))
    assert any(bounded > 2 for bounded in always_cells)


def test_convolutions_in_cells_get_the_oracles_verdicts(
    make_case: Any, make_conv: Any, always_cells: list[int]
) -> None:
    case = make_case(make_conv(1), 12, 1, NUDGES)
    check_against_oracle(case, decide(case))
    assert any(bounded > 2 for bounded in always_cells)


def test_cells_cover_the_box_and_their_bounds_hold_in_them(make_case: Any, make_mlp: Any) -> None:
    case = make_case(make_mlp(4, 3, (8, 8, 8)), 6, 4, (-0.5,))
    exact = instances(case)
    one = Instances(exact.graph, exact.box[:1], exact.spec[:1], exact.bounds[:1])
    search = cells_module._InCells(one, QUICK, time.perf_counter)
    nothing = {p: torch.zeros(1, 8, dtype=torch.int8) for p in search._neurons.places}
    root = search._bound(one.bounds, nothing)
    assert len(root) == 1
    parents, splits = search._cut(root)
    assert sum(int(sides.abs().sum()) for sides in splits.values()) == 2
    both = clamp_to_splits(parents, exact.graph, splits)
    children = search._bound(parents, splits)
    x = one.box.lower + 2 * one.box.radius * torch.rand(4000, *one.box.lower.shape[1:])
    values = exact.graph.values(x.double())
    held = torch.zeros(len(x), dtype=torch.long)
    for child in range(2):
        inside = torch.ones(len(x), dtype=torch.bool)
        for place in both.lower:
            lower, upper = both.lower[place][child], both.upper[place][child]
            at = (values[place] >= lower - 1e-9) & (values[place] <= upper + 1e-9)
            inside &= at.flatten(1).all(1)
        held += inside
        if len(children) < 2:
            continue
        for place, lower in children.bounds.lower.items():
            assert bool((values[place][inside] >= lower[child] - 1e-9).all())
            assert bool((values[place][inside] <= children.bounds.upper[place][child] + 1e-9).all())
    assert bool((held >= 1).all())
    assert bool((held == 1).any())


def test_dear_bounds_or_shared_time_mean_no_cells(
    make_case: Any, make_mlp: Any, always_cells: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(make_mlp(1), 6, 1, NUDGES)
    root = root_bounds(case.graph, case.box)
    shared = Deadlines(torch.full((6,), 1e6), torch.zeros(6, dtype=torch.long))
    found = list(search_with_cells(case.graph, case.box, case.spec, root, QUICK, shared))
    assert {f.status for f in found} <= {Status.VERIFIED, Status.FALSIFIED}
    monkeypatch.setattr(cells_module, "AFFORDABLE", 0.0)
    decide(case)
    assert not always_cells
