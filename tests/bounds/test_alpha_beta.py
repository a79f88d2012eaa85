"""Bounds of neurons under splits: they hold where the splits do, and β makes them tighter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.networks import conv_mlp, mlp
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    clamp_to_splits,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    optimise,
    optimise_intermediate,
)
from verify_pipeline.network.graph import Graph
from verify_pipeline.problem import Box, Specification

SETTINGS = OptimiseSettings(iterations=15, lr_alpha=0.3, lr_beta=0.2, decay=0.95)


def dense(seed: int) -> Graph:
    return mlp(seed, 3, (8, 8, 8), outputs=2, gain=1.0, bias=0.0)


def planes(seed: int) -> Graph:
    """Planes so large that the neurons of the second convolution see windows of them."""
    return conv_mlp(seed, (1, 12, 12), [(2, 3, 1, 1)] * 3, outputs=2, bias=0.0)


def samples(box: Box, count: int) -> torch.Tensor:
    shape = (count, *box.lower.shape[1:])
    return box.lower + 2 * box.radius * torch.rand(shape, dtype=torch.float64)


@pytest.mark.parametrize("make", [dense, planes])
@pytest.mark.parametrize("seed", range(2))
def test_bounds_hold_on_the_domain_and_gain_from_beta(
    make: Callable[[int], Graph], seed: int
) -> None:
    torch.manual_seed(seed)
    graph, first = make(seed).to(torch.float64), 2
    box = Box.around(torch.rand(1, *graph.input_shape, dtype=torch.float64), 0.5)
    budget = MemoryBudget()
    root = crown_intermediate(graph, box, interval_bounds(graph, box), budget)
    source = graph.nodes[first].inputs[0]
    values = graph.values(samples(box, 20000))
    z = values[source].flatten(1)
    # the two neurons that points are on both sides of most evenly, and the sides with most points
    picked = ((z > 0).double().mean(0) - 0.5).abs().argsort()[:2]
    quarter = torch.bincount((z[:, picked] > 0).long() @ torch.tensor([2, 1]), minlength=4).argmax()
    sides = 2 * torch.stack([quarter // 2, quarter % 2]) - 1
    splits = {first: torch.zeros(1, *graph.nodes[first].shape, dtype=torch.int8)}
    flat = splits[first].flatten()
    flat[picked] = sides.to(torch.int8)
    splits = {first: flat.view_as(splits[first])}
    with_beta = optimise_intermediate(graph, box, root, SETTINGS, budget, splits=splits)
    cut = clamp_to_splits(root, graph, splits)
    without = optimise_intermediate(graph, box, cut, SETTINGS, budget)
    inside = (sides * z[:, picked] >= 0).all(1)
    assert int(inside.sum()) > 20
    for place, lower in with_beta.lower.items():
        assert bool((values[place][inside] >= lower).all())
        assert bool((values[place][inside] <= with_beta.upper[place]).all())
    assert widths(with_beta, source) < widths(without, source) - 1e-4


def widths(bounds: NodeBounds, source: int) -> float:
    """The sum of all widths behind a place."""
    pairs = ((bounds.lower[p], bounds.upper[p]) for p in bounds.lower if p > source)
    return sum(float((upper - lower).sum()) for lower, upper in pairs)


def test_an_ascent_that_overshoots_keeps_its_best_slopes() -> None:
    """Steps as long as the range of α: later ones are worse, and none of them is taken."""
    overshot = 0
    for seed in range(4):
        graph = dense(seed).to(torch.float64)
        box = Box.around(torch.full((1, 3), 0.5, dtype=torch.float64), 0.4, clip=None)
        spec = Specification.margins(torch.tensor([0]), 2, torch.float64)
        spec = Specification(spec.rows, spec.offsets - 10)  # no row is ever verified
        bounds = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
        lowers = []
        for steps in range(10):
            settings = OptimiseSettings(iterations=steps, lr_alpha=5.0, decay=1.0)
            found, slopes = optimise(graph, box, spec, bounds, settings)
            again = crown_margins(graph, box, spec, bounds, slopes).lower
            assert float(found.lower) == pytest.approx(float(again), abs=1e-12)
            lowers.append(float(found.lower))
        assert lowers == sorted(lowers)
        overshot += len(set(lowers)) < len(lowers)
    assert overshot
