"""Neurons are laid out once each, and bounded on their likelier side first, with fixed lines."""

from __future__ import annotations

import pytest
import torch

from tests.networks import conv_mlp
from verify_pipeline.bounds import MemoryBudget, NodeBounds, crown_intermediate, interval_bounds
from verify_pipeline.bounds.intermediate.neuron_batches import Rows
from verify_pipeline.bounds.linear.backward import Functional, lower_bounds
from verify_pipeline.bounds.relaxations.relaxed_graph import linearise
from verify_pipeline.bounds.relaxations.relu import lines
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Conv2d, LeakyRelu, Linear, Op, Relu
from verify_pipeline.problem import Box

F64 = torch.float64
ACTIVATIONS = (Relu(), LeakyRelu(0.2))


def network(activation: Op) -> Graph:
    """About half of all neurons is unstable over boxes of ±0.1."""
    layers = [(4, 3, 1, 0), (6, 4, 2, 0)]
    return conv_mlp(2, (2, 8, 8), layers, (20, 20), 3, activation, bias=0.7).to(F64)


@pytest.mark.parametrize("longest", [1, 3, 1000])
def test_rows_hold_every_neuron_that_is_asked_for(longest: int) -> None:
    mask = torch.zeros(5, 4, 6, dtype=torch.bool)
    mask[0] = True
    mask[2, 1, 3] = True
    mask[4, :, 2] = True
    rows = Rows(mask, longest)
    assert rows.neurons.shape[1] <= longest
    seen = torch.zeros(5, 24, dtype=torch.int)
    for part in rows.parts(7, 2):
        seen[rows.instance[part].unsqueeze(1), rows.neurons[part]] = 1
    assert torch.equal(seen.bool(), mask.flatten(1))


def test_rows_of_nothing_are_none() -> None:
    rows = Rows(torch.zeros(3, 4, dtype=torch.bool), 8)
    assert list(rows.parts(100, 2)) == []


def test_parts_stay_below_their_limit() -> None:
    rows = Rows(torch.ones(9, 40, dtype=torch.bool), 16)
    width = rows.neurons.shape[1]
    for part in rows.parts(64, 2):
        assert 2 * width * len(rows.instance[part]) <= 64


@pytest.fixture(params=ACTIVATIONS, ids=lambda op: type(op).__name__)
def found(request: pytest.FixtureRequest) -> tuple[Graph, Box, NodeBounds]:
    torch.manual_seed(2)
    graph = network(request.param)
    box = Box.around(torch.rand(5, 2, 8, 8, dtype=F64), 0.1)
    return graph, box, crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())


def test_signs_are_those_of_bounds_on_both_sides(found: tuple[Graph, Box, NodeBounds]) -> None:
    graph, box, bounds = found
    # with lines that are free, of whole networks, and functionals that stand at the neurons
    linear, settled, open_ = linearise(graph, box, bounds), 0, 0
    for place, node in enumerate(graph.nodes):
        if not isinstance(graph.nodes[place - 1].op, (Conv2d, Linear)) or place < 4:
            continue
        inputs = place - 1
        if not isinstance(node.op, Relu | LeakyRelu):
            continue
        size = graph.nodes[inputs].shape
        one_hot = torch.eye(torch.Size(size).numel(), dtype=F64)
        rows = torch.cat([one_hot, -one_hot]).view(1, -1, *size).expand(5, *[-1] * (1 + len(size)))
        functional = Functional(inputs, rows, rows.new_zeros(rows.shape[:2]))
        below, above = lower_bounds(linear, box, functional).lower.chunk(2, 1)
        lower, upper = (t[inputs].flatten(1) for t in (bounds.lower, bounds.upper))
        unstable = (lower < 0) & (upper > 0)
        assert (lower >= below - 1e-11)[unstable].all()
        assert (upper <= -above + 1e-11)[unstable].all()
        assert (unstable | (lower >= 0) | (upper <= 0)).all()
        # nothing that both sides settle is left open
        assert not (unstable & ((below > 1e-11) | (above > 1e-11))).any()
        settled += int((~unstable).sum())
        open_ += int(unstable.sum())
    assert settled > 50
    assert open_ > 50


