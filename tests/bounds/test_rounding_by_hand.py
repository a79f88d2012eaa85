"""Rounding terms of a backward walk, with a unit roundoff of 2^-10 that makes them visible."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.networks_by_hand import chain, linear
from verify_pipeline.bounds import HalfspaceBox, crown_margins, interval_bounds
from verify_pipeline.bounds.linear.backward import Functional, concretise, lower_bounds
from verify_pipeline.bounds.relaxations import relu, rounding
from verify_pipeline.bounds.relaxations.base import inner
from verify_pipeline.bounds.relaxations.relaxed_graph import LinearGraph, linearise
from verify_pipeline.bounds.relaxations.relu import lines
from verify_pipeline.bounds.relaxations.rounding import NO_ROUNDING, Rounding, of_charge, of_minimum
from verify_pipeline.network.affine_error import AffineError
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import Add, Concat, Constant, Linear, Relu, Reshape, Scale
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
UNIT = 2.0**-10


def tensor(*numbers: object) -> Tensor:
    return torch.tensor(numbers, dtype=F64)


@pytest.fixture(autouse=True)
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """γ of n roundings is n times 2^-10, and sums of terms are not increased."""

    def gamma(count: int, dtype: torch.dtype) -> float:
        return count * UNIT if dtype == F64 else 0.0

    monkeypatch.setattr(rounding, "gamma", gamma)
    monkeypatch.setattr(relu, "gamma", gamma)
    monkeypatch.setattr(rounding, "UPWARD", 1.0)


def terms(graph: Graph, box: Box) -> dict[int, list[float]]:
    """The terms of a graph's nodes, in units of 2^-10."""
    found = linearise(graph, box, interval_bounds(graph, box)).rounding.terms
    return {place: (values / UNIT).tolist() for place, values in found.items()}


def test_a_linear_layer_has_the_gain_of_its_largest_row_and_its_largest_bias() -> None:
    builder = GraphBuilder((2,), dtype=F64)
    builder.add(Linear(tensor([1.0, -2.0], [0.5, 0.0], [1.0, 1.0]), tensor(0.25, -4.0, 0.0)), 0)
    box = Box(tensor([-1.0, 0.0], [0.0, 0.0]), tensor([0.5, 3.0], [0.0, 0.0]))
    # an input contributes to 3 outputs; there are 3 outputs; the rows' gains are 3, 0.5 and 2
    expected = [(3 + 8) * 3.0 * 3.0 + (3 + 8) * 4.0, (3 + 8) * 4.0]
    assert terms(builder.build(), box)[1] == pytest.approx(expected, rel=1e-5)


def test_the_error_of_constants_counts() -> None:
    builder = GraphBuilder((1,), dtype=F64)
    error = AffineError(gain=5 * UNIT, constant=7 * UNIT)
    builder.add(Scale(tensor(0.0), tensor(0.0), error), 0)
    box = Box(tensor([-1.0]), tensor([2.0]))
    assert terms(builder.build(), box)[1] == pytest.approx([5 * 2.0 + 7.0], rel=1e-5)


def test_moving_elements_is_not_rounded() -> None:
    builder = GraphBuilder((2, 2), dtype=F64)
    flat = builder.add(Reshape((4,)), 0)
    both = builder.add(Concat(0), flat, flat)
    builder.add(Add(), both, both)
    zeros = torch.zeros(1, 2, 2, dtype=F64)
    assert terms(builder.build(), Box(zeros, zeros + 1)) == {}


def test_constants_and_broadcasts_have_the_sum_of_all_elements() -> None:
    builder = GraphBuilder((1,), dtype=F64)
    constant = builder.add(Constant(tensor(1.0, -3.0, 2.0)), 0)
    builder.add(Add(), constant, 0)
    found = terms(builder.build(), Box(tensor([-2.0]), tensor([1.0])))
    assert found[1] == pytest.approx([(3 + 8) * 3.0])
    assert found[2] == pytest.approx([(3 + 8) * (3.0 + 2.0)])


def fan() -> tuple[Graph, Box]:
    """y = x0 + x0 of a scaled input, so that functionals meet at node 1."""
    builder = GraphBuilder((1,), dtype=F64)
    scaled = builder.add(Scale(tensor(1.0), tensor(3.0)), 0)
    left = builder.add(Scale(tensor(2.0), tensor(0.0)), scaled)
    builder.add(Add(), left, scaled)
    return builder.build(), Box(tensor([0.0]), tensor([0.0]))


