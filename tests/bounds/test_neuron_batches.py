"""Neurons are bounded on their likelier side first, with lines of which none is free."""

from typing import Any

import pytest
import torch

from verify_pipeline.bounds import MemoryBudget, NodeBounds, crown_intermediate, interval_bounds
from verify_pipeline.bounds.intermediate import neuron_batches as problems
from verify_pipeline.bounds.linear.backward import Functional, lower_bounds, of_neurons
from verify_pipeline.bounds.relaxations.relaxed_graph import linearise
from verify_pipeline.bounds.relaxations.relu import lines
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Conv2d, LeakyRelu, Linear, Relu, Reshape
from verify_pipeline.problem import Box

F64 = torch.float64
ACTIVATIONS = (Relu(), LeakyRelu(0.2))


def network(activation: Relu | LeakyRelu) -> Graph:
    """Convolutions, one of them of stride 2, and linear layers; about half of all is unstable."""
    b = GraphBuilder((2, 8, 8))
    x = b.add(activation, b.add(Conv2d(torch.randn(4, 2, 3, 3) / 3, torch.randn(4) / 2), 0))
    x = b.add(activation, b.add(Conv2d(torch.randn(6, 4, 4, 4) / 5, torch.randn(6), (2, 2)), x))
    x = b.add(Reshape((24,)), x)
    for width in (20, 20):
        before = b.shape(x)[0]
        linear = Linear(torch.randn(width, before) / before**0.5, torch.randn(width))
        x = b.add(activation, b.add(linear, x))
    return b.build(b.add(Linear(torch.randn(3, 20)), x)).to(F64)


@pytest.fixture(params=ACTIVATIONS, ids=lambda op: type(op).__name__)
def found(request: pytest.FixtureRequest) -> tuple[Graph, Box, NodeBounds]:
    torch.manual_seed(2)
    graph = network(request.param)
    box = Box.around(torch.rand(5, 2, 8, 8, dtype=F64), 0.1)
    return graph, box, crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())


def test_signs_are_those_of_bounds_on_both_sides(found: tuple[Graph, Box, NodeBounds]) -> None:
    graph, box, bounds = found
    # with lines that are free, of whole networks, and functionals that stand at the neurons
    linear, settled, open_ = linearise(graph, bounds), 0, 0
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
        assert (values >= bounds.lower[place] - 1e-9).all()
        assert (values <= bounds.upper[place] + 1e-9).all()


def test_the_other_side_is_bounded_only_where_the_neuron_is_not_inactive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(2)
    graph = network(Relu())
    box = Box.around(torch.rand(5, 2, 8, 8, dtype=F64), 0.1)
    asked = []

    def spy(*arguments: Any) -> Functional:
        functional = of_neurons(*arguments)
        asked.append(functional.constants.numel())
        return functional

    monkeypatch.setattr(problems, "of_neurons", spy)
    monkeypatch.setattr(problems, "receptive_field", lambda *_: None)
    start = interval_bounds(graph, box)
    bounds = crown_intermediate(graph, box, start, MemoryBudget(bytes=1))
    first = second = 0
    for place in bounds.lower:
        if isinstance(graph.nodes[place].op, (Conv2d, Linear)) and place not in (1, 10):
            before = (start.lower[place] < 0) & (start.upper[place] > 0)
            second += int((before & (bounds.upper[place] > 0)).sum())
            first += int(before.sum())
    # one functional a time; intervals of tightened layers ask for no more than intervals alone
    assert set(asked) == {1}
    assert len(asked) <= first + second < 2 * first


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
