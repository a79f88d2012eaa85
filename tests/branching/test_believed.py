"""A bound that is not finite closes nothing, also where others of the instance are finite."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.branching.searching import NUDGES, QUICK, check_against_oracle, root_bounds
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search import root as roots
from verify_pipeline.branching.search.relu_split import search


def test_only_finite_bounds_count() -> None:
    lower = torch.tensor([1.0, -2.0, torch.inf, -torch.inf, torch.nan])
    expected = torch.tensor([1.0, -2.0, -torch.inf, -torch.inf, -torch.inf])
    assert torch.equal(sound_lower(lower), expected)


def test_an_infinite_row_at_the_root_stays_open(
    make_case: Any, make_mlp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(make_mlp(0), 12, 0, NUDGES)
    honest = roots.crown_margins

    def overflowing(*arguments: Any) -> Any:
        found = honest(*arguments)
        lower = found.lower.clone()
        lower[torch.arange(len(lower)), lower.argmin(1)] = torch.inf
        return replace(found, lower=lower)

    monkeypatch.setattr(roots, "crown_margins", overflowing)
    deadlines = Deadlines.alone(torch.full((len(case.box),), 1e6))
    root = root_bounds(case.graph, case.box)
    found = list(search(case.graph, case.box, case.spec, root, QUICK, deadlines))
    check_against_oracle(case, sorted(found, key=lambda f: f.instance))
