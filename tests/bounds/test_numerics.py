"""Numbers that overflow or are none: bounds say that they know nothing, never more."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from tests.networks_by_hand import chain, linear
from verify_pipeline.bounds import (
    MemoryBudget,
    Multipliers,
    OptimiseSettings,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    interval_margins,
    optimise,
    optimise_intermediate,
)
from verify_pipeline.bounds.precision import full_precision
from verify_pipeline.bounds.types import sound_lower, sound_upper
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import Elementwise, LeakyRelu, Op, Relu
from verify_pipeline.problem import Box, Specification

BOX = Box(torch.tensor([[-1.0], [0.5]]), torch.tensor([[1.0], [1.0]]))
SPEC = Specification(torch.tensor([[[1.0], [-1.0]]] * 2), torch.zeros(2, 2))
BUDGET = MemoryBudget(bytes=1 << 20)


def network(weight: float, activation: Op) -> Graph:
    first, second = linear([[weight], [-weight]]), linear([[1, -1], [0.5, 2]])
    layers = first, activation, second, Relu(), linear([[1, 1]])
    return chain((1,), *layers, dtype=torch.float32)


@pytest.mark.parametrize("activation", [Relu(), LeakyRelu(0.1), Elementwise("exp")])
@pytest.mark.parametrize("weight", [math.nan, math.inf, 3e38, 2e38, 1e30])
def test_bounds_are_below_the_truth_or_unknown(weight: float, activation: Op) -> None:
    graph = network(weight, activation)
    start = interval_bounds(graph, BOX)
    bounds = crown_intermediate(graph, BOX, start, BUDGET)
    better = optimise_intermediate(graph, BOX, start, OptimiseSettings(iterations=3), BUDGET)
    exact = graph.to(torch.float64)
    points = torch.stack([BOX.lower, BOX.center, BOX.upper]).double()
    margins = torch.stack([SPEC.to(torch.float64).values(exact(p)) for p in points])
    least = margins.nan_to_num(nan=-math.inf).amin(0)
    for lower in (
        interval_margins(graph, BOX, SPEC),
        crown_margins(graph, BOX, SPEC, bounds).lower,
        crown_margins(graph, BOX, SPEC, better).lower,
        optimise(graph, BOX, SPEC, bounds, OptimiseSettings(iterations=3))[0].lower,
    ):
        assert not lower.isnan().any()
        assert (lower.double() <= least + 1e-6 * least.abs().nan_to_num(posinf=0.0)).all()


def test_multipliers_out_of_range_prove_nothing_wrong() -> None:
    graph = chain((1,), linear([[1]]), Relu(), linear([[1]]), dtype=torch.float32)
    box, spec = BOX[:1], Specification(torch.ones(1, 1, 1), torch.zeros(1, 1))
    bounds = interval_bounds(graph, box)
    splits = {2: torch.tensor([[1]], dtype=torch.int8)}
    # α of -3 would say relu(z) >= -3 z, which is 3 at z = -1
    wild = Multipliers({2: torch.full((1, 1, 1), -3.0)}, {})
    assert crown_margins(graph, box, spec, bounds, wild).lower.item() == 0.0
    # a negative β would add what the split takes away
    wild = Multipliers({}, {2: torch.full((1, 1, 1), -3.0)})
    assert crown_margins(graph, box, spec, bounds, wild, splits).lower.item() == -1.0
    unknown = Multipliers({2: torch.full((1, 1, 1), math.nan)}, {})
    assert crown_margins(graph, box, spec, bounds, unknown).lower.item() == -math.inf


def test_full_precision_is_given_back() -> None:
    switch: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]  # not in its stubs
    before = switch.fp32_precision
    with full_precision():
        assert switch.fp32_precision == "ieee"
    assert switch.fp32_precision == before
    with pytest.raises(ZeroDivisionError), full_precision():
        raise ZeroDivisionError
    assert switch.fp32_precision == before


def test_only_finite_lower_bounds_count() -> None:
    lower = torch.tensor([1.0, -2.0, torch.inf, -torch.inf, torch.nan])
    expected = torch.tensor([1.0, -2.0, -torch.inf, -torch.inf, -torch.inf])
    assert torch.equal(sound_lower(lower), expected)
    assert torch.equal(sound_upper(-lower), -expected)
