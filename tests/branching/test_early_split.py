"""Early splits: cells cover the box, their bounds hold in them, and what stays open is told."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from tests.branching.searching import query_of
from verify_pipeline.bounds import MemoryBudget, NodeBounds, clamp_to_splits
from verify_pipeline.branching.config.search_settings import EarlySplitSettings
from verify_pipeline.branching.limits.bookkeeping import Bookkeeping
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.early_split import AT_ONCE, Cells, EarlySplits
from verify_pipeline.branching.search.loop import Search, SearchLimits
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.problem import Reason, Status

F64 = torch.float64


def instances(case: Any) -> SearchInstances:
    query = query_of(case)
    return query.instances(query.spec)


def splits_of(exact: SearchInstances) -> EarlySplits:
    return EarlySplits(exact, EarlySplitSettings(), MemoryBudget())


def meter_of(count: int) -> Meter:
    """Of instances with all the time."""
    unknown = torch.full((count, 1), -torch.inf, dtype=F64)
    deadlines = Deadlines.alone(torch.full((count,), 1e9, dtype=F64))
    return Meter(Bookkeeping(unknown, deadlines), AT_ONCE, time.perf_counter)


@pytest.mark.parametrize("seed", [4, 5])
def test_cells_cover_the_box_and_their_bounds_hold_in_them(
    seed: int, make_case: Any, make_mlp: Any
) -> None:
    """Cell by cell, down to the third split; of every point of the box one cell tells the truth."""
    case = make_case(make_mlp(seed, 3, (8, 8, 8)), 6, seed, (-0.5,))
    largest = int(case.box.radius.amax(1).argmax())
    exact = instances(case)[largest : largest + 1]
    kind, meter = splits_of(exact), meter_of(1)
    cells = kind.bound(kind.roots().subproblems, meter).parts
    x = exact.box.lower + 2 * exact.box.radius * torch.rand(4000, *exact.box.lower.shape[1:])
    x, split = x.double(), 0
    values, outputs = exact.graph.values(x), exact.graph(x)
    margins = (outputs @ exact.spec.rows[0].T + exact.spec.offsets[0]).amin(1)
    for depth in range(3):
        assert int(cells.can_be_split.sum()) > 0
        parents = cells[cells.can_be_split]
        cells = cells[~cells.can_be_split].with_more(kind.split(parents, meter).parts)
        split += len(parents)
        held = torch.zeros(len(x), dtype=torch.long)
        both = clamp_to_splits(cells.bounds, exact.graph, cells.splits)
        for n in range(len(cells)):
            inside = _obeys(exact, cells, n, values)
            held += inside
            for bounds in (cells.bounds, both):
                _holds(bounds, n, inside, values)
            if bool(inside.any()):
                assert float(margins[inside].min()) >= float(cells.lower[n])
        assert bool((held >= 1).all())
        assert float(cells.share.sum()) == 1.0
        assert bool((cells.share >= 0.5 ** (depth + 1)).all())
    assert bool((held == 1).any())
    assert split >= 3


def _obeys(exact: SearchInstances, cells: Cells, n: int, values: list[Any]) -> Any:
    """Points that have the signs of a cell's splits."""
    inside = torch.ones(len(values[0]), dtype=torch.bool)
    for place, signs in cells.splits.items():
        (source,) = exact.graph.nodes[place].inputs
        inside &= (values[source] * signs[n] >= 0).flatten(1).all(1)
    return inside


def _holds(bounds: NodeBounds, n: int, inside: Any, values: list[Any]) -> None:
    for place, lower in bounds.lower.items():
        assert bool((values[place][inside] >= lower[n]).all())
        assert bool((values[place][inside] <= bounds.upper[place][n]).all())


def test_the_first_unstable_layer_is_cut_first(make_case: Any, make_mlp: Any) -> None:
    exact = instances(make_case(make_mlp(4, 3, (8, 8, 8)), 6, 4, (-0.5,)))
    kind, meter = splits_of(exact), meter_of(6)
    cells = kind.bound(kind.roots().subproblems, meter).parts
    unstable = kind._neurons.unstable(cells.bounds)
    assert bool(unstable[:, :8].any(1).any())
    for n, neuron in enumerate(cells.neuron.tolist()):
        some = unstable[n].nonzero().flatten()
        if not len(some):
            assert neuron == -1
            continue
        assert bool(unstable[n, neuron])
        assert neuron // 8 == int(some[0]) // 8


def test_cells_alone_end_only_what_they_prove(make_case: Any, make_mlp: Any) -> None:
    """One that has nothing left to split stays open, and no instance below zero is verified."""
    case = make_case(make_mlp(2), 12, 2, (1.0, -1.0))
    exact = instances(case)
    deadlines = Deadlines.alone(torch.full((12,), 1e9, dtype=F64))
    search = Search(splits_of(exact), SearchLimits(), deadlines, lambda *_: None, time.perf_counter)
    found = list(search.run())
    assert {one.status for one in found} == {Status.VERIFIED}
    for one in found:
        assert one.bound is not None
        assert 0 < one.bound <= float(case.exact[one.place]) + 1e-6
    left = search.frontier.all()
    assert len(left)
    assert not bool(left.can_be_split.any())
    ended = torch.tensor([one.place for one in found])
    assert not bool(torch.isin(left.instance, ended).any())
    assert search.open_share[ended].tolist() == [0.0] * len(ended)
    assert len(found) + len(left.instance.unique()) == 12


def test_an_instance_without_finite_bounds_is_not_cut(make_case: Any, make_mlp: Any) -> None:
    exact = instances(make_case(make_mlp(2), 2, 2, (1.0,)))
    place = min(exact.bounds.upper)
    exact.bounds.upper[place][1] = torch.inf
    deadlines = Deadlines.alone(torch.full((2,), 1e9, dtype=F64))
    search = Search(splits_of(exact), SearchLimits(), deadlines, lambda *_: None, time.perf_counter)
    found = {one.place: one for one in search.run()}
    assert (found[1].status, found[1].reason) == (Status.UNKNOWN, Reason.NOT_FINITE)
    assert found[1].subproblems == 0