def test_bounds_hold_for_samples(found: tuple[Graph, Box, NodeBounds]) -> None:
    graph, box, bounds = found
    points = box.lower + (box.upper - box.lower) * torch.rand(300, *box.lower.shape, dtype=F64)
    points[:100] = points[:100].round()  # corners of [0, 1] that lie outside are brought back
    points = points.clamp(box.lower, box.upper)
    for place, value in enumerate(graph.values(points.flatten(0, 1))):
        values = value.unflatten(0, (300, 5))
        assert (values >= bounds.lower[place]).all()
        assert (values <= bounds.upper[place]).all()


def test_the_other_side_is_bounded_only_where_the_neuron_is_not_inactive() -> None:
    torch.manual_seed(2)
    graph = network(Relu())
    box = Box.around(torch.rand(5, 2, 8, 8, dtype=F64), 0.1)
    asked = 0

    def has_time() -> bool:
        nonlocal asked
        asked += 1
        return True

    start = interval_bounds(graph, box)
    bounds = crown_intermediate(graph, box, start, MemoryBudget(bytes=1), has_time)
    first = second = layers = 0
    for place in bounds.lower:
        if isinstance(graph.nodes[place].op, (Conv2d, Linear)) and place not in (1, 10):
            before = (start.lower[place] < 0) & (start.upper[place] > 0)
            second += int((before & (bounds.upper[place] > 0)).sum())
            first += int(before.sum())
            layers += 1
    # the clock is asked for each layer and each functional, as there is room for one at a time;
    # intervals of tightened layers ask for no more than intervals alone
    assert first / 2 < asked - layers <= first + second < 2 * first


def test_behind_leaky_relus_both_sides_are_bounded() -> None:
    """How far an inactive neuron goes below 0 moves what is behind one."""
    box = Box.around(torch.zeros(1, 4, dtype=F64), 1.0, clip=None)
    for activation in ACTIVATIONS:
        torch.manual_seed(3)
        first, second = Linear(torch.randn(8, 4), None), torch.randn(8, 8)
        builder = GraphBuilder((4,))
        x = builder.add(activation, builder.add(first, 0))
        x = builder.add(activation, builder.add(Linear(second, torch.full((8,), -7.0)), x))
        graph = builder.build(builder.add(Linear(torch.randn(2, 8), None), x)).to(F64)
        start = interval_bounds(graph, box)
        bounds = crown_intermediate(graph, box, start, MemoryBudget())
        unstable = (start.lower[3] < 0) & (start.upper[3] > 0)
        inactive = unstable & (bounds.upper[3] <= 0)
        assert bool(inactive.any())
        tighter = bounds.lower[3][inactive] > start.lower[3][inactive]
        assert bool(tighter.all()) is isinstance(activation, LeakyRelu)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_fixed_lines_are_the_usual_ones(slope: float) -> None:
    torch.manual_seed(0)
    lower = torch.tensor([[-1.0, -3.0, 0.0, 1.0, -2.0, -2.0]], dtype=F64)
    upper = torch.tensor([[2.0, 1.0, 2.0, 3.0, 0.0, -1.0]], dtype=F64)
    free = lines(slope, lower, upper)
    rows, z = torch.randn(2, 1, 7, 6, dtype=F64)
    expected = free.pull_back(rows, None)
    found = free.fixed.pull_back(rows, None)
    torch.testing.assert_close(found, expected, atol=1e-15, rtol=1e-15)
    torch.testing.assert_close(
        free.fixed.follow(rows, None, [z]), free.follow(rows, None, [z]), atol=1e-15, rtol=1e-15
    )
    # by hand: the neuron in [-1, 2] has the chord (2 - slope · -1) / 3 and is active by area
    chord = (2 + slope) / 3
    assert (free.fixed.below + free.fixed.more)[0, 0].item() == pytest.approx(chord)
    assert free.fixed.below[0].tolist() == pytest.approx([1, slope, 1, 1, slope, slope])
