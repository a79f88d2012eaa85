"""Shallow walks leave out neurons that need only a sign, and change no other neuron's bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tests.networks import mlp
from tests.networks_by_hand import chain, linear
from verify_pipeline.bounds import MemoryBudget, NodeBounds, interval_bounds
from verify_pipeline.bounds.intermediate import tighten as walking
from verify_pipeline.bounds.intermediate.shallow import Tail, sample_of, shallow_tail
from verify_pipeline.bounds.intermediate.tighten import crown_intermediate, tighten
from verify_pipeline.bounds.linear.backward import Functional, lower_bounds
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, Constant, Linear, Relu
from verify_pipeline.problem import Box

F64 = torch.float64
BUDGET = MemoryBudget(bytes=1 << 24)


def four_layers(width: int = 2) -> Graph:
    """Linear 1, ReLU 2, linear 3, ReLU 4, linear 5, ReLU 6, linear 7; all but the first narrow."""
    wide = linear([[1.0] * 8] * 8)
    first = linear([[0.5] * 8] * width)
    rest = linear([[1.0] * width] * width)
    return chain((8,), wide, Relu(), first, Relu(), rest, Relu(), rest)


def test_a_tail_begins_with_the_nearest_relu_behind_which_another_relu_lies() -> None:
    graph = four_layers()
    tail = shallow_tail(graph, 5)  # linear 5 reads ReLU 4, which reads linear 3 of ReLU 2
    assert tail is not None
    assert tail.cut == 2
    assert dict(tail.places) == {3: 1, 4: 2, 5: 3}
    assert [type(node.op).__name__ for node in tail.graph.nodes] == [
        "Input",
        "Linear",
        "Relu",
        "Linear",
    ]
    # 2·8 + 2 + 2·2 multiplications behind the cut; 8 and 8·8 more before it
    assert tail.share == pytest.approx(22 / (22 + 8 + 64))
    deeper = shallow_tail(graph, 7)
    assert deeper is not None
    assert deeper.cut == 4


def test_there_is_no_tail_without_two_relus_before_the_neuron() -> None:
    graph = four_layers()
    assert shallow_tail(graph, 1) is None
    assert shallow_tail(graph, 3) is None


def test_a_tail_that_costs_nearly_as_much_is_none() -> None:
    square = linear([[1.0] * 8] * 8)
    graph = chain((1,), linear([[1.0]] * 8), Relu(), square, Relu(), square)
    assert shallow_tail(graph, 5) is None  # 136 of 152 multiplications


def around(shortcut_from: int) -> Graph:
    """Four layers; the input of the last ReLU also takes the value of node ``shortcut_from``."""
    square = linear([[0.25] * 8] * 8)
    b = GraphBuilder((8,), dtype=F64)
    x = b.add(square, 0)  # 1
    x = b.add(square, b.add(Relu(), x))  # 3
    x = b.add(square, b.add(Relu(), x))  # 5
    x = b.add(square, b.add(Relu(), x))  # 7
    return b.build(b.add(Add(), x, shortcut_from))  # 8


def test_a_value_that_reaches_the_neuron_around_a_relu_forbids_that_cut() -> None:
    inside = shallow_tail(around(4), 8)
    assert inside is not None
    assert inside.cut == 4
    outside = shallow_tail(around(2), 8)
    assert outside is None or outside.cut <= 2
    assert shallow_tail(around(1), 8) is None


def test_constants_do_not_forbid_a_cut() -> None:
    b = GraphBuilder((8,), dtype=F64)
    x = b.add(linear([[0.25] * 8] * 8), 0)
    x = b.add(linear([[0.25] * 8] * 2), b.add(Relu(), x))
    x = b.add(linear([[0.5] * 2] * 2), b.add(Relu(), x))
    value = b.add(Constant(torch.ones(2, dtype=F64)), 0)
    graph = b.build(b.add(Add(), x, value))
    tail = shallow_tail(graph, len(graph.nodes) - 1)
    assert tail is not None
    values = graph.values(torch.rand(3, 8, dtype=F64))
    assert torch.equal(tail.graph(values[tail.cut]), values[-1])


def test_a_sample_is_every_sixteenth_neuron_from_the_first() -> None:
    mask = torch.zeros(2, 3, 20, dtype=torch.bool)
    mask.view(-1)[5:105:2] = True  # 50 neurons
    chosen = sample_of(mask).flatten().nonzero().flatten()
    assert chosen.tolist() == [5, 5 + 32, 5 + 64, 5 + 96]


def test_shallow_walks_pay_if_they_settle_more_than_their_share() -> None:
    tail = Tail(four_layers(), 2, 0.25, {})
    assert not tail.pays(16, 4)
    assert tail.pays(16, 5)


@dataclass
class Counted:
    """CROWN that counts the functionals that walk through networks of each length."""

    functionals: dict[int, int] = field(default_factory=dict)

    def through(self, linear: LinearGraph) -> LinearGraph:
        return linear

    def solve(self, linear: LinearGraph, box: Box, functional: Functional) -> Tensor:
        length = len(linear.graph.nodes)
        found = self.functionals.get(length, 0)
        self.functionals[length] = found + functional.constants.numel()
        return lower_bounds(linear, box, functional).lower

    def capacity(self, graph: Graph, place: int) -> int:
        return 64


def deep(seed: int) -> Graph:
    """Layers of 24 neurons, of which shallow walks settle some and leave others open."""
    return mlp(seed, inputs=6, hidden=(96, 24, 24, 24, 24), gain=1.0, bias=1.0).to(F64)


def boxes(seed: int, radius: float) -> Box:
    generator = torch.Generator().manual_seed(seed)
    center = torch.rand(4, 6, generator=generator, dtype=F64) - 0.5
    return Box(center - radius, center + radius)


def both(graph: Graph, box: Box) -> tuple[NodeBounds, NodeBounds, Counted, Counted]:
    """Bounds with and without shallow walks, and how they were computed."""
    start = interval_bounds(graph, box)
    plain, shallow = Counted(), Counted()
    without = tighten(graph, box, start, plain)
    found = tighten(graph, box, start, shallow, tails=shallow_tail)
    return without, found, plain, shallow


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [0.02, 0.1, 0.3])
def test_bounds_of_unstable_neurons_are_those_of_whole_walks(seed: int, radius: float) -> None:
    graph, box = deep(seed), boxes(seed, radius)
    without, found, _, _ = both(graph, box)
    for place, node in enumerate(graph.nodes[:-1]):
        if not isinstance(node.op, Linear):
            continue
        for n in range(len(box)):
            below, above = without.lower[place][n], without.upper[place][n]
            unstable = (below < 0) & (above > 0)
            assert torch.equal((found.lower[place][n] < 0) & (found.upper[place][n] > 0), unstable)
            # bounds of stable neurons are looser, so that a neuron may be asked for anew and its
            # interval may be another
            ours = found.lower[place][n][unstable], found.upper[place][n][unstable]
            torch.testing.assert_close(ours[0], below[unstable], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(ours[1], above[unstable], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_bounds_hold_at_random_points(seed: int) -> None:
    graph, box = deep(seed), boxes(seed, 0.1)
    found = crown_intermediate(graph, box, interval_bounds(graph, box), BUDGET)
    share = torch.rand(500, *box.lower.shape, dtype=F64)
    for x in box.lower + share * (box.upper - box.lower):
        for place, value in enumerate(graph.values(x)):
            assert bool((value >= found.lower[place] - 1e-9).all())
            assert bool((value <= found.upper[place] + 1e-9).all())


def test_fewer_functionals_walk_through_the_whole_network() -> None:
    counts = [0, 0]
    for seed in range(6):
        graph, box = deep(seed), boxes(seed, 0.05)
        _, _, plain, shallow = both(graph, box)
        whole = len(graph.nodes)
        assert list(plain.functionals) == [whole]
        counts[0] += plain.functionals[whole]
        counts[1] += shallow.functionals[whole]
    assert counts[1] < 0.85 * counts[0]


def test_a_sample_that_settles_nothing_ends_the_shallow_walks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int]] = []
    solve: Callable[..., tuple[Tensor, Tensor]] = walking._solve_neurons

    def noted(linear: LinearGraph, box: Box, place: int, *rest: Tensor) -> tuple[Tensor, Tensor]:
        asked.append((len(linear.graph.nodes), int(rest[1].sum())))
        return solve(linear, box, place, *rest)

    monkeypatch.setattr(walking, "_solve_neurons", noted)
    graph = deep(2)
    box = boxes(2, 2.0)  # in so large boxes every neuron stays unstable
    tighten(graph, box, interval_bounds(graph, box), Counted(), tails=shallow_tail)
    for (length, sample), (next_length, rest) in pairwise(asked):
        if length < len(graph.nodes):
            assert next_length == len(graph.nodes)
            assert sample <= rest // 15 + 1
    assert any(length < len(graph.nodes) for length, _ in asked)
