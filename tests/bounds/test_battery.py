"""What every bounding method must do, on every network: hold, be exact where it can, and rank."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.bounds.battery import Case, node_bounds
from verify_pipeline.bounds import (
    MemoryBudget,
    NodeBounds,
    OptimiseSettings,
    Splits,
    StopRule,
    crown_intermediate,
    crown_margins,
    interval_bounds,
    interval_margins,
    needed_places,
    optimise,
)
from verify_pipeline.network.ops import LeakyRelu, Relu
from verify_pipeline.problem import Box

BUDGET = MemoryBudget(bytes=1 << 24)
SETTINGS = OptimiseSettings(iterations=8)
TOLERANCE = 1e-9  # of comparisons between methods, each of which rounds


def bounds_by(method: str, case: Case) -> NodeBounds:
    return node_bounds(method, case.graph, case.box, SETTINGS)


def lower_margins(method: str, case: Case) -> Tensor:
    if method == "interval":
        return interval_margins(case.graph, case.box, case.spec)
    if method == "crown of intervals":
        return crown_margins(case.graph, case.box, case.spec, bounds_by("interval", case)).lower
    if method == "crown":
        return crown_margins(case.graph, case.box, case.spec, bounds_by("crown", case)).lower
    node_method = {"alpha": "crown", "alpha everywhere": "alpha"}[method]
    bounds = bounds_by(node_method, case)
    never = StopRule(torch.full((3,), torch.inf, dtype=torch.float64))
    return optimise(case.graph, case.box, case.spec, bounds, SETTINGS, until=never)[0].lower


METHODS = ("interval", "crown of intervals", "crown", "alpha", "alpha everywhere")


@pytest.mark.parametrize("method", METHODS)
def test_margins_of_samples_are_above_the_bounds(method: str, case: Case) -> None:
    lower = lower_margins(method, case)
    assert torch.isfinite(lower).all()
    assert (case.margins(case.points()) >= lower).all()


@pytest.mark.parametrize("method", ["interval", "crown", "alpha"])
def test_values_of_samples_are_within_node_bounds(method: str, case: Case) -> None:
    bounds = bounds_by(method, case)
    assert sorted(bounds.lower) == list(range(len(case.graph.nodes)))
    for place, value in enumerate(case.values(case.points(2_000))):
        assert (value >= bounds.lower[place]).all()
        assert (value <= bounds.upper[place]).all()


@pytest.mark.parametrize("method", METHODS[1:])
def test_affine_networks_are_bounded_exactly(method: str, affine_case: Case) -> None:
    found = lower_margins(method, affine_case)
    graph, box, spec = affine_case.graph, affine_case.box, affine_case.spec
    center, radius = box.center.requires_grad_(), box.radius
    margins = spec.values(graph(center))
    for row in range(margins.shape[1]):
        (slope,) = torch.autograd.grad(margins[:, row].sum(), center, retain_graph=True)
        exact = margins[:, row] - (slope.abs() * radius).flatten(1).sum(1)
        torch.testing.assert_close(found[:, row], exact.detach(), atol=1e-10, rtol=0)
        assert (found[:, row] <= exact).all()


def test_dearer_methods_are_not_looser(case: Case) -> None:
    interval, crown, alpha = (bounds_by(m, case) for m in ("interval", "crown", "alpha"))
    for cheap, dear in ((interval, crown), (crown, alpha)):
        for place in cheap.lower:
            assert (dear.lower[place] >= cheap.lower[place] - TOLERANCE).all()
            assert (dear.upper[place] <= cheap.upper[place] + TOLERANCE).all()
    found = {method: lower_margins(method, case) for method in METHODS[2:]}
    assert (found["alpha"] >= found["crown"] - TOLERANCE).all()
    assert (found["alpha everywhere"] >= found["crown"] - 1e-6).float().mean() > 0.7


def test_optimised_bounds_are_those_of_their_multipliers(piecewise_case: Case) -> None:
    case = piecewise_case
    bounds = bounds_by("crown", case)
    best, multipliers = optimise(case.graph, case.box, case.spec, bounds, SETTINGS)
    again = crown_margins(case.graph, case.box, case.spec, bounds, multipliers)
    torch.testing.assert_close(again.lower, best.lower, atol=1e-12, rtol=0)
    for alpha in multipliers.alpha.values():
        assert (alpha >= 0).all()
        assert (alpha <= 1).all()


def test_each_instance_is_bounded_as_it_is_alone(case: Case) -> None:
    bounds = bounds_by("crown", case)
    together = crown_margins(case.graph, case.box, case.spec, bounds).lower
    for n in range(3):
        one = slice(n, n + 1)
        start = interval_bounds(case.graph, case.box[one])
        alone = crown_intermediate(case.graph, case.box[one], start, MemoryBudget(bytes=1))
        found = crown_margins(case.graph, case.box[one], case.spec[one], alone).lower
        torch.testing.assert_close(found, together[one], atol=1e-10, rtol=0)


def test_an_empty_batch_has_no_bounds(case: Case) -> None:
    none = slice(0, 0)
    box, spec = case.box[none], case.spec[none]
    bounds = crown_intermediate(case.graph, box, interval_bounds(case.graph, box), BUDGET)
    assert crown_margins(case.graph, box, spec, bounds).lower.shape == (0, 4)
    assert optimise(case.graph, box, spec, bounds, SETTINGS)[0].lower.shape == (0, 4)
    assert interval_margins(case.graph, box, spec).shape == (0, 4)


def test_a_point_has_its_own_margins(case: Case) -> None:
    point = Box(case.box.center, case.box.center)
    bounds = crown_intermediate(case.graph, point, interval_bounds(case.graph, point), BUDGET)
    margins = case.spec.values(case.graph(point.center))
    found = crown_margins(case.graph, point, case.spec, bounds).lower
    torch.testing.assert_close(found, margins, atol=1e-9, rtol=0)
    assert (found <= margins).all()


def test_only_the_needed_places_are_needed(case: Case) -> None:
    bounds = bounds_by("crown", case)
    full = crown_margins(case.graph, case.box, case.spec, bounds).lower
    few = bounds.only(needed_places(case.graph))
    assert len(few.lower) < len(bounds.lower)
    # sizes of the others, which their rounding is relative to, are then less well known
    found = crown_margins(case.graph, case.box, case.spec, few)
    torch.testing.assert_close(found.lower, full, atol=1e-10, rtol=0)


def test_float32_agrees_with_float64(case: Case) -> None:
    graph, box = case.graph.to(torch.float32), case.box.to(torch.float32)
    spec = case.spec.to(torch.float32)
    bounds = crown_intermediate(graph, box, interval_bounds(graph, box), BUDGET)
    found = crown_margins(graph, box, spec, bounds).lower
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), lower_margins("crown", case), atol=1e-3, rtol=1e-3)


def splits_of_a_point(case: Case, bounds: NodeBounds, point: Tensor) -> Splits:
    """About a quarter of the unstable neurons, each on the side of the point ``3 x *X``."""
    values = case.graph.values(point)
    splits: Splits = {}
    for place, node in enumerate(case.graph.nodes):
        if isinstance(node.op, (Relu, LeakyRelu)):
            i = node.inputs[0]
            unstable = (bounds.lower[i] < 0) & (bounds.upper[i] > 0)
            chosen = unstable & (torch.rand_like(values[i]) < 0.25)
            side = torch.where(values[i] >= 0, 1, -1)
            splits[place] = (side * chosen).to(torch.int8)
    return splits


def obeying(case: Case, splits: Splits, points: Tensor) -> Tensor:
    """Which points ``count x 3 x *X`` obey the splits, ``count x 3``."""
    values = case.values(points)
    obey = torch.ones(points.shape[:2], dtype=torch.bool)
    for place, split in splits.items():
        z = values[case.graph.nodes[place].inputs[0]]
        obey &= (z * split >= 0).flatten(2).all(2)
    return obey


def test_bounds_of_split_domains_hold_for_points_that_obey(piecewise_case: Case) -> None:
    case = piecewise_case
    bounds = bounds_by("crown", case)
    never = StopRule(torch.full((3,), torch.inf, dtype=torch.float64))
    root = optimise(case.graph, case.box, case.spec, bounds, SETTINGS, until=never)[1]
    points, seen, gained = case.points(), 0, 0
    margins = case.margins(points)
    for trial in range(5):
        splits = splits_of_a_point(case, bounds, points[-1 - trial])
        obey = obeying(case, splits, points)
        plain = crown_margins(case.graph, case.box, case.spec, bounds, splits=splits).lower
        best = optimise(
            case.graph, case.box, case.spec, bounds, SETTINGS, splits, start=root, until=never
        )[0].lower
        for lower in (plain, best):
            assert (margins >= lower)[obey].all()
        gained += int((best > plain + 1e-6).sum())
        seen += int(obey.sum())
    assert seen >= 15
    assert gained > 0


def test_any_multipliers_give_valid_bounds(piecewise_case: Case) -> None:
    case = piecewise_case
    bounds = bounds_by("crown", case)
    points = case.points(4_000)
    splits = splits_of_a_point(case, bounds, points[-1])
    _, best = optimise(case.graph, case.box, case.spec, bounds, SETTINGS, splits)
    for place, alpha in best.alpha.items():
        best.alpha[place] = torch.rand_like(alpha)
    for place, beta in best.beta.items():
        best.beta[place] = torch.rand_like(beta)
    found = crown_margins(case.graph, case.box, case.spec, bounds, best, splits)
    obey = obeying(case, splits, points)
    assert obey.any()
    assert (case.margins(points) >= found.lower)[obey].all()


def test_linear_functions_prove_the_bounds(piecewise_case: Case) -> None:
    case = piecewise_case
    found = crown_margins(case.graph, case.box, case.spec, bounds_by("crown", case))
    corners = found.corners(case.box)
    assert case.box.contains(corners[:, 0]).all()
    at_corners = (found.coefficients * corners).flatten(2).sum(2) + found.constants
    torch.testing.assert_close(at_corners, found.lower, atol=1e-10, rtol=0)
    points = case.points(2_000)
    linear = torch.einsum("nsx,cnx->cns", found.coefficients.flatten(2), points.flatten(2))
    assert (case.margins(points) >= linear + found.constants).all()
