"""Products, softmax and smooth convex functions: by hand, and against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations, product
from math import prod

import mpmath
import numpy as np
import onnxruntime
import pytest

from tests.checker.proofs import INPUTS, attention_file
from tests.onnx_networks import operator_file
from verify_checker import read_network
from verify_checker.check import again
from verify_checker.lines import lines_of_smooth
from verify_checker.operations import Smooth
from verify_checker.planes import (
    interval_of_product,
    interval_of_softmax,
    plane_of_product,
    plane_of_softmax,
)
from verify_checker.regions import enclose
from verify_checker.rounding import Array
from verify_checker.smooth import enclosure, exponential, slopes
from verify_checker.walk import Rows, lower_bounds

FUNCTIONS = ("exp", "elu", "softplus")


def value_of(function: str, z: float) -> mpmath.mpf:
    """The exact value, up to the working precision."""
    exact = mpmath.mpf(float(z))
    if function == "softplus":
        return mpmath.log1p(mpmath.exp(exact))
    if function == "elu":
        return exact if z >= 0 else mpmath.expm1(exact)
    return mpmath.exp(exact)


def softmax(z: Array) -> list[mpmath.mpf]:
    """The exact softmax of a vector."""
    powers = [mpmath.exp(mpmath.mpf(float(each))) for each in z]
    return [power / sum(powers) for power in powers]


def box(rng: np.random.Generator, shape: tuple[int, ...], size: float) -> tuple[Array, Array]:
    """A random box, with radii between 0 and ``size``; some are 0."""
    middle, radius = rng.normal(size=shape), size * np.maximum(rng.uniform(-0.2, 1, shape), 0)
    return middle - radius, middle + radius


def points(rng: np.random.Generator, lower: Array, upper: Array, count: int) -> list[Array]:
    """Points of a box: half of them at its corners."""
    shares = [rng.random(lower.shape) for _ in range(count)]
    shares += [rng.integers(0, 2, lower.shape).astype(np.float64) for _ in range(count)]
    return [np.clip(lower + share * (upper - lower), lower, upper) for share in shares]


def test_a_product_by_hand() -> None:
    # x in [1, 2], y in [-1, 3]: the centre is 1.5 · 1, the radii are 0.5 and 2
    left = np.full((1, 1, 1), 1.0), np.full((1, 1, 1), 2.0)
    right = np.full((1, 1, 1), -1.0), np.full((1, 1, 1), 3.0)
    low, high = interval_of_product(left, right)
    assert (low.item(), high.item()) == pytest.approx((-2, 6), abs=1e-12)
    plane = plane_of_product(left, right)
    assert [factor.item() for factor in plane.factors] == [1.0, 1.5]
    assert (plane.offset.item(), plane.error.item()) == pytest.approx((-1.5, 1.0), abs=1e-5)
    assert plane.error.item() >= 1


def test_a_product_whose_terms_cancel() -> None:
    # the exact sum is 1; float64 gives 0, 1 or 2 in some order
    for terms in permutations((2.0**53, 1.0, -(2.0**53))):
        x = np.array([[terms]])
        low, high = interval_of_product((x, x), (np.ones((1, 3, 1)), np.ones((1, 3, 1))))
        assert low.item() <= 1 <= high.item()


def test_a_softmax_by_hand() -> None:
    # of scores in [-a, a] and one that is 0, a number is 1 / (1 + e^∓a)
    scores = np.array([[-0.5, 0.0]]), np.array([[0.5, 0.0]])
    low, high = interval_of_softmax(scores)
    least, most = 1 / (1 + np.exp(0.5)), 1 / (1 + np.exp(-0.5))
    assert low[0].tolist() == pytest.approx([least, least], abs=1e-12)
    assert high[0].tolist() == pytest.approx([most, most], abs=1e-12)
    # at 0 the slope is 1/4: p = 1/2 ± z/4, and the second derivative is p (1 − p) (1 − 2 p)
    plane = plane_of_softmax(scores, (low, high))
    assert plane.factors[0][0].tolist() == pytest.approx([0.5, 0.5], abs=1e-12)
    assert plane.factors[1][0].tolist() == [1.0, 1.0]
    # for the first score, it lies in ± 0.0962 / 2 · 0.5² at most; the other one may vary besides
    assert plane.offset[0, 0] == pytest.approx(0.5, abs=1e-12)
    assert abs(most - (0.5 + 0.5 / 4)) <= plane.error[0, 0] < 0.0962 / 2 * 0.25 * 1.2


def test_a_softmax_that_grows_like_an_exponential_reaches_the_bound() -> None:
    # a score in [-10, -6] beside 0: p is nearly exp(z), so that nothing of the bound is spare
    scores = np.array([[-10.0, 0.0]]), np.array([[-6.0, 0.0]])
    plane = plane_of_softmax(scores, interval_of_softmax(scores))
    q, value = float(plane.factors[0][0, 0]), 1 / (1 + np.exp(6.0))
    assert plane.factors[1][0, 0] == 1
    linear = q * (-6 - q * -6) + plane.offset[0, 0]
    assert abs(value - linear) <= plane.error[0, 0] <= 1.4 * abs(value - linear)


def test_a_softmax_of_one_score_is_one() -> None:
    scores = np.array([[-3.0]]), np.array([[5.0]])
    low, high = interval_of_softmax(scores)
    assert (low.item(), high.item()) == pytest.approx((1, 1), abs=1e-12)
    plane = plane_of_softmax(scores, (low, high))
    assert plane.error.item() < 1e-9


@pytest.mark.parametrize("seed", range(40))
def test_planes_of_products_enclose_exact_products(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = (2, 3), (3, 2)
    size = 0.0 if seed % 2 else 10.0 ** rng.uniform(-9, 1)  # points have nothing but rounding
    left, right = (box(rng, shape, size) for shape in shapes)
    left = left[0] * 10.0 ** rng.uniform(-20, 20), left[1] * 10.0 ** rng.uniform(-20, 20)
    left = np.minimum(*left), np.maximum(*left)
    one = [(side[0][None], side[1][None]) for side in (left, right)]
    low, high = interval_of_product(*one)
    plane = plane_of_product(*one)
    (d, c), offset = plane.factors, plane.offset
    for x, y in zip(points(rng, *left, 6), points(rng, *right, 6), strict=True):
        for i, j in product(range(2), range(2)):
            pairs = [
                [Fraction(float(v)) for v in (x[i, k], y[k, j], c[0, i, k], d[0, k, j])]
                for k in range(3)
            ]
            value = sum(a * b for a, b, _, _ in pairs)
            linear = sum(a * r + s * b for a, b, s, r in pairs) + Fraction(float(offset[0, i, j]))
            assert low[0, i, j] <= value <= high[0, i, j]
            assert abs(value - linear) <= plane.error[0, i, j]


@pytest.mark.parametrize("seed", range(30))
def test_planes_of_softmax_enclose_exact_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = box(rng, (int(rng.integers(1, 6)),), 10.0 ** rng.uniform(-8, 1.5))
    one = scores[0][None], scores[1][None]
    low, high = interval_of_softmax(one)
    plane = plane_of_softmax(one, (low, high))
    q, follows = (factor[0] for factor in plane.factors)
    with mpmath.workprec(200):
        for z in points(rng, *scores, 8):
            pairs = zip(q, z, strict=True)
            weighted = sum(mpmath.mpf(float(a)) * mpmath.mpf(float(b)) for a, b in pairs)
            for i, value in enumerate(softmax(z)):
                linear = mpmath.mpf(float(plane.offset[0, i]))
                if follows[i]:
                    linear += mpmath.mpf(float(q[i])) * (mpmath.mpf(float(z[i])) - weighted)
                assert low[0, i] <= value <= high[0, i]
                assert abs(value - linear) <= plane.error[0, i]


def test_planes_of_softmax_lose_less_than_intervals_and_little_over_small_boxes() -> None:
    middle = np.random.default_rng(0).normal(size=(1, 5))
    lost = []
    for radius in (1e-3, 1e-2, 1e-1, 10.0):
        scores = middle - radius, middle + radius
        known = interval_of_softmax(scores)
        error = plane_of_softmax(scores, known).error
        assert (error <= (known[1] - known[0]) / 2 * 1.001).all()
        lost.append(float(error.max()))
    assert lost[1] < 110 * lost[0]  # of second order
    assert lost[2] < 150 * lost[1]
    assert lost[0] < 1e-6


@pytest.mark.parametrize("function", FUNCTIONS)
def test_enclosures_of_convex_functions(function: str) -> None:
    rng = np.random.default_rng(4)
    z = rng.normal(size=200) * 10.0 ** rng.uniform(-8, 2, 200)
    z = np.concatenate([z, [0.0, -0.0, 700.0, -700.0, 699.9, -745.0]])
    (low, high), (least, steepest) = enclosure(function, z), slopes(function, z)
    with mpmath.workprec(2400):
        for n, x in enumerate(z):
            value, exact = value_of(function, x), mpmath.exp(mpmath.mpf(float(x)))
            slope = exact / (1 + exact) if function == "softplus" else exact
            if function == "elu" and x >= 0:
                slope = mpmath.mpf(1)
            assert low[n] <= value <= high[n]
            assert least[n] <= slope <= steepest[n]
            assert high[n] - low[n] <= 1e-11 * max(1, abs(value))


def test_the_exponential_far_away() -> None:
    low, high = exponential(np.array([701.0, 1e300, np.inf, -701.0, -1e300, -np.inf]))
    assert (low[:3] > 1e303).all()
    assert (high[:3] == np.inf).all()
    assert (low[3:] == 0).all()
    assert (high[3:] > 0).all()
    assert (high[3:] < 1e-303).all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_lines_of_convex_functions_enclose_them(function: str) -> None:
    rng = np.random.default_rng(5)
    lower = rng.normal(size=60) * 10.0 ** rng.uniform(-3, 1, 60)
    upper = lower + 10.0 ** rng.uniform(-9, 0.7, 60) * (rng.random(60) > 0.1)
    lines = lines_of_smooth(Smooth(function), lower, upper)
    with mpmath.workprec(200):
        for n in range(60):
            for x in np.clip(lower[n] + rng.random(6) * (upper[n] - lower[n]), lower[n], upper[n]):
                exact, value = mpmath.mpf(float(x)), value_of(function, x)
                low = mpmath.mpf(float(lines.low[n])) * exact + mpmath.mpf(float(lines.low_at[n]))
                high = mpmath.mpf(float(lines.high[n])) * exact + mpmath.mpf(
                    float(lines.high_at[n])
                )
                assert low <= value <= high


def test_lines_of_the_exponential_by_hand() -> None:
    # over [0, 1]: the chord 1 + (e - 1) z, and the tangent at 1/2
    lines = lines_of_smooth(Smooth("exp"), np.zeros(1), np.ones(1))
    assert (lines.high.item(), lines.high_at.item()) == pytest.approx((np.e - 1, 1), abs=1e-9)
    middle = np.exp(0.5)
    assert (lines.low.item(), lines.low_at.item()) == pytest.approx((middle, middle / 2), abs=1e-9)


def test_lines_of_elu_and_softplus_by_hand() -> None:
    # elu over [-1, 1]: the chord from e^-1 - 1 to 1; at 0 the slope is 1
    lines = lines_of_smooth(Smooth("elu"), np.full(1, -1.0), np.ones(1))
    slope = (2 - np.exp(-1)) / 2
    assert (lines.high.item(), lines.high_at.item()) == pytest.approx((slope, 1 - slope), abs=1e-9)
    assert (lines.low.item(), lines.low_at.item()) == pytest.approx((1, 0), abs=1e-9)
    # softplus over [-2, 2]: at 0 it is log 2 and its slope 1/2, which is the chord's slope, too
    lines = lines_of_smooth(Smooth("softplus"), np.full(1, -2.0), np.full(1, 2.0))
    assert (lines.low.item(), lines.low_at.item()) == pytest.approx((0.5, np.log(2)), abs=1e-9)
    assert (lines.high.item(), lines.high_at.item()) == pytest.approx(
        (0.5, np.log1p(np.exp(2)) - 1), abs=1e-9
    )


@pytest.mark.parametrize("epsilon", [1e-4, 0.03, 0.3, 3.0])
def test_random_points_of_an_attention_network_lie_within_all_bounds(epsilon: float) -> None:
    network, session = (
        read_network(attention_file()),
        onnxruntime.InferenceSession(attention_file()),
    )
    rng = np.random.default_rng(6)
    middle = rng.random(INPUTS)
    lower, upper = middle - epsilon, middle + epsilon
    last = len(network.nodes) - 1
    signs = np.concatenate([np.eye(3), -np.eye(3)])
    found = []
    for refine in (None, again):
        regions = enclose(network, (lower[None], upper[None]), {}, refine)
        rows = Rows(last, np.zeros(6, dtype=np.int64), signs, np.zeros(6))
        walked = lower_bounds(regions, rows)
        by_interval = lower_bounds(regions, rows, intervals=True)
        found += [walked, by_interval, np.concatenate([regions.lower[last], -regions.upper[last]])]
        for place, node in enumerate(network.nodes):
            assert (regions.lower[place] <= regions.upper[place]).all(), node.name
    for point in points(rng, lower, upper, 200):
        output = session.run(None, {"x": point[None].astype(np.float32)})[0][0]
        for bound in found:
            assert (bound.ravel() <= signs @ output + 1e-5 * (1 + epsilon)).all()


def test_values_between_lie_within_their_bounds() -> None:
    # every value of the network at a point, from regions of that point alone
    network = read_network(attention_file())
    rng = np.random.default_rng(8)
    middle = rng.random(INPUTS)
    wide = enclose(network, (middle[None] - 0.2, middle[None] + 0.2), {}, again)
    for point in points(rng, middle - 0.2, middle + 0.2, 20):
        at = enclose(network, (point[None], point[None]), {})
        for place in range(len(network.nodes)):
            assert (at.upper[place] >= wide.lower[place]).all()
            assert (at.lower[place] <= wide.upper[place]).all()


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 3)])
def test_coefficients_of_a_softmax_may_be_shifted(shape: tuple[int, ...]) -> None:
    # Σ p = 1: a row of ones says exactly so, whatever the scores are
    network = read_network(operator_file("Softmax", ("n", *shape, 1, 3), axis=-1))
    lower = -np.ones((1, *shape, 1, 3))
    regions = enclose(network, (lower, -lower), {})
    count = prod(shape)
    for sign in (1.0, -1.0):
        ones = np.full((1, *shape, 1, 3), sign)
        rows = Rows(1, np.zeros(1, dtype=np.int64), ones, np.zeros(1))
        bound = lower_bounds(regions, rows).item()
        assert sign * count - 1e-9 <= bound <= sign * count
