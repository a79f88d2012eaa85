"""Files whose constants may be flushed, overflow or be rounded first: nothing wrong is verified.

Each file is asked for a row that holds for real numbers, and fails in one evaluation that
docs/soundness.md covers. The evaluation is computed by hand.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.soundness.building import FileBuilder
from verify_pipeline.certify.evaluation_errors import EvaluationErrors
from verify_pipeline.network.arithmetic import ARITHMETICS
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.problem import Box, Specification


def errors(net: FileBuilder, output: str, point: list[float], name: str) -> tuple[float, float]:
    """The exact output of a file with one output, and what is said of its error."""
    network = network_from_bytes(net.data(output), check_parity=False)
    x = torch.tensor([point], dtype=torch.float64)
    row = Specification(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double())
    found = EvaluationErrors.of(network.written, ARITHMETICS[name], None)
    return float(network.graph(x)), float(found.of_rows(Box(x, x), row))


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32).reshape(-1, 1)


HALVES = ("float16", "mixed-float16")


@pytest.mark.parametrize("name", HALVES)
def test_the_slope_of_a_leaky_relu_may_become_zero(name: str) -> None:
    net = FileBuilder((1,))
    slope = float(np.float16(5e-5))  # below 2^-14
    value, error = errors(net, net.add("LeakyRelu", "x", alpha=slope), [-40000.0], name)
    assert value == pytest.approx(-2.0, rel=1e-3)
    assert 2 <= error <= 2.01


def test_a_limit_may_become_zero_before_it_is_rounded() -> None:
    """The limit exceeds the nearest number of float16, which is what remains of it elsewhere."""
    net, limit = FileBuilder((1,)), np.float32(2.784802e-5)
    assert 0 < np.float16(limit) < limit
    value, error = errors(net, net.add("Max", "x", limit.reshape(1)), [-1.0], "mixed-float16")
    assert value == float(limit) <= error <= 2.0**-14


@pytest.mark.parametrize("name", HALVES)
def test_the_product_of_the_last_two_of_three_layers_may_become_zero(name: str) -> None:
    """``2^-4 2^-12`` is flushed, which is multiplied with ``2^15``."""
    net, last = FileBuilder((1,)), "x"
    for exponent in (15, -12, -4):
        last = net.linear(last, column(2.0**exponent))
    value, error = errors(net, last, [1.0], name)
    assert value == 0.5 <= error


@pytest.mark.parametrize("name", HALVES)
def test_the_product_of_the_last_two_of_three_layers_may_overflow(name: str) -> None:
    """``2^9 2^9`` is infinite, ``2^-14 2^9 2^9`` is not."""
    net, last = FileBuilder((1,)), "x"
    for exponent in (-14, 9, 9):
        last = net.linear(last, column(2.0**exponent))
    assert errors(net, last, [1.0], name) == (16.0, np.inf)


def test_the_same_in_float32() -> None:
    net, last = FileBuilder((1,)), "x"
    for exponent in (120, -80, -60):
        last = net.linear(last, column(2.0**exponent))
    value, error = errors(net, last, [1.0], "float32")
    assert value == 2.0**-20 <= error


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("divisor", [float(np.float16(5e-5)), 2.0**-15])
def test_a_divisor_may_become_zero(name: str, divisor: float) -> None:
    net = FileBuilder((1,))
    value, error = errors(net, net.add("Div", "x", np.array(divisor)), [0.01], name)
    assert value > 0
    assert error == np.inf


@pytest.mark.parametrize("name", HALVES)
def test_a_normal_divisor_is_none_of_these(name: str) -> None:
    net = FileBuilder((1,))
    value, error = errors(net, net.add("Div", "x", np.array(2.0**-14)), [0.01], name)
    assert 0 < error < value / 50


@pytest.mark.parametrize("operator", ["ReduceMean", "AveragePool"])
@pytest.mark.parametrize(
    ("name", "size"), [("float16", 40000.0), ("float32", 2e38), ("mixed-bfloat16", 2e38)]
)
def test_the_sum_of_a_mean_may_overflow(operator: str, name: str, size: float) -> None:
    net = FileBuilder((1, 2, 2))
    options = {"axes": [2, 3]} if operator == "ReduceMean" else {"kernel_shape": [2, 2]}
    last = net.add("Flatten", net.add(operator, "x", **options))
    network = network_from_bytes(net.data(last), check_parity=False)
    x = torch.full((1, 1, 2, 2), size, dtype=torch.float64)
    row = Specification(torch.ones(1, 1, 1).double(), torch.zeros(1, 1).double())
    found = EvaluationErrors.of(network.written, ARITHMETICS[name], None)
    assert float(found.of_rows(Box(x, x), row)) == np.inf
    if name == "float16":  # of which one can be computed
        small = Box(x / 4, x / 4)
        assert float(found.of_rows(small, row)) < 100
        mixed = EvaluationErrors.of(network.written, ARITHMETICS["mixed-float16"], None)
        assert float(mixed.of_rows(Box(x, x), row)) < 100


@pytest.mark.parametrize("name", ["mixed-float16", "mixed-bfloat16"])
def test_constants_that_are_computed_of_rounded_ones(name: str) -> None:
    """``1.0001 - 1`` is 0 where both are rounded first; a square root of 64 stays what it is."""
    net = FileBuilder((1,))
    less = net.add("Sub", column(1.0001)[0], column(1.0)[0])
    value, error = errors(net, net.add("Mul", "x", less), [1.0], name)
    assert value > 0
    assert error == np.inf
    net = FileBuilder((1,))
    last = net.add("Div", "x", net.add("Sqrt", column(64.0)[0]))
    assert errors(net, last, [1.0], name)[1] < 0.01


@pytest.mark.parametrize("name", ["float32", *HALVES])
def test_a_constant_that_a_product_hides_is_not_analysed(name: str) -> None:
    """C of ``2^-20`` may become zero; ``beta C`` is 1."""
    net = FileBuilder((1,))
    small = np.array([2.0**-20], dtype=np.float32)
    last = net.add("Gemm", "x", column(1.0), small, beta=2.0**20)
    assert errors(net, last, [1.0], name) == (2.0, np.inf)
