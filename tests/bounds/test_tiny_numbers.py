"""Bounds of numbers near the least one of float64, compared with fractions."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch

from tests.exact_graph import exact_rows, exact_values, holds
from verify_pipeline.bounds import interval_bounds, interval_margins
from verify_pipeline.bounds.relaxations.relu import lines
from verify_pipeline.network.graph import GraphBuilder
from verify_pipeline.network.ops import Linear, MatMul, Reshape, Softmax
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
SIZES = (5e-324, 1e-323, 1e-320, 2e-308, 1e-300, 1e-200, 1e-16, 1.0, 10.0, 1e16, 1e30, 1e300)


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_a_chord_passes_above_both_ends(slope: float) -> None:
    below, above = torch.tensor(list(itertools.product(SIZES, SIZES)), dtype=F64).T
    found = lines(slope, -below.unsqueeze(0), above.unsqueeze(0))
    assert bool((found.offset > 0).all())
    rounding = found.rounding([torch.maximum(below, above)])
    ends = zip(below.tolist(), above.tolist(), found.up[0], found.offset[0], strict=True)
    for n, (low, high, up, offset) in enumerate(ends):
        error = Fraction(0) if rounding is None else Fraction(float(rounding[n]))
        for z, value in ((-Fraction(low), -Fraction(slope) * Fraction(low)), (Fraction(high),) * 2):
            assert Fraction(float(up)) * z + Fraction(float(offset)) + error >= value, (low, high)


def test_a_mean_of_tiny_values() -> None:
    """Each product of a weight and a value is rounded to 0, but their sum is not 0."""
    builder = GraphBuilder((4,), dtype=F64)
    shares = builder.add(Softmax(1), builder.add(Reshape((1, 4)), 0))
    least = torch.tensor([[5e-324]] * 3 + [[0.0]], dtype=F64)
    scaled = builder.add(Linear(torch.zeros(4, 4, dtype=F64), least.flatten()), 0)
    mean = builder.add(MatMul(), shares, builder.add(Reshape((4, 1)), scaled))
    graph = builder.build(mean)
    point = torch.zeros(1, 4, dtype=F64)
    bounds, exact = interval_bounds(graph, Box(point, point)), exact_values(graph, point[0])
    value = exact[mean].flatten().tolist()
    assert 0 < value[0] < Fraction(5e-324)
    assert holds(bounds.lower[mean], value)
    assert holds(-bounds.upper[mean], [-value[0]])


def test_rows_whose_products_with_weights_are_rounded_to_zero() -> None:
    builder = GraphBuilder((1,), dtype=F64)
    builder.add(Linear(torch.full((1, 1), 1e-150, dtype=F64), None), 0)
    graph, point = builder.build(), torch.full((1, 1), 1e28, dtype=F64)
    spec = Specification(
        torch.full((1, 1, 1), -1e-200, dtype=F64), torch.full((1, 1), 5e-324, dtype=F64)
    )
    (exact,) = exact_rows(spec.rows[0], spec.offsets[0], exact_values(graph, point[0])[-1])
    assert exact < 0
    assert Fraction(float(interval_margins(graph, Box(point, point), spec))) <= exact
