"""Short walks end at late layers: their bounds hold, and functionals that pass by are refused."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from tests.bounds.test_rounding_terms import at, margin, summands, wide
from tests.exact_graph import exact_rows, exact_values
from tests.networks import conv_mlp
from tests.networks_by_hand import chain, linear
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    late_margins,
    needed_places,
)
from verify_pipeline.bounds.linear.backward import lower_bounds, of_margins
from verify_pipeline.bounds.linear.crown import late_bottlenecks, late_ends
from verify_pipeline.bounds.relaxations.relaxed_graph import linearise
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, Elementwise, Linear, Relu
from verify_pipeline.problem import Box, Specification

F64 = torch.float64


def short(graph: Graph, box: Box, spec: Specification, bounds: NodeBounds) -> Tensor:
    """With all rows at once, and all the time."""
    return late_margins(graph, box, spec, bounds, spec.offsets.shape[1], lambda: True)


def residual() -> Graph:
    """Linear 1, ReLU 2, linear 3, sum 4 of 1 and 3, ReLU 5, linear 6."""
    b = GraphBuilder((2,))
    first = b.add(Linear(torch.tensor([[1.0, 1.0], [1.0, -1.0]])), 0)
    branch = b.add(Linear(torch.tensor([[1.0, 0.0], [0.0, 2.0]])), b.add(Relu(), first))
    joined = b.add(Relu(), b.add(Add(), first, branch))
    return b.build(b.add(Linear(torch.tensor([[1.0, 1.0]])), joined)).to(F64)


def asked(graph: Graph, offset: float) -> tuple[Box, Specification, NodeBounds]:
    box = Box(torch.zeros(1, 2, dtype=F64), torch.ones(1, 2, dtype=F64))
    one = torch.ones(1, 1, 1, dtype=F64)
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    return box, Specification(one, offset * one[0]), bounds


def test_every_path_passes_through_a_bottleneck() -> None:
    assert list(late_bottlenecks(residual())) == [5, 4, 1]
    assert list(
        late_bottlenecks(chain((2,), linear([[1, 2], [3, 4]]), Relu(), linear([[1, 1]])))
    ) == [
        2,
        1,
    ]


def test_a_shortcut_may_come_first_or_last() -> None:
    """Linear 1, ReLU 2, linear 3, sum 4 of 3 and 1, ReLU 5, linear 6."""
    b = GraphBuilder((2,))
    first = b.add(Linear(torch.eye(2)), 0)
    branch = b.add(Linear(torch.eye(2)), b.add(Relu(), first))
    joined = b.add(Relu(), b.add(Add(), branch, first))
    assert list(late_bottlenecks(b.build(b.add(Linear(torch.ones(1, 2)), joined)))) == [5, 4, 1]


def test_walks_end_near_the_output_where_there_are_bounds() -> None:
    graph = chain((2,), linear([[1, 2], [3, 4]]), Relu(), linear([[1, 1]]))
    box = Box(torch.zeros(1, 2, dtype=F64), torch.ones(1, 2, dtype=F64))
    bounds = interval_bounds(graph, box)
    assert late_ends(graph, bounds) == [2]  # one of seven numbers is behind it; behind 1, three
    assert late_ends(graph, bounds.only((1,))) == []
    assert late_ends(residual(), interval_bounds(residual(), box)) == [5, 4]


def twins(inputs: int = 20) -> Graph:
    """``f = relu(relu(x_0) + 1) - relu(relu(x_0) + 1)``; linear layers are nodes 1, 3 and 5."""
    first = [1.0] + [0.0] * (inputs - 1)
    layers = linear([first, first]), Relu(), linear([[1, 0], [1, 0]], [1, 1]), Relu()
    return chain((inputs,), *layers, linear([[1, -1]]))


def unit(graph: Graph) -> tuple[Box, Specification, NodeBounds]:
    """The box [0, 1] of each input, the output itself, and the bounds that CROWN needs."""
    shape = (1, *graph.input_shape)
    box = Box(torch.zeros(shape, dtype=F64), torch.ones(shape, dtype=F64))
    bounds = interval_bounds(graph, box).only(needed_places(graph))
    rows = torch.eye(graph.outputs, dtype=F64).unsqueeze(0)
    return box, Specification(rows, rows[:, 0] * 0), bounds


def test_the_second_walk_knows_what_neurons_have_in_common() -> None:
    """At node 3, each neuron lies in [1, 2], whatever the other does; both depend on one."""
    graph = twins()
    box, spec, bounds = unit(graph)
    assert late_ends(graph, bounds) == [3, 1]
    assert float(short(graph, box, spec, bounds)) == pytest.approx(0)
    first = {place: bounds.lower[place] for place in (3,)}, {3: bounds.upper[3]}
    (end,) = late_ends(graph, NodeBounds(*first))
    there = Box(bounds.lower[end], bounds.upper[end])
    found = lower_bounds(linearise(graph, box, bounds), there, of_margins(graph, spec), end=end)
    assert float(found.lower) == pytest.approx(-1)


def test_nothing_may_arrive_at_the_end() -> None:
    """A sine is bounded by constants, here by -1; its inputs have another shape than the input."""
    first = [[1.0] + [0.0] * 39, [0.0] * 39 + [1.0]]
    wide_ = linear([[1, 0], [0, 1], [9, 9], [9, -9], [-9, 9]])
    graph = chain((40,), linear(first), Relu(), wide_, Elementwise("sin"), linear([[1] * 5], [9]))
    box, spec, bounds = unit(graph)
    assert late_ends(graph, bounds) == [4, 1]
    assert 4 - 1e-9 <= float(short(graph, box, spec, bounds)) <= 9 + 2


def test_rows_part_by_part_are_those_at_once_as_far_as_time_goes() -> None:
    """A whole walk holds 25 coefficients of a row at most, a short one 8: three times less."""
    last = linear([[1, 0, 0], [0, 1, 1], [0, 0, -1], [1, 1, 1], [-1, 2, 0]])
    graph = chain((22,), linear([[1.0] * 22] * 3), Relu(), last)
    box, spec, bounds = unit(graph)
    assert late_ends(graph, bounds) == [1]
    whole = short(graph, box, spec, bounds)
    torch.testing.assert_close(late_margins(graph, box, spec, bounds, 1, lambda: True), whole)
    answers = iter([True, False])
    found = late_margins(graph, box, spec, bounds, 1, lambda: next(answers))
    torch.testing.assert_close(found[:, :3], whole[:, :3])
    assert found[0, 3:].tolist() == [-torch.inf] * 2
    assert bool((late_margins(graph, box, spec, bounds, 5, lambda: False) == -torch.inf).all())


def test_rounding_behind_the_end_is_taken_off() -> None:
    """Torch sums 1 and thousands of 2^-54 in an order that loses them, behind a ReLU's input."""
    graph = chain((1,), linear([[1.0]]), Relu(), Linear(summands().unsqueeze(1)), wide())
    box = at(1.0, 3.0, shape=(1,))
    bounds = interval_bounds(graph, box)
    there = Box(bounds.lower[1], bounds.upper[1])
    for sign in (1.0, -1.0):
        spec = margin(sign, 2)
        relaxed = linearise(graph, box, bounds)
        lower = lower_bounds(relaxed, there, of_margins(graph, spec), end=1).lower
        for n in range(2):
            outputs = exact_values(graph, box.lower[n])[-1]
            (exact,) = exact_rows(spec.rows[n], spec.offsets[n], outputs)
            assert Fraction(float(lower[n])) <= exact


