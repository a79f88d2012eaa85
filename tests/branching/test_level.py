"""Minima around zero that are less than LEVEL away: what is known of a part must not hide them.

Bounds of a domain's neurons hold where its row is at most LEVEL. If the sign of that were lost
anywhere, they would hold below -LEVEL only, where these networks have no input at all: everything
would be closed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.searching import QUICK, contracted, exactly, roots_of, run
from verify_pipeline.bounds import MarginBounds, OptimiseSettings
from verify_pipeline.branching.evaluate.bounder import Bounder
from verify_pipeline.branching.improve import cutoff_on_box
from verify_pipeline.branching.improve.cutoff_on_box import Rebound, activations, cut, everything
from verify_pipeline.branching.search.relu_split import ReluSplits
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.subproblems import LEVEL, Domains
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, Relu
from verify_pipeline.problem import Box, Specification, Status

F64 = torch.float64
ONE_STEP = OptimiseSettings(iterations=1)

SHARES = (-0.9, -0.5, 0.0)
"""Of LEVEL, what the minima are."""


def ramp(inputs: int) -> Graph:
    """``x + relu(x - 0.3) - relu(x - 0.6)`` over [0, 1], of one input or of the sum of several.

    Its least value is 0, at x = 0, and so is that of its linear bound ``(1 - 0.4) x`` at α = 0.
    """
    builder = GraphBuilder((inputs,))
    each = torch.ones(3, inputs) / inputs
    shifts = torch.tensor([0.0, -0.3, -0.6])
    active = builder.add(Relu(), builder.add(Linear(each, shifts), 0))
    builder.add(Linear(torch.tensor([[1.0, 1.0, -1.0]])), active)
    return builder.build()


class Ramp:
    """Ramps over [0, 1], each raised so that its minimum is what is asked for."""

    def __init__(self, minima: list[float], inputs: int = 1) -> None:
        count = len(minima)
        self.graph = ramp(inputs)
        self.box = Box(torch.zeros(count, inputs), torch.ones(count, inputs))
        self.spec = Specification(torch.ones(count, 1, 1), torch.tensor(minima).unsqueeze(1))


def planted(minimum: float) -> tuple[Bounder, Domains]:
    """The root's domain."""
    bounder, domains = roots_of(exactly(Ramp([minimum])))
    return bounder, bounder.bound(domains, QUICK.root).domains


each_share = pytest.mark.parametrize("share", [*SHARES, 0.5])


def test_the_row_is_what_the_tests_take_it_for() -> None:
    x = torch.linspace(0, 1, 1001).unsqueeze(1)
    assert float(ramp(1)(x).min()) == 0.0
    assert float(ramp(3)(x.expand(-1, 3)).min()) == pytest.approx(0.0, abs=1e-7)
    assert LEVEL > 0


@each_share
@pytest.mark.parametrize("rebound", [activations, everything])
def test_a_contracted_domain_keeps_the_input_of_its_minimum(share: float, rebound: Rebound) -> None:
    bounder, domains = planted(share * LEVEL)
    found, lower = contracted(bounder, domains, rebound, 4)
    # x >= 0 is not known beyond rounding, so that its ReLU is open, too
    at_zero = torch.tensor([[0.0, -0.3, -0.6]])
    assert bool((found.below <= at_zero).all() and (at_zero <= found.above).all())
    # the row is in float32
    assert float(lower) <= float(torch.tensor(share * LEVEL, dtype=torch.float32))
    assert float(found.lower) <= max(share * LEVEL, 0.0) + 1e-8  # float32