def test_a_walk_takes_all_terms_from_its_bound() -> None:
    graph, box = fan()
    sizes, of_each = {0: tensor(0.0), 1: tensor(5.0)}, {1: tensor(0.5), 2: tensor(0.25)}
    below_normal = tensor(0.125)
    linear = LinearGraph(graph, {}, Rounding(sizes, of_each, below_normal))
    row = Functional(3, tensor([[-1.0]]), tensor([[100.0]]))
    plain = lower_bounds(LinearGraph(graph, {}, NO_ROUNDING), box, row).lower
    lost = plain - lower_bounds(linear, box, row).lower
    # coefficient -1 at node 2, -3 at node 1 after a sum; constants after each addition: 100, 91
    of_nodes = 0.25 * 1 + 0.5 * 3
    of_sums = UNIT * 5.0 * 3
    of_constants = UNIT * (100 + 91)
    # what is lost makes the constant smaller, whose rounding counts 4 times in the minimum
    expected = (0.125 + of_nodes + of_sums + of_constants) * (1 - 4 * UNIT)
    assert float(lost) == pytest.approx(expected, rel=1e-9)


def test_a_walk_that_ends_at_a_relus_input_takes_that_relus_rounding() -> None:
    """Both neurons lie in [1, 2], so that the functional there is their sum."""
    graph = chain((1,), linear([[1.0], [1.0]]), Relu(), linear([[1.0, 1.0]]))
    box = Box(tensor([1.0]), tensor([2.0]))
    bounds = interval_bounds(graph, box)
    relaxed = linearise(graph, box, bounds)
    there = Box(bounds.lower[1], bounds.upper[1])
    one = Functional(3, tensor([[1.0]]), tensor([0.0]))
    found = lower_bounds(relaxed, there, one, end=1)
    # functionals 1 and 1 of numbers of at most 2
    lost = relaxed.rounding.terms[3] + 8 * UNIT * 2.0 * (1.0 + 1.0)
    expected = concretise(tensor([[1.0, 1.0]]), -lost.reshape(1, 1), there).lower
    torch.testing.assert_close(found.lower, expected, rtol=1e-5, atol=0)


def test_float32_has_no_terms() -> None:
    graph, box = fan()
    single = graph.to(torch.float32)
    bounds = interval_bounds(single, box.to(torch.float32))
    linear = linearise(single, box.to(torch.float32), bounds)
    assert not linear.rounding.terms
    assert not linear.rounding.sizes


def test_the_minimum_over_a_box() -> None:
    box = Box(tensor([-1.0, 0.0, 0.0]), tensor([0.5, 2.0, 0.0]))
    found = of_minimum(tensor([[1.0, -1.0, 3.0]]), tensor([[-7.0]]), box)
    assert float(found) == pytest.approx(UNIT * ((3 + 8) * 2.0 * 5.0 + 4 * 7.0))
    with_it = concretise(tensor([[1.0, -1.0, 3.0]]), tensor([[-7.0]]), box).lower
    assert float(with_it) == pytest.approx(-1.0 - 2.0 - 7.0 - float(found))


def test_adding_a_half_space() -> None:
    box = Box(tensor([-1.0, 0.0]), tensor([0.5, 2.0]))
    before = tensor([[1.0, -1.0]]), tensor([[4.0]])
    after = tensor([[3.0, 0.0]]), tensor([[-5.0]])
    expected = 4 * UNIT * ((1 * 1.0 + 1 * 2.0) + 3 * 1.0 + 4 + 5)
    assert float(of_charge(before, after, box)) == pytest.approx(expected)
    cut = HalfspaceBox(box.lower, box.upper, tensor([0.0, 0.0]), tensor(-1.0))
    plain, charged = (concretise(*before, some).lower for some in (box, cut))
    assert float(plain - charged) >= 4 * UNIT * 2 * (1.0 + 2.0 + 4.0) * 0.9


def test_offsets_of_a_relu() -> None:
    found = lines(0.0, tensor([-1.0, -2.0, 1.0]), tensor([1.0, 2.0, 2.0]))
    coefficients = tensor([[-1.0, -3.0, -5.0]])
    _, constants = found.pull_back(coefficients, None)
    exact = inner(coefficients, found.offset)
    assert float(constants) == pytest.approx(float(exact) * (1 + (3 + 8) * UNIT))
    _, fixed = found.fixed.pull_back(coefficients, None)
    assert float(fixed) == pytest.approx(float(constants))
    assert found.rounding([tensor(2.0)]) is None


def test_a_leaky_relu_counts_its_lines() -> None:
    found = lines(0.1, tensor([-1.0]), tensor([1.0]))
    size = found.rounding([tensor(2.0)])
    assert size is not None
    assert float(size) == pytest.approx(2.0 * UNIT * relu.LINE_ROUNDINGS)


def test_a_relu_counts_what_arrives_at_its_input() -> None:
    builder = GraphBuilder((1,), dtype=F64)
    builder.add(Relu(), builder.add(Reshape((1,)), 0))
    found = terms(builder.build(), Box(tensor([-2.0]), tensor([1.0])))
    assert found == {1: pytest.approx([8 * 2.0])}


def test_margins_use_the_terms() -> None:
    graph, box = fan()
    spec = Specification(tensor([[1.0]]), tensor([0.0]))
    found = crown_margins(graph, box, spec, interval_bounds(graph, box)).lower
    assert float(found) < 9.0 - UNIT
