"""Layer normalisation is analysed for every algorithm of its variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.soundness.building import FileBuilder
from tests.soundness.evaluations import DTYPES, Way, native, value, ways
from tests.soundness.replaying import outputs_of
from tests.soundness.steps import LayerNorm
from verify_pipeline.bounds.forward_error import computed_values, refusal
from verify_pipeline.network.arithmetic import ARITHMETICS
from verify_pipeline.network.graph import Graph
from verify_pipeline.network.written import Written
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.problem import Box

SIZE = 6


def written(spelled: bool) -> tuple[LayerNorm, bytes, Written]:
    rng = np.random.default_rng(5)
    # numbers of every arithmetic
    scale, shift = (rng.integers(-8, 8, (2, SIZE)) / 4).astype(np.float32)
    norm = LayerNorm(scale, shift, spelled)
    net = FileBuilder((SIZE,))
    data = net.data(norm.write(net, "x"))
    found = network_from_bytes(data).written
    assert found is not None
    return norm, data, found


def errors_at(graph: Graph, points: Tensor, name: str) -> Tensor:
    *_, found = computed_values(graph, Box(points, points), ARITHMETICS[name])
    return found.error


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
@pytest.mark.parametrize("spelled", [True, False])
@pytest.mark.parametrize("far", [0.0, 1.0, 30.0, 1000.0])
def test_every_algorithm_is_within_the_errors(name: str, spelled: bool, far: float) -> None:
    norm, data, found = written(spelled)
    assert refusal(found, ARITHMETICS[name]) == ""
    rng = np.random.default_rng(int(far))
    points = (rng.normal(size=(8, SIZE)) + far).astype(np.float32)
    points = torch.from_numpy(points).to(DTYPES[name]).float().numpy()
    errors = errors_at(found.graph, torch.from_numpy(points).double(), name).numpy()
    exact = value([norm], Way(torch.float64, rng), points).numpy()
    several = [value([norm], way, points).numpy() for way in ways(name, rng)]
    several.append(native([norm], DTYPES[name], points).numpy())
    several.append(outputs_of(data, points).astype(np.float64))
    known = np.isfinite(errors)
    assert known.all() or (name, far) not in (("float32", 0.0), ("float32", 1.0))
    for outputs in several:
        assert (np.abs(outputs - exact) <= errors + 1e-12)[known].all()


def of_welford(x: np.ndarray) -> float:
    """The variance by Welford's updates, every operation rounded to float16."""
    mean = squares = np.float16(0)
    for k, element in enumerate(x, 1):
        difference = element - mean
        mean = mean + difference / np.float16(k)
        squares = squares + difference * (element - mean)
    return float(squares / np.float16(len(x)))


@pytest.mark.parametrize("size", [2, 3, 8, 32])
def test_welfords_updates_are_within_their_term(size: int) -> None:
    """The error of a variance near far means, of sorted elements, and of very different ones."""
    rng = np.random.default_rng(size)
    unit = 2.0**-11
    term = (4 * size + 40) * unit / (1 - (4 * size + 40) * unit)
    shares = []
    for trial in range(60):
        x = rng.normal(size=size)
        x = [x, np.sort(x) + 3, x * 10 ** rng.uniform(-2, 1, size), np.abs(x) + 8][trial % 4]
        x = x.astype(np.float16)
        wide = x.astype(np.float64)
        shares.append(abs(of_welford(x) - float(wide.var())) / float((wide**2).mean()))
    assert unit < max(shares) <= term


def test_a_variance_in_one_pass_loses_what_the_mean_is_greater() -> None:
    """Numbers near 1000: their squares have a rounding of 1e6 u, the variance is about 1."""
    _, _, found = written(True)
    near, far = (
        torch.linspace(-1, 1, SIZE).double()[None] + distance for distance in (0.0, 1000.0)
    )
    small, large = (float(errors_at(found.graph, x, "float32").amax()) for x in (near, far))
    assert small < 1e-4
    assert large > 0.1 * 1e6 * 2.0**-24


def test_a_variance_that_may_be_negative_has_no_bounded_error() -> None:
    _, _, found = written(True)
    points = torch.full((1, SIZE), 2.0**15).double()  # the rounding exceeds ε
    assert bool(errors_at(found.graph, points, "float32").isinf().all())


@pytest.mark.parametrize("exponent", [3.0, 0.5, -2.0])
def test_other_powers_are_refused(exponent: float) -> None:
    net = FileBuilder((2,))
    raised = net.add("Pow", net.add("Exp", "x"), np.array(exponent, np.float32))
    found = network_from_bytes(net.data(raised)).written
    assert "Pow" in refusal(found, ARITHMETICS["float32"])


def test_squares_are_followed() -> None:
    net = FileBuilder((2,))
    squares = net.add("Pow", "x", np.array(2.0, np.float32))
    found = network_from_bytes(net.data(net.linear(squares, np.eye(2)))).written
    assert refusal(found, ARITHMETICS["float32"]) == ""
