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
from verify_checker.lines import lines_of_kink, lines_of_smooth
from verify_checker.operations import Kink, Smooth
from verify_checker.regions import Regions, enclose
from verify_checker.rounding import down, gamma, up
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
    with mpmath.workprec(2400):
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


@pytest.mark.parametrize("seed", range(40))
def test_coefficients_that_cancel_are_charged_their_rounding(seed: int) -> None:
    # the coefficient of the input is a sum of 30 products that nearly cancel: what is left of it
    # is smaller than the rounding of the sum, so that only the error term keeps the bound valid
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(30, 1)).astype(np.float32)
    last = rng.normal(size=(1, 30)).astype(np.float32)
    rest = float(last[0, 1:].astype(np.float64) @ first[1:, 0].astype(np.float64))
    last[0, 0] = np.float32(-rest / float(first[0, 0]))
    for column in range(1, 8):  # smaller and smaller corrections
        rest = float(last[0].astype(np.float64) @ first[:, 0].astype(np.float64))
        first[column, 0] = np.float32(float(first[column, 0]) - rest / float(last[0, column]))
    layers = [(first, np.zeros(30, np.float32)), (last, np.zeros(1, np.float32))]
    network = read_network(layers_file(("n", 1), *layers))
    for sign in (1.0, -1.0):
        point = np.array([[sign * (1 + rng.random())]])
        regions = enclose(network, (point, point), {})
        rows = Rows(2, np.zeros(1, dtype=np.int64), np.ones((1, 1)), np.zeros(1))
        value = exact_values(layers, [Fraction(float(point[0, 0]))], False)[-1][0]
        assert Fraction(float(lower_bounds(regions, rows)[0])) <= value


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.5])
def test_lines_of_kinks_enclose_them_exactly(slope: float) -> None:
    rng = np.random.default_rng(8)
    size = 10.0 ** rng.uniform(-30, 30, 400)
    lower, upper = -size * rng.random(400), size * 10.0 ** rng.uniform(-9, 9, 400) * rng.random(400)
    lines = lines_of_kink(Kink(slope), lower, upper)
    exact_slope = Fraction(slope)
    for n in range(400):
        low, low_at, high, high_at = (
            Fraction(float(part[n]))
            for part in (lines.low, lines.low_at, lines.high, lines.high_at)
        )
        ends = Fraction(float(lower[n])), Fraction(float(upper[n]))
        for z in (*ends, Fraction(0), sum(ends) / 2):
            value = z if z >= 0 else exact_slope * z
            assert low * z + low_at <= value <= high * z + high_at
        assert exact_slope <= low <= 1
        gap = max(high * z + high_at - max(z, exact_slope * z) for z in ends)
        assert gap <= Fraction(1, 10**9) * max(abs(z) for z in ends)


@pytest.mark.parametrize("function", ["sigmoid", "tanh"])
def test_lines_of_curves_enclose_them(function: str) -> None:
    rng = np.random.default_rng(9)
    middle, radius = 4 * rng.normal(size=100), 10.0 ** rng.uniform(-6, 1, 100)
    lower, upper = middle - radius, middle + radius
    lines = lines_of_smooth(Smooth(function), lower, upper)
    with mpmath.workprec(200):
        for n in range(100):
            for share in np.linspace(0, 1, 9):
                z = mpmath.mpf(lower[n]) + share * (mpmath.mpf(upper[n]) - mpmath.mpf(lower[n]))
                value = mpmath.tanh(z) if function == "tanh" else 1 / (1 + mpmath.exp(-z))
                assert mpmath.mpf(lines.low[n]) * z + lines.low_at[n] <= value
                assert value <= mpmath.mpf(lines.high[n]) * z + lines.high_at[n]


def test_steps_up_and_down_pass_the_neighbours() -> None:
    rng = np.random.default_rng(10)
    values = rng.choice([-1, 1], 2000) * 10.0 ** rng.uniform(-320, 308, 2000)
    values = np.concatenate([values, [0.0, 5e-324, 2.0**-1022, 2.0**-970, 1.0, 2.0**1000]])
    assert (up(values) >= np.nextafter(values, np.inf)).all()
    assert (down(values) <= np.nextafter(values, -np.inf)).all()