def test_a_short_walk_by_hand() -> None:
    """The sum lies in [0, 4] and [-1, 3]; its ReLUs' outputs in [0, 4] and [0, 3]; f >= 0."""
    graph = residual()
    box, spec, _ = asked(graph, 0.25)
    bounds = interval_bounds(graph, box)
    assert bounds.lower[4].tolist() == [pytest.approx([0, -1])]
    assert float(short(graph, box, spec, bounds)) == pytest.approx(0.25)


@pytest.mark.parametrize("end", [2, 3])
def test_functionals_that_pass_by_the_end_are_refused(end: int) -> None:
    graph = residual()
    box, spec, bounds = asked(graph, 0.0)
    there = Box(bounds.lower[end], bounds.upper[end])
    with pytest.raises(ValueError, match=f"functionals of node 6 pass by node {end}"):
        lower_bounds(linearise(graph, box, bounds), there, of_margins(graph, spec), end=end)


@pytest.mark.parametrize("end", [1, 4, 5])
def test_a_walk_may_end_at_every_bottleneck(end: int) -> None:
    graph = residual()
    box, spec, bounds = asked(graph, 0.0)
    there = Box(bounds.lower[end], bounds.upper[end])
    linear_graph = linearise(graph, box, bounds)
    found = lower_bounds(linear_graph, there, of_margins(graph, spec), end=end).lower
    assert float(found) <= 1e-12  # the exact minimum, at x = 0
    assert float(found) >= -1.5


@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold_and_some_are_as_good_as_those_of_whole_walks(seed: int) -> None:
    layers = [(4, 3, 1, 0), (6, 4, 2, 0)]
    graph = conv_mlp(seed, (1, 8, 8), layers, (24, 24), outputs=4, bias=0.25).to(F64)
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(20, 1, 8, 8, dtype=F64, generator=generator)
    box = Box.around(images, torch.linspace(0, 0.1, 20, dtype=F64).view(-1, 1, 1, 1))
    spec = Specification.margins(graph(images).argmax(1), 4, F64)
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    found = short(graph, box, spec, bounds)
    points = box.lower + (box.upper - box.lower) * torch.rand(200, 20, 1, 8, 8, dtype=F64)
    margins = torch.stack([spec.values(graph(each)) for each in points]).amin(0)
    assert bool((found <= margins).all())
    whole = crown_margins(graph, box, spec, bounds).lower
    assert 0 < int((found > 0).sum()) <= int((whole > 0).sum())


def test_without_bounds_of_late_values_nothing_is_known() -> None:
    graph = residual()
    box, spec, bounds = asked(graph, 9.0)
    infinite = NodeBounds(
        {place: torch.full_like(value, -torch.inf) for place, value in bounds.lower.items()},
        {place: torch.full_like(value, torch.inf) for place, value in bounds.upper.items()},
    )
    assert float(short(graph, box, spec, infinite)) == -torch.inf
    crossed = NodeBounds(bounds.upper, bounds.lower)
    assert float(short(graph, box, spec, crossed)) == -torch.inf
