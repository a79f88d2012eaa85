"""The checker's bounds against exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, product

import mpmath
import numpy as np
import pytest

from tests.onnx_networks import layers_file
from verify_checker import read_network
from verify_checker.check import again
from verify_checker.regions import Regions, enclose
from verify_checker.rounding import gamma
from verify_checker.smooth import enclosure, slope_below
from verify_checker.walk import Hints, Rows, lower_bounds

Layers = list[tuple[np.ndarray, np.ndarray]]


def wild_layers(rng: np.random.Generator, widths: list[int]) -> Layers:
    """Float32 weights of sizes from 1e-30 to 1e30 in one network, so that sums cancel."""
    layers = []
    exponent = rng.uniform(-8, 8)
    for n, (before, after) in enumerate(pairwise(widths)):
        scale = 10.0 ** (exponent * (-1) ** n + rng.uniform(-2, 2, (after, before)))
        weight = (rng.choice([-1, 1], (after, before)) * scale).astype(np.float32)
        bias = (rng.normal(size=after) * 10.0 ** rng.uniform(-3, 3, after)).astype(np.float32)
        layers.append((weight, bias))
    first = layers[0]
    power = np.float32(10.0 ** rng.uniform(-22, 22))  # the sizes of all layers together
    layers[0] = (first[0] * power, first[1] * power)
    return layers


def network_file(layers: Layers, activation: str = "Relu") -> bytes:
    """The layers with activations between them."""
    listed: list[object] = []
    for n, layer in enumerate(layers):
        listed += [layer] if n == len(layers) - 1 else [layer, activation]
    return layers_file(("n", layers[0][0].shape[1]), *listed)  # type: ignore[arg-type]


def exact_values(layers: Layers, point: list[Fraction], relu: bool = True) -> list[list[Fraction]]:
    """Every value of the network at a point, without rounding: before and after each ReLU."""
    found, value = [], point
    for n, (weight, bias) in enumerate(layers):
        value = [
            sum(
                (Fraction(float(w)) * v for w, v in zip(row, value, strict=True)),
                Fraction(float(b)),
            )
            for row, b in zip(weight, bias, strict=True)
        ]
        found.append(value)
        if n < len(layers) - 1 and relu:
            value = [max(v, Fraction(0)) for v in value]
            found.append(value)
    return found


def holds(regions: Regions, values: list[list[Fraction]]) -> bool:
    """Whether exact values lie between their bounds."""
    return all(
        Fraction(float(low)) <= value <= Fraction(float(high))
        for place, exact in enumerate(values, 1)
        for low, high, value in zip(
            regions.lower[place][0], regions.upper[place][0], exact, strict=True
        )
    )


@pytest.mark.parametrize("seed", range(60))
def test_intervals_and_walks_contain_exact_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = wild_layers(rng, [3, 4, 4, 2])
    network = read_network(network_file(layers))
    middle, radius = rng.normal(size=3), 10.0 ** rng.uniform(-9, 0)
    lower, upper = middle - radius, middle + radius
    regions = enclose(network, (lower[None], upper[None]), {}, again)
    rows = Rows(len(network.nodes) - 1, np.zeros(2, dtype=np.int64), np.eye(2), np.zeros(2))
    hints = Hints({p: (np.arange(4), rng.random((2, 4))) for p in (2, 4)})
    bounds = lower_bounds(regions, rows, hints)
    assert np.isfinite(bounds).all()
    points = [list(corner) for corner in product(*zip(lower, upper, strict=True))]
    points += list(lower + rng.random((8, 3)) * (upper - lower))
    for point in points:
        inside = np.clip(point, lower, upper)
        values = exact_values(layers, [Fraction(float(x)) for x in inside])
        assert holds(regions, values)
        for bound, value in zip(bounds, values[-1], strict=True):
            assert Fraction(float(bound)) <= value


@pytest.mark.parametrize("seed", range(60))
def test_walks_through_affine_layers_are_below_the_exact_minimum_and_near_it(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    layers = wild_layers(rng, [3, 4, 2])
    listed = layers_file(("n", 3), *layers)
    network = read_network(listed)
    lower = rng.normal(size=3)
    upper = lower + 10.0 ** rng.uniform(-9, 0, 3)
    regions = enclose(network, (lower[None], upper[None]), {})
    rows = Rows(2, np.zeros(2, dtype=np.int64), np.eye(2), np.zeros(2))
    bounds = lower_bounds(regions, rows)
    corners = product(*zip(lower, upper, strict=True))
    values = [exact_values(layers, [Fraction(float(x)) for x in c], False)[-1] for c in corners]
    magnitude = np.abs(layers[1][0]) @ (
        np.abs(layers[0][0]) @ np.maximum(np.abs(lower), np.abs(upper)) + np.abs(layers[0][1])
    ) + np.abs(layers[1][1])
    for n, bound in enumerate(bounds):
        least = min(value[n] for value in values)
        assert Fraction(float(bound)) <= least
        assert float(least - Fraction(float(bound))) <= 1e-13 * magnitude[n]


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e15, 1e30])
def test_an_exact_zero_is_never_above_zero(size: float) -> None:
    # f = s (x0 + x1) - s x0 - s x1 is zero everywhere; rounding makes it anything around u s
    weights = np.array([[1, 1], [1, 0], [0, 1]], dtype=np.float32)
    last = np.array([[size, -size, -size], [-size, size, size]], dtype=np.float32)
    network = read_network(layers_file(("n", 2), (weights,), "Relu", (last,)))
    rng = np.random.default_rng(0)
    rows = Rows(3, np.zeros(2, dtype=np.int64), np.eye(2), np.zeros(2))
    for _ in range(50):
        lower = rng.uniform(0.1, 1, 2)
        upper = lower + rng.uniform(0, 1e-12, 2)
        regions = enclose(network, (lower[None], upper[None]), {}, again)
        assert (lower_bounds(regions, rows) <= 0).all()


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_enclosures_of_curves_contain_their_values(function: str) -> None:
    rng = np.random.default_rng(3)
    z = np.concatenate([rng.normal(size=300) * 10.0 ** rng.uniform(-8, 2, 300), [0.0, 700, -700]])
    low, high = enclosure(function, z)
    slopes = slope_below(function, z)
    with mpmath.workprec(300):
        for x, below, above, slope in zip(z, low, high, slopes, strict=True):
            value = mpmath.tanh(x) if function == "tanh" else 1 / (1 + mpmath.exp(-mpmath.mpf(x)))
            exact = 1 - value**2 if function == "tanh" else value * (1 - value)
            assert below <= value <= above
            assert above - below < 1e-12
            assert 0 <= slope <= exact


def test_gamma_is_an_upper_bound() -> None:
    u = Fraction(1, 2**53)
    for terms in (0, 1, 7, 1000, 2**20, 2**30):
        assert Fraction(gamma(terms)) >= terms * u / (1 - terms * u)
