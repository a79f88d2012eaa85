"""The mixed-integer oracle against hand-computed values and exhaustive sampling."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.branching.milp import milp_margin
from verify_pipeline.bounds import interval_bounds
from verify_pipeline.branching.exact.lp_leaf import lp_leaf
from verify_pipeline.branching.tree.subproblems import Neurons
from verify_pipeline.errors import UnsupportedOperatorError
from verify_pipeline.network.graph import Graph, GraphBuilder
from verify_pipeline.network.ops import (
    Add,
    AvgPool2d,
    Concat,
    Conv2d,
    Elementwise,
    LeakyRelu,
    Linear,
    Op,
    Relu,
    Reshape,
)
from verify_pipeline.problem import Box, Specification

F64 = torch.float64


def absolute_value(activation: Op) -> Graph:
    """f(x) = act(x) + act(-x) - 0.25 of one input."""
    builder = GraphBuilder((1,))
    both = builder.add(Linear(torch.tensor([[1.0], [-1.0]])), 0)
    active = builder.add(activation, both)
    builder.add(Linear(torch.tensor([[1.0, 1.0]]), torch.tensor([-0.25])), active)
    return builder.build().to(F64)


def one_row(outputs: int = 1, n: int = 1) -> Specification:
    rows = torch.zeros(n, 1, outputs, dtype=F64)
    rows[..., 0] = 1
    return Specification(rows, torch.zeros(n, 1, dtype=F64))


def interval(low: float, high: float) -> Box:
    return Box(torch.tensor([[low]], dtype=F64), torch.tensor([[high]], dtype=F64))


def test_the_least_of_an_absolute_value_is_at_its_kink() -> None:
    exact = milp_margin(absolute_value(Relu()), interval(-1, 2), one_row(), 0)
    assert exact.value.item() == pytest.approx(-0.25, abs=1e-7)
    assert exact.lower.item() == pytest.approx(-0.25, abs=1e-7)
    assert exact.points.item() == pytest.approx(0, abs=1e-6)


def test_a_leaky_activation_keeps_its_slope() -> None:
    # act(x) + act(-x) = 0.5 |x| at slope 0.5; least over [0.5, 2] is 0.25, minus 0.25.
    exact = milp_margin(absolute_value(LeakyRelu(0.5)), interval(0.5, 2), one_row(), 0)
    assert exact.value.item() == pytest.approx(0.0, abs=1e-7)
    exact = milp_margin(absolute_value(LeakyRelu(0.5)), interval(-1, 2), one_row(), 0)
    assert exact.value.item() == pytest.approx(-0.25, abs=1e-7)


def residual_conv() -> Graph:
    torch.manual_seed(3)
    builder = GraphBuilder((1, 4, 4))
    first = builder.add(Conv2d(torch.randn(2, 1, 3, 3), torch.randn(2), padding=(1, 1)), 0)
    active = builder.add(Relu(), first)
    second = builder.add(Conv2d(torch.randn(2, 2, 3, 3) / 3, None, padding=(1, 1)), active)
    joined = builder.add(Relu(), builder.add(Add(), first, second))
    pooled = builder.add(AvgPool2d((2, 2), (2, 2)), builder.add(Concat(0), joined, active))
    flat = builder.add(Reshape((16,)), pooled)
    builder.add(Linear(torch.randn(3, 16)), flat)
    return builder.build().to(F64)


def test_a_residual_network_never_goes_below_the_proven_bound() -> None:
    graph = residual_conv()
    center = torch.rand(1, 1, 4, 4, dtype=F64)
    box = Box.around(center, 0.05)
    spec = Specification.margins(torch.tensor([1]), 3, F64)
    exact = milp_margin(graph, box, spec, 0)
    samples = box.lower + torch.rand(20_000, 1, 4, 4, dtype=F64) * 2 * box.radius
    sampled = spec.values(graph(samples)) if len(spec.rows) > 1 else graph(samples) @ spec.rows[0].T
    assert bool((sampled.amin(0) >= exact.lower - 1e-6).all())
    reached = (graph(exact.points) @ spec.rows[0].T).diagonal()
    assert torch.allclose(reached, exact.value, atol=1e-6)
    assert torch.allclose(exact.value, exact.lower, atol=1e-6)


def test_a_loose_gap_still_shows_the_sign() -> None:
    graph = residual_conv()
    box = Box.around(torch.rand(1, 1, 4, 4, dtype=F64), 0.05)
    spec = Specification.margins(torch.tensor([1]), 3, F64)
    tight, loose = milp_margin(graph, box, spec, 0), milp_margin(graph, box, spec, 0, gap=0.99)
    assert bool((loose.lower <= tight.value + 1e-6).all())
    assert bool((loose.value >= tight.value - 1e-6).all())


def test_a_smooth_network_is_refused() -> None:
    builder = GraphBuilder((1,))
    builder.add(Elementwise("sigmoid"), 0)
    with pytest.raises(UnsupportedOperatorError, match="Elementwise"):
        milp_margin(builder.build().to(F64), interval(0, 1), one_row(), 0)


def by_enumeration(graph: Graph, box: Box, spec: Specification) -> Tensor:
    """The least value of every row over all patterns of the unstable activations, one LP each."""
    bounds = interval_bounds(graph, box)
    neurons = Neurons.of(graph)
    unstable = neurons.unstable(bounds)[0].nonzero().squeeze(1)
    least = torch.full_like(spec.offsets[0], torch.inf)
    for signs in itertools.product((-1, 1), repeat=len(unstable)):
        flat = torch.zeros(1, sum(neurons.sizes), dtype=torch.int8)
        flat[0, unstable] = torch.tensor(signs, dtype=torch.int8)
        least = torch.minimum(
            least, lp_leaf(graph, box, spec, bounds, neurons.unflatten(flat)).lower
        )
    return least


@pytest.mark.parametrize("seed", range(6))
def test_the_integer_program_agrees_with_all_linear_programs(seed: int, make_mlp: Any) -> None:
    graph = make_mlp(seed, 3, (4, 4)).to(F64)
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(1, 3, dtype=F64, generator=generator)
    box = Box.around(image, 0.2)
    spec = Specification.margins(graph(image).argmax(1), 3, F64)
    exact = milp_margin(graph, box, spec, 0)
    every = by_enumeration(graph, box, spec)
    assert torch.allclose(exact.value, every, atol=1e-6)
    assert torch.allclose(exact.lower, every, atol=1e-6)


def test_a_program_whose_optimum_presolve_cuts_off(make_conv: Any) -> None:
    graph = make_conv(4)
    generator = torch.Generator().manual_seed(4)
    images = torch.rand(18, 1, 4, 4, generator=generator)
    epsilon = torch.logspace(-2, -0.3, 18)[torch.randperm(18, generator=generator)]
    image, box = images[10:11], Box.around(images[10:11], epsilon[10])
    spec = Specification.margins(graph(image).argmax(1), 3).to(F64)
    exact = milp_margin(graph.to(F64), box.to(F64), spec, 0)
    # 0.1667 with presolve and tolerances of 1e-9
    assert exact.value.min().item() == pytest.approx(0.16230, abs=1e-4)
