"""Tangents that rows choose: on the function's side wherever they touch, and never a loss."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.bounds.test_smooth import many_intervals
from tests.networks import mlp
from verify_pipeline.bounds import (
    MemoryBudget,
    Multipliers,
    OptimiseSettings,
    StopRule,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    optimise,
    optimise_intermediate,
)
from verify_pipeline.bounds.floating_point import greatest
from verify_pipeline.bounds.linear.relaxation_gap import margins_and_gaps
from verify_pipeline.bounds.optimise.plane_positions import PlanePositions
from verify_pipeline.bounds.relaxations.smooth import SLOPES
from verify_pipeline.bounds.relaxations.tangents import _BENDS, Tangents, tangents
from verify_pipeline.bounds.types import sound_lower
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.ops import FUNCTIONS, Elementwise
from verify_pipeline.problem import Box, Specification

F64 = torch.float64
MOVABLE = sorted(_BENDS)


def over(function: str, lower: Tensor, upper: Tensor) -> Tangents:
    found = tangents(function, lower, upper)
    assert isinstance(found, Tangents)
    return found


@pytest.mark.parametrize("function", MOVABLE)
def test_a_tangent_holds_the_function_wherever_it_touches(function: str) -> None:
    lower, upper = many_intervals(function)
    found = over(function, lower, upper)
    ends = torch.logspace(-12, -1, 40, dtype=F64)
    shares = torch.cat([torch.linspace(0, 1, 201, dtype=F64), ends, 1 - ends])
    near = torch.linspace(-6, 6, 201, dtype=F64).expand(len(lower), -1)
    x = torch.cat([torch.lerp(lower, upper, shares), near], 1).maximum(lower).minimum(upper)
    y = FUNCTIONS[function](x)
    generator = torch.Generator().manual_seed(3)
    drawn = torch.rand(len(lower), 4, 1, generator=generator, dtype=F64)
    positions = torch.cat(
        [torch.tensor([0, 1e-9, 0.5, 1]).double().expand(len(x), 4)[..., None], drawn], 1
    )
    for sign in (1.0, -1.0):
        rows = torch.full_like(positions, sign)
        choice = PlanePositions.of(found, positions.shape[1], positions)
        (pulled,), constants = found.pull_back(rows, choice)
        assert pulled is not None
        line = pulled * x.unsqueeze(1) + constants.unsqueeze(2)
        lost = found.rounding([greatest((lower, upper)).squeeze(1)])
        # the walk subtracts what rounding may have raised; NaN is no bound (exp overflows)
        proved = sound_lower(line - lost.view(-1, 1, 1))
        assert (proved <= sign * y.unsqueeze(1)).all()
        followed = found.follow(rows, choice, [x.unsqueeze(1)[..., :1].expand_as(rows)])
        assert torch.allclose(sign * followed, line[..., :1], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("function", MOVABLE)
def test_midway_are_the_fixed_lines(function: str) -> None:
    lower, upper = many_intervals(function)
    found = over(function, lower, upper)
    rows = torch.tensor([[[1.0], [-2.0]]], dtype=F64).expand(len(lower), -1, -1)
    (pulled,), constants = found.pull_back(rows, PlanePositions.of(found, 2, None))
    (fixed,), fixed_constants = found.lines.pull_back(rows, None)
    assert pulled is not None
    assert fixed is not None
    assert torch.allclose(pulled, fixed, rtol=1e-14, atol=0)
    # NaN or -inf where exp overflows: nothing is known
    constants, fixed_constants = sound_lower(constants), sound_lower(fixed_constants)
    # the fixed lines already contain what rounding may change in them
    lost = found.rounding([greatest((lower, upper)).squeeze(1)]).unsqueeze(1) * rows.abs().sum(2)
    known = torch.isfinite(constants)
    assert known.equal(torch.isfinite(fixed_constants))
    difference = (constants - fixed_constants)[known].abs()
    assert (difference <= lost[known] + 1e-13 * (1 + constants[known].abs())).all()


@pytest.mark.parametrize("function", MOVABLE)
def test_second_derivatives(function: str) -> None:
    x = torch.linspace(0.1, 3, 301, dtype=F64)
    x = x if function in ("sqrt", "log") else torch.cat([-x, x])
    x.requires_grad_()
    (bend,) = torch.autograd.grad(SLOPES[function](x).sum(), x)
    assert torch.allclose(_BENDS[function](x.detach()), bend, atol=1e-12)


@pytest.mark.parametrize("function", MOVABLE)
def test_slopes_are_derivatives_of_the_bound(function: str) -> None:
    """Against central differences, where the input has a value ``z``."""
    lower = torch.tensor([[0.3, 0.1], [0.2, 0.5]], dtype=F64)
    found = over(function, lower - 1.5 * (function not in ("sqrt", "log")), lower + 2)
    rows = torch.tensor([[[1.0, -2.0]], [[-0.5, 0.7]]], dtype=F64)
    z = torch.tensor([[[0.9, 0.4]], [[1.3, 0.6]]], dtype=F64)
    for share in (0.2, 0.8):
        positions = torch.full_like(rows, share)

        def bound(moved: Tensor) -> Tensor:
            return (rows * found.follow(rows, PlanePositions.of(found, 1, moved), [z])).sum(2)

        slope = found.slope(rows, [z], positions)
        step = 1e-6
        for n in range(2):
            away = torch.zeros_like(rows)
            away[..., n] = step
            central = (bound(positions + away) - bound(positions - away)) / (2 * step)
            first, last = (
                torch.where(rows > 0, low.unsqueeze(1), up.unsqueeze(1))
                for low, up in (
                    (found.low_first, found.up_first),
                    (found.low_last, found.up_last),
                )
            )
            usual = found.middle.unsqueeze(1).maximum(first).minimum(last)
            # the derivative counts the whole way, of which a half of the range is one part
            part = 2 * (usual - first if share < 0.5 else last - usual) / (last - first)
            part = part.nan_to_num(0.0)[..., n]
            assert torch.allclose(slope[..., n] * part, central, atol=1e-6)


def network(seed: int, function: str) -> Graph:
    return mlp(seed, 3, (6, 6, 6), activation=Elementwise(function), gain=1.0).to(F64)


@pytest.mark.parametrize("function", ["tanh", "sigmoid", "erf", "atan", "softplus", "elu"])
def test_optimised_bounds_hold_and_are_tighter(function: str) -> None:
    gains = []
    for seed in range(3):
        graph = network(seed, function)
        generator = torch.Generator().manual_seed(seed)
        centre = torch.randn(2, 3, generator=generator, dtype=F64)
        box = Box.around(centre, 0.3, clip=None)
        spec = Specification.margins(graph(centre).argmax(1), 3, F64)
        root = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
        settings = OptimiseSettings(iterations=15, lr_alpha=0.2, lr_planes=0.2)
        inside = optimise_intermediate(graph, box, root, settings, MemoryBudget())
        before = crown_margins(graph, box, spec, inside).lower
        ever = StopRule(torch.full((2,), torch.inf, dtype=F64))
        after, multipliers = optimise(graph, box, spec, inside, settings, until=ever)
        assert (after.lower >= before - 1e-12).all()
        again = crown_margins(graph, box, spec, inside, multipliers)
        assert torch.allclose(again.lower, after.lower, rtol=0, atol=1e-12)
        told, slack = margins_and_gaps(graph, box, spec, inside, multipliers)
        assert told.lower.equal(again.lower)
        assert all((lost >= -1e-9).all() for lost in slack.values())
        points = torch.rand(2000, 1, 3, generator=generator, dtype=F64)
        points = torch.lerp(box.lower, box.upper, points.round(decimals=1))
        for n in range(2):
            values = graph.values(points[:, n])
            for place, value in enumerate(values):
                assert (value >= inside.lower[place][n]).all()
                assert (value <= inside.upper[place][n]).all()
            least = spec[n : n + 1].values(values[-1]).amin(0)
            assert (after.lower[n] <= least).all()
        for place, low in root.lower.items():
            assert (inside.lower[place] >= low).all()
            assert (inside.upper[place] <= root.upper[place]).all()
        gains.append(float((after.lower - before).mean()))
    assert min(gains) > 1e-4


def test_positions_beyond_their_range_are_brought_back() -> None:
    graph = network(1, "tanh")
    box = Box.around(torch.zeros(1, 3, dtype=F64), 0.5, clip=None)
    spec = Specification.margins(torch.tensor([0]), 3, F64)
    root = crown_intermediate(graph, box, interval_bounds(graph, box), MemoryBudget())
    places = [p for p, node in enumerate(graph.nodes) if isinstance(node.op, Elementwise)]

    def bound(position: float) -> Tensor:
        alpha = {p: torch.full((1, 1, 6), position, dtype=F64) for p in places}
        return crown_margins(graph, box, spec, root, Multipliers(alpha, {})).lower

    assert bound(7.0).equal(bound(1.0))
    assert bound(-2.0).equal(bound(0.0))
    assert not bound(1.0).equal(bound(0.0))