@pytest.mark.parametrize("inputs", [1, 3])
@pytest.mark.parametrize("multiplies", [False, True])
def test_a_search_verifies_none_of_them(
    inputs: int, multiplies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the cutoff, which is for networks with products, and without it.

    Counterexamples are not looked for: only proofs end a search.
    """

    def blind(self: ReluSplits, instance: Tensor, points: Tensor) -> dict[int, Tensor]:
        return {}

    monkeypatch.setattr(ReluSplits, "_broken", blind)
    monkeypatch.setattr(cutoff_on_box, "pairs", lambda graph: int(multiplies))
    minima = [share * LEVEL for share in SHARES]
    settings = replace(QUICK, descent=0, max_domains=200)
    found = run(Ramp([*minima, 0.1], inputs), settings)
    assert all(one.status is Status.UNKNOWN for one in found[:-1])
    assert found[-1].status is Status.VERIFIED


def test_a_cut_keeps_what_may_be_at_most_the_level() -> None:
    """``x`` over [-1, 1], whose bound is x itself: the part ends at LEVEL, exactly."""
    ones = torch.ones(1, 1, dtype=F64)
    bound = MarginBounds(-ones, ones.unsqueeze(1), torch.zeros(1, 1, dtype=F64))
    part = cut(Box(-ones, ones), bound)
    x = torch.tensor([-1.0, -LEVEL, 0.0, LEVEL / 2, LEVEL, 2 * LEVEL, 1.0], dtype=F64)
    inside = (part.normal * x.view(-1, 1) + part.offset <= 0).flatten()
    assert inside.equal(x <= LEVEL)


def test_what_is_closed_by_a_cutoff_is_said_to_be_at_the_level() -> None:
    """Not above it, for nothing is known there; not below it, for that would close nothing."""
    bounder, domains = planted(0.1)
    unproved = replace(domains, lower=torch.full_like(domains.lower, -0.1))
    _, lower = contracted(bounder, unproved, activations, 1)
    assert lower.tolist() == [LEVEL]


def test_a_domain_that_is_known_to_be_empty_is_closed_at_the_level(
    make_case: Any, make_mlp: Any
) -> None:
    bounder, domains = roots_of(exactly(make_case(make_mlp(0), 4, 0, (0.1,))))
    crossed = replace(
        domains,
        below=domains.below.index_fill(1, torch.tensor([0]), 0.25),
        above=domains.above.index_fill(1, torch.tensor([0]), -0.25),
    )
    bounded = bounder.bound(crossed, ONE_STEP)
    assert bounded.confirmed.tolist() == [LEVEL] * len(domains)


def limited_to_the_centre(exact: SearchInstances) -> tuple[Bounder, Domains]:
    """Roots of whose neurons is claimed that they are about what they are at the box's centre."""
    bounder, roots = roots_of(exact)
    neurons, open_rows = bounder.open_rows.neurons, bounder.open_rows
    values = exact.graph.values(exact.box.center[open_rows.instance])
    sources = dict(zip(neurons.places, neurons.sources, strict=True))
    at_center = neurons.flatten({p: values[s] for p, s in sources.items()}, values[0])
    known = open_rows.compress(roots.open_row, at_center).float()
    return bounder, replace(roots, below=known - 1e-3, above=known + 1e-3)


def test_a_bound_that_rests_on_what_is_known_of_a_domain_is_the_level_at_most(
    make_case: Any, make_mlp: Any
) -> None:
    bounder, limited = limited_to_the_centre(exactly(make_case(make_mlp(0), 4, 0, (0.1,))))
    bounded = bounder.bound(limited, ONE_STEP)
    assert float(bounded.domains.lower.max()) > 0.01
    assert float(bounded.confirmed.max()) == LEVEL


def test_a_leaf_rests_on_nothing_but_its_splits(make_case: Any, make_mlp: Any) -> None:
    bounder, limited = limited_to_the_centre(exactly(make_case(make_mlp(0), 4, 0, (0.1,))))
    signs = torch.where(limited.below + limited.above >= 0, 1, -1).to(torch.int8)
    leaf = replace(limited, splits=signs)[:1]
    assert bounder.leaf(leaf).lower.equal(bounder.leaf(leaf.without_limits()).lower)
    assert float(bounder.leaf(leaf).lower) > LEVEL or bounder.leaf(leaf).points is not None
