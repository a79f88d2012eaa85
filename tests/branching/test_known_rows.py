"""Rows whose bounds are known at the root: those above zero get no tree, all others do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.branching.searching import QUICK, Asked, by_graph, in_order, query_of
from verify_pipeline.bounds import Multipliers
from verify_pipeline.branching.search.portfolio import relu_search
from verify_pipeline.branching.search.relu_split import ReluSplits
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Decision, Specification, Status

F64 = torch.float64
ROWS = 3


@pytest.fixture
def asked(make_mlp: Callable[..., Graph]) -> Asked:
    """Two boxes; a row of the first is broken at its centre, and all others hold by far."""
    graph = make_mlp(2, 2, (6, 6)).to(F64)
    centre = torch.tensor([[0.4, 0.6], [0.5, 0.5]], dtype=F64)
    rows = torch.eye(graph.outputs, dtype=F64)[:ROWS].expand(2, -1, -1).clone()
    offsets = 10 - torch.einsum("nsk,nk->ns", rows, graph(centre))
    offsets[0, 1] -= 10
    radius = torch.tensor([[0.3], [0.1]], dtype=F64)
    return Asked(graph, Box(centre - radius, centre + radius), Specification(rows, offsets))


def decided(asked: Asked, known: Tensor | None) -> list[Decision]:
    query = replace(query_of(asked), rows=known)
    replay = by_graph(query.spec, query.graph)
    return in_order(relu_search(query, QUICK, replay, time.perf_counter).run(), len(asked.box))


@pytest.mark.parametrize("each_row", [True, False])
def test_each_column_has_the_slope_of_its_neuron(asked: Asked, each_row: bool) -> None:
    """The first activation has slopes from before, of each row or of all; the second none."""
    query = query_of(asked)
    exact = query.instances(query.sufficient)
    neurons = Neurons.of(exact.graph)
    first, second = neurons.places
    given = torch.rand(2, ROWS if each_row else 1, *neurons.shapes[0])
    start = Multipliers({first: given}, {})
    known = torch.full((2, ROWS), -1.0, dtype=F64)
    kind = ReluSplits(exact, QUICK, start, rows=known)
    domains, rows = kind.roots().subproblems, kind.open_rows
    source = neurons.sources[1]
    adaptive = exact.bounds.upper[source] > -exact.bounds.lower[source]
    unstable = neurons.unstable(exact.bounds)
    assert bool(unstable[:, : neurons.sizes[0]].any() and unstable[:, neurons.sizes[0] :].any())
    assert unstable.sum(1).unique().numel() == 2  # so one instance's columns are padded
    expected = unstable_columns(unstable)[rows.instance]
    assert torch.equal(rows.columns, expected)
    assert torch.equal(rows.live, expected < unstable.shape[1])
    slopes = rows.expand(domains.open_row, domains.alpha)
    live = rows.expand(domains.open_row, rows.live)
    for tree, (n, s) in enumerate(zip(rows.instance.tolist(), rows.row.tolist(), strict=True)):
        wanted = torch.where(live[first][tree], given[n, s if each_row else 0], 0)
        torch.testing.assert_close(slopes[first][tree], wanted)
        wanted = (live[second][tree] & adaptive[n]).float()
        torch.testing.assert_close(slopes[second][tree], wanted)


def unstable_columns(unstable: Tensor) -> Tensor:
    """The unstable neurons of each instance in order, padded by their number R."""
    found = [row.nonzero().flatten().tolist() for row in unstable]
    most = max(len(one) for one in found)
    padding = unstable.shape[1]
    return torch.tensor([one + [padding] * (most - len(one)) for one in found])


def test_rows_above_zero_have_no_tree(asked: Asked) -> None:
    query = query_of(asked)
    known = torch.tensor([[1.0, -1.0, 2.0], [-3.0, 4.0, -torch.inf]], dtype=F64)
    kind = ReluSplits(query.instances(query.sufficient), QUICK, None, rows=known)
    found = kind.roots()
    assert torch.equal(found.lower, known)
    trees = zip(kind.open_rows.instance.tolist(), kind.open_rows.row.tolist(), strict=True)
    assert list(trees) == [(0, 1), (1, 0), (1, 2)]


def test_a_box_without_finite_bounds_has_no_tree(asked: Asked) -> None:
    query = query_of(asked)
    exact = query.instances(query.sufficient)
    lower = {place: values.clone() for place, values in exact.bounds.lower.items()}
    next(iter(lower.values()))[0] = -torch.inf
    exact = replace(exact, bounds=replace(exact.bounds, lower=lower))
    kind = ReluSplits(exact, QUICK, None, rows=torch.full((2, ROWS), -1.0, dtype=F64))
    assert set(kind.roots().subproblems.instance.tolist()) == {1}
    assert kind.unbounded.tolist() == [True, False]


@pytest.mark.parametrize("nothing", [torch.nan, torch.inf, -torch.inf, 0.0, -0.0, -1e-300])
def test_what_proves_nothing_is_searched(asked: Asked, nothing: float) -> None:
    first, second = decided(asked, torch.full((2, ROWS), nothing, dtype=F64))
    assert first.status is Status.FALSIFIED
    assert second.status is Status.VERIFIED
    assert second.bound is not None
    assert 5 < second.bound < 11


def test_a_verdict_has_the_least_bound_of_known_and_searched_rows(asked: Asked) -> None:
    known = torch.tensor([[1.0, -1.0, 2.0], [0.25, -1.0, -1.0]], dtype=F64)
    _, second = decided(asked, known)
    assert second.status is Status.VERIFIED
    assert second.bound == 0.25


def test_decisions_do_not_depend_on_what_is_known(asked: Asked) -> None:
    without = decided(asked, None)
    unknown = decided(asked, torch.full((2, ROWS), -torch.inf, dtype=F64))
    assert [one.status for one in unknown] == [one.status for one in without]
    assert [one.status for one in without] == [Status.FALSIFIED, Status.VERIFIED]
