"""Every cut that a search makes, under one contract: the parts are the parent, and nothing else.

A splitter takes intervals ``D x U`` and columns ``D`` and returns those of the parts, ``2 D x U``,
whatever it is that is cut: a sign of a ReLU's input, an interval of a smooth neuron, an input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from verify_pipeline.bounds import MemoryBudget, NodeBounds, clamp_to_splits, needed_places
from verify_pipeline.branching.config.search_settings import EarlySplitSettings, SearchSettings
from verify_pipeline.branching.limits.bookkeeping import Bookkeeping
from verify_pipeline.branching.limits.meter import Meter
from verify_pipeline.branching.limits.time_limits import Deadlines
from verify_pipeline.branching.search.early_split import Cells, EarlySplits
from verify_pipeline.branching.search.input_split import BoxParts, InputSplits
from verify_pipeline.branching.search.interval_split import cut
from verify_pipeline.branching.search.loop import Step
from verify_pipeline.branching.search.query import SearchQuery
from verify_pipeline.branching.tree.search_instances import SearchInstances
from verify_pipeline.branching.tree.splitting import bend, both_signs, halved, middle
from verify_pipeline.branching.tree.subproblems import Domains, Neurons, OpenRows, split
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Linear, Relu, Reshape
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
GREATEST, LEAST = torch.finfo(F64).max, 5e-324
WIDTH = 4

Splitter = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def network() -> Graph:
    """A ReLU of each input."""
    builder = GraphBuilder((WIDTH,), dtype=F64)
    below = builder.add(Linear(torch.eye(WIDTH, dtype=F64)), 0)
    active = builder.add(Relu(), below)
    return builder.build(builder.add(Linear(torch.ones(1, WIDTH, dtype=F64)), active))


def clamped(graph: Graph, bounds: NodeBounds, splits: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """What the splits leave of both parts' bounds of the neurons."""
    found = clamp_to_splits(bounds.with_more(bounds), graph, splits)
    return found.lower[1], found.upper[1]


def children_of(graph: Graph, column: Tensor) -> dict[int, Tensor]:
    """The splits of what the search makes of unsplit domains, at each activation."""
    count = len(column)
    open_rows = OpenRows.of(
        Neurons.of(graph),
        torch.ones(count, WIDTH, dtype=torch.bool),
        torch.ones(count, 1, dtype=torch.bool),
    )
    nothing = torch.zeros(count, WIDTH)
    unknown = torch.full((count, WIDTH), torch.inf)
    domains = Domains(
        instance=torch.arange(count),
        lower=torch.zeros(count),
        share=torch.ones(count, dtype=F64),
        open_row=torch.arange(count),
        splits=nothing.to(torch.int8),
        alpha=nothing,
        beta=nothing,
        below=-unknown,
        above=unknown,
    )
    return open_rows.splits(split(domains, column))


