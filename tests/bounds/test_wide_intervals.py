"""Intervals whose ends differ by up to 10^48 in size: sound, and tight where an end is computed."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from tests.exact_graph import fractions
from verify_pipeline.bounds.floating_point import Interval
from verify_pipeline.bounds.interval.ibp import enclose
from verify_pipeline.network.ops import Conv2d, Linear, MatMul

F64 = torch.float64


def numbers(random: torch.Generator, *shape: int) -> Tensor:
    """Numbers of either sign, of 1e-30 to 1e18, whose products float32 can hold; some are 0."""
    sizes = 10 ** (torch.rand(*shape, generator=random, dtype=F64) * 48 - 30)
    values = sizes * torch.randn(*shape, generator=random, dtype=F64)
    return values * (torch.rand(*shape, generator=random) > 0.1)


def interval(random: torch.Generator, *shape: int) -> Interval:
    one, other = numbers(random, *shape), numbers(random, *shape)
    return torch.minimum(one, other), torch.maximum(one, other)


def dot(weights: Tensor, ends: Interval) -> list[tuple[Fraction, Fraction]]:
    """The least value of ``W x`` and the sum of its terms' sizes, for each row of ``O x I``."""
    lower, upper = (fractions(end) for end in ends)
    found = []
    for row in fractions(weights):
        terms = [
            w * (low if w > 0 else high) for w, low, high in zip(row, lower, upper, strict=True)
        ]
        found.append((sum(terms, Fraction(0)), sum(map(abs, terms), Fraction(0))))
    return found


@pytest.mark.parametrize("kind", [Linear, Conv2d])
@pytest.mark.parametrize("seed", range(40))
def test_each_end_of_a_layer_has_its_own_rounding(kind: type[Linear | Conv2d], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    weight, bias = numbers(random, 4, 5), numbers(random, 4)
    lower, upper = interval(random, 5)
    op: Linear | Conv2d = Linear(weight, bias)
    box = lower.unsqueeze(0), upper.unsqueeze(0)
    if kind is Conv2d:
        op = Conv2d(weight.view(4, 5, 1, 1), bias)
        box = lower.view(1, 5, 1, 1), upper.view(1, 5, 1, 1)
    low, high = (end.flatten().tolist() for end in enclose(op, box))
    below, above = dot(weight, (lower, upper)), dot(-weight, (lower, upper))
    for o, constant in enumerate(fractions(bias)):
        for bound, (least, sizes), sign in ((low[o], below[o], 1), (-high[o], above[o], -1)):
            exact = least + sign * constant
            assert Fraction(bound) <= exact
            assert exact - Fraction(bound) <= Fraction(1e-14) * (sizes + abs(constant))


@pytest.mark.parametrize("seed", range(100))
def test_products_of_matrices_hold(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    left, right = interval(random, 1, 2, 3), interval(random, 1, 3, 2)
    lower, upper = enclose(MatMul(), left, right)
    (ll, lu), (rl, ru) = (tuple(fractions(end[0]) for end in side) for side in (left, right))
    for t in range(2):
        for d in range(2):
            products = [
                sorted([a * b for a in (ll[t, j], lu[t, j]) for b in (rl[j, d], ru[j, d])])
                for j in range(3)
            ]
            low, high = float(lower[0, t, d]), float(upper[0, t, d])
            assert Fraction(low) <= sum(some[0] for some in products)
            assert Fraction(high) >= sum(some[-1] for some in products)