def relu_signs(lower: Tensor, upper: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    graph = network()
    bounds = NodeBounds({1: lower}, {1: upper})
    return clamped(graph, bounds, children_of(graph, column))


def meter(count: int) -> Meter:
    """Of instances that have all the time."""
    unknown = torch.full((count, 1), -torch.inf, dtype=F64)
    deadlines = Deadlines.alone(torch.full((count,), torch.inf, dtype=F64))
    return Meter(Bookkeeping(unknown, deadlines), 8, lambda: 0.0)


class Unbounded:
    """Of parts, their own bounds: what a search is told that bounds nothing."""

    def bound(self, roots: Any, meter: Meter) -> Step[Any]:
        return Step(roots, roots.lower, torch.zeros_like(roots.lower, dtype=torch.bool))


class UnboundedCells(Unbounded, EarlySplits):
    """Cells as they are cut."""


class UnboundedHalves(Unbounded, InputSplits):
    """Halves as they are cut."""


def cells(lower: Tensor, upper: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    graph, bounds = network(), NodeBounds({1: lower}, {1: upper})
    count, ones = len(lower), torch.ones(len(lower), 1, 1, dtype=F64)
    box = Box(torch.zeros_like(lower), torch.ones_like(lower))
    exact = SearchInstances(graph, box, Specification(ones, ones[..., 0]), bounds)
    kind = UnboundedCells(exact, EarlySplitSettings(), MemoryBudget())
    parents = replace(kind.roots().subproblems, neuron=column)
    twice = kind.split(parents, meter(count)).parts
    assert isinstance(twice, Cells)
    assert twice.instance.equal(torch.arange(count).repeat(2))
    assert twice.share.tolist() == [0.5] * (2 * count)
    assert twice.bounds.lower[1].equal(torch.cat([lower, lower]))
    assert twice.bounds.upper[1].equal(torch.cat([upper, upper]))
    return clamped(graph, bounds, twice.splits)


def pieces(lower: Tensor, upper: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    rest = torch.arange(2.0 * len(lower)).view(-1, 2)
    bounds = NodeBounds({1: lower.view(-1, 2, 2), 5: rest}, {1: upper.view(-1, 2, 2), 5: rest})
    found = cut(bounds, 1, column)
    for side in (found.lower, found.upper):
        assert side[5].equal(torch.cat([rest, rest]))
    return found.lower[1].flatten(1), found.upper[1].flatten(1)


def at_bends(lower: Tensor, upper: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Pieces whose intervals are cut where a ReLU bends."""
    bounds = NodeBounds({1: lower}, {1: upper})
    found = cut(bounds, 1, column, bend)
    return found.lower[1], found.upper[1]


def halves_of(lower: Tensor, upper: Tensor) -> tuple[UnboundedHalves, BoxParts]:
    """Splits of inputs of a 2 x 2 image, and parts of its boxes."""
    builder = GraphBuilder((2, 2), dtype=F64)
    flat = builder.add(Reshape((WIDTH,)), 0)
    graph = builder.build(builder.add(Linear(torch.ones(1, WIDTH, dtype=F64)), flat))
    count, ones = len(lower), torch.ones(len(lower), 1, 1, dtype=F64)
    box, spec = Box(lower.view(-1, 2, 2), upper.view(-1, 2, 2)), Specification(ones, ones[..., 0])
    deadlines = Deadlines.alone(torch.ones(count, dtype=F64))
    nothing = {p: torch.zeros(count, *graph.nodes[p].shape) for p in needed_places(graph)}
    query = SearchQuery(graph, box, spec, spec, NodeBounds(nothing, nothing), deadlines, None, F64)
    kind = UnboundedHalves(query, SearchSettings(), 8, MemoryBudget())
    return kind, kind.roots().subproblems


def input_halves(lower: Tensor, upper: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    count, (kind, parents) = len(lower), halves_of(lower, upper)
    halves = kind.split(replace(parents, axis=column), meter(count)).parts
    assert isinstance(halves, BoxParts)
    assert halves.instance.equal(torch.arange(count).repeat(2))
    assert halves.share.tolist() == [0.5] * (2 * count)
    return halves.low.flatten(1), halves.high.flatten(1)


OF_SIGNS = (relu_signs, cells)
OF_INTERVALS = (halved, pieces, at_bends, input_halves)

EDGES = (
    (-1.0, 1.0),
    (-LEAST, LEAST),
    (-GREATEST, GREATEST),
    (-GREATEST, LEAST),
    (-1e-300, 1e300),
    (-math.ulp(1.0), 3.0),
)
"""Intervals with numbers of either sign."""

NARROW_OR_FAR = (
    (0.0, LEAST),
    (-0.0, 3 * LEAST),
    (-LEAST, -0.0),
    (LEAST, 3 * LEAST),
    (1.0, 1.0 + math.ulp(1.0)),
    (1.0, 1.0 + 2 * math.ulp(1.0)),
    (-3.0 - math.ulp(3.0), -3.0),
    (0.6 * GREATEST, GREATEST),
    (-GREATEST, -0.7 * GREATEST),
    (GREATEST - math.ulp(GREATEST), GREATEST),
    (GREATEST, GREATEST),
    (-0.0, 0.0),
    (0.0, 0.0),
    (-2.5, -2.5),
    (LEAST, LEAST),
    (0.0, GREATEST),
)
"""Intervals without them, and points."""


def parents(splitter: Splitter, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random intervals, with one of each edge at the column that is cut."""
    generator = torch.Generator().manual_seed(seed)
    edges = EDGES if splitter in OF_SIGNS else EDGES + NARROW_OR_FAR
    count = 40 + len(edges)
    scale = 10 ** (6 * torch.rand(count, WIDTH, generator=generator, dtype=F64) - 3)
    lower = -scale * torch.rand(count, WIDTH, generator=generator, dtype=F64)
    upper = lower + scale * (1 + torch.rand(count, WIDTH, generator=generator, dtype=F64))
    column = torch.randint(WIDTH, (count,), generator=generator)
    place = torch.arange(len(edges))
    lower[place, column[: len(edges)]] = torch.tensor([a for a, _ in edges], dtype=F64)
    upper[place, column[: len(edges)]] = torch.tensor([b for _, b in edges], dtype=F64)
    return lower, upper, column


def points(lower: Tensor, upper: Tensor, parts: tuple[Tensor, Tensor], seed: int) -> Tensor:
    """Points of the parents, ``P x D x U``: random ones, corners, and those around the cuts."""
    generator = torch.Generator().manual_seed(seed)
    count = len(lower)
    ends = [side[half] for side in parts for half in (slice(None, count), slice(count, None))]
    inf = torch.full_like(lower, torch.inf)
    near = [torch.nextafter(end, far) for end in ends for far in (inf, -inf)]
    choices = torch.stack([*ends, *near, lower, upper, 0 * lower, -0.0 * lower])
    shares = torch.rand(300, *lower.shape, generator=generator, dtype=F64)
    mixed = lower * (1 - shares) + upper * shares
    chosen = torch.randint(len(choices), (3000, *lower.shape), generator=generator)
    critical = choices.gather(0, chosen)
    return torch.cat([mixed, critical]).clamp(lower, upper)


each_splitter = pytest.mark.parametrize("splitter", OF_SIGNS + OF_INTERVALS)
each_seed = pytest.mark.parametrize("seed", range(3))


@each_splitter
@each_seed
def test_every_point_of_the_parent_lies_in_a_part(splitter: Splitter, seed: int) -> None:
    lower, upper, column = parents(splitter, seed)
    found = splitter(lower, upper, column)
    x = points(lower, upper, found, seed)
    inside = (x.repeat(1, 2, 1) >= found[0]) & (x.repeat(1, 2, 1) <= found[1])
    first, second = inside.all(2).chunk(2, 1)
    assert bool((first | second).all())
    # both are needed: each has points that the other does not have, where there is room for two
    room = torch.nextafter(lower, torch.full_like(lower, torch.inf)) < upper
    cut = room.gather(1, column.unsqueeze(1))[:, 0]
    assert bool((first & ~second).any(0)[cut].all())
    assert bool((second & ~first).any(0)[cut].all())


@each_splitter
@each_seed
def test_parts_are_parts_and_have_the_cut_in_common_at_most(splitter: Splitter, seed: int) -> None:
    lower, upper, column = parents(splitter, seed)
    low, high = splitter(lower, upper, column)
    assert len(low) == len(high) == 2 * len(lower)
    assert bool((low <= high).all())
    assert bool((low >= lower.repeat(2, 1)).all() and (high <= upper.repeat(2, 1)).all())
    common = torch.minimum(*high.chunk(2)) - torch.maximum(*low.chunk(2))
    assert bool((common <= 0).any(1).all())
    differs = (low != lower.repeat(2, 1)) | (high != upper.repeat(2, 1))
    assert int(differs.sum(1).max()) == 1


@pytest.mark.parametrize("splitter", [one for one in OF_INTERVALS if one is not at_bends])
def test_what_can_be_halved_is(splitter: Splitter) -> None:
    """A part that were its parent would be cut for ever."""
    lower, upper, column = parents(splitter, 0)
    low, high = (side.chunk(2) for side in splitter(lower, upper, column))
    at = column.unsqueeze(1)
    between = torch.nextafter(lower, torch.full_like(lower, torch.inf)) < upper
    room = between.gather(1, at)
    wide = (upper / 2 - lower / 2).gather(1, at)
    for part in range(2):
        smaller = (low[part] > lower) | (high[part] < upper)
        assert bool(smaller.gather(1, at)[room].all())
        share = (high[part] / 2 - low[part] / 2).gather(1, at) / wide
        shares = share[room & (wide > 1e-12)].tolist()
        assert shares == pytest.approx([0.5] * len(shares), abs=1e-3)
    # the first has the lesser points
    assert bool((high[0].gather(1, at) <= low[1].gather(1, at))[room].all())


def test_a_bend_inside_is_where_pieces_are_cut() -> None:
    lower = torch.tensor([[-4.0], [1.0], [-GREATEST], [0.0]], dtype=F64)
    upper = torch.tensor([[1.0], [3.0], [LEAST], [1.0]], dtype=F64)
    _, high = at_bends(lower, upper, torch.zeros(4, dtype=torch.long))
    assert high[:4].flatten().tolist() == [0.0, 2.0, 0.0, 0.5]


def test_an_input_that_cannot_be_halved_is_told_and_another_one_is() -> None:
    one = 1.0 + math.ulp(1.0)
    lower = torch.tensor([[1.0, 2, 2, 2], [1.0, 0, 0, 0], [one, 0, 0, 0]], dtype=F64)
    upper = lower.clone()
    upper[0, 3] = 3.0
    upper[1, 0], upper[2, 0] = one, one + math.ulp(1.0)  # neighbours; their middle is rounded
    kind, parts = halves_of(lower, upper)
    # even where it is the only one that has no score at all
    slopes = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=F64).view(1, 2, 2).expand(3, 2, 2)
    assert kind._axis(parts, {}, slopes).tolist() == [3, -1, -1]
    (some, _), first = (halves_of(lower[:1], upper[:1]), parts[:1])
    halves = some.split(replace(first, axis=torch.tensor([3])), meter(1)).parts
    assert halves.high[0].flatten().tolist() == [1.0, 2.0, 2.0, 2.5]
    assert halves.low[1].flatten().tolist() == [1.0, 2.0, 2.0, 2.5]


def test_signs_say_of_which_sign_a_part_is() -> None:
    """First the active ones: whatever else reads a split (relaxations, leaves) reads it so."""
    graph, column = network(), torch.tensor([0, 3, 1])
    splits = children_of(graph, column)[2]
    assert splits.equal(both_signs(torch.zeros(3, WIDTH, dtype=torch.int8), column))
    each = torch.arange(3)
    assert splits[each, column].tolist() == [1, 1, 1]
    assert splits[each + 3, column].tolist() == [-1, -1, -1]
    assert int(splits.abs().sum()) == 6
    lower, upper = -torch.ones(3, WIDTH, dtype=F64), torch.ones(3, WIDTH, dtype=F64)
    for splitter in OF_SIGNS:
        low, high = splitter(lower, upper, column)
        assert low[each, column].tolist() == [0, 0, 0]
        assert high[each + 3, column].tolist() == [0, 0, 0]


def test_earlier_splits_stay() -> None:
    earlier = torch.tensor([[1, 0, -1, 0]], dtype=torch.int8)
    assert both_signs(earlier, torch.tensor([3])).tolist() == [[1, 0, -1, 1], [1, 0, -1, -1]]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (GREATEST, GREATEST, GREATEST),
        (-GREATEST, -GREATEST, -GREATEST),
        (-GREATEST, GREATEST, 0.0),
        (0.5 * GREATEST, GREATEST, 0.75 * GREATEST),
        (-GREATEST, -0.5 * GREATEST, -0.75 * GREATEST),
        (0.0, GREATEST, 0.5 * GREATEST),
        (LEAST, 3 * LEAST, 2 * LEAST),
        (LEAST, LEAST, LEAST),
        (-0.0, 0.0, 0.0),
        (1.0, 2.0, 1.5),
    ],
)
def test_the_middle_neither_overflows_nor_vanishes(
    low: float, high: float, expected: float
) -> None:
    found = middle(torch.tensor([low], dtype=F64), torch.tensor([high], dtype=F64))
    assert found.tolist() == [expected]
