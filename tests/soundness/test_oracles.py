"""The battery's own oracles, by hand: exact values, least values, properties, replays, tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.random import Generator

from tests.exact_arrays import rational
from tests.onnx_networks import layers_file, mlp_file, node, onnx_file
from tests.soundness.again import ask_again
from tests.soundness.architectures import ACTIVATIONS, opset_of
from tests.soundness.asking import BoxTrial, Truth
from tests.soundness.battery import Tally, judge, least_of, run_family
from tests.soundness.building import FileBuilder
from tests.soundness.chains import Chain, Linear, Mean, Scale, Shift
from tests.soundness.contract import Answer, Array, Family, Judged
from tests.soundness.elementwise import Function, LeakyRelu, Quotient
from tests.soundness.evaluations import ORDERS, Step, Way, native, value, ways
from tests.soundness.exact import ExactNetwork
from tests.soundness.families import FAMILIES
from tests.soundness.families.operators import FORMS
from tests.soundness.formulas import Property
from tests.soundness.least import AffineFunction, expansion, least_of_cells
from tests.soundness.replaying import outputs_of
from tests.soundness.steps import Attention, Convolved, Dense, LayerNorm, Residual
from tests.soundness.table import csv_text, markdown
from tests.soundness.ways import usual
from verify_pipeline.network.ops import FUNCTIONS
from verify_pipeline.onnx import network_from_bytes
from verify_pipeline.onnx.operators import OPERATORS

ABSOLUTE = layers_file(("n", 1), ([[1], [-1]], [0, 0]), "Relu", ([[1, 1]],))
"""``|x|``."""


def array(*numbers: float) -> Array:
    return np.array(numbers, np.float64)


def test_values_are_exact() -> None:
    exact = ExactNetwork(mlp_file())
    assert exact(rational([[1.0, 1.0], [0.0, 2.0]])).tolist() == [[3.5, 0], [5.5, 1]]
    third = onnx_file([node("Mul", "x", "w", "y")], ("n", 1), {"w": np.array([0.1], np.float32)})
    (value,) = ExactNetwork(third)(rational([[3.0]])).flat
    assert value == 3 * Fraction(float(np.float32(0.1)))


def test_an_operator_without_an_exact_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="no exact rule"):
        ExactNetwork(onnx_file([node("Tanh", "x", "y")], ("n", 1)))


WINDOWS: dict[str, dict[str, Any]] = {
    "Conv": {"pads": [1, 0, 1, 1], "strides": [2, 1], "dilations": [1, 2], "group": 2},
    "MaxPool": {"kernel_shape": [2, 2], "strides": [2, 1]},
    "AveragePool": {"kernel_shape": [2, 3], "strides": [1, 1]},
}


@pytest.mark.parametrize("operator", WINDOWS)
def test_windows_are_those_of_onnxruntime(operator: str) -> None:
    rng = np.random.default_rng(1)
    weights = {"w": rng.integers(-4, 5, (4, 1, 2, 2)).astype(np.float32)}
    names = ["x", "w", "y"] if operator == "Conv" else ["x", "y"]
    used = weights if operator == "Conv" else {}
    data = onnx_file([node(operator, *names, **WINDOWS[operator])], ("n", 2, 4, 5), used)
    points = rng.integers(-8, 9, (3, 2, 4, 5)).astype(np.float32)
    expected = outputs_of(data, points).reshape(3, -1)
    found = ExactNetwork(data)(rational(points)).astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_least_of_cells_is_found_between_the_corners() -> None:
    least = least_of_cells(
        ExactNetwork(ABSOLUTE), array(-1), array(2), array(1)[None], array(-0.25)
    )
    assert [least.value, *least.point] == [Fraction(-1, 4), 0]
    below = least_of_cells(ExactNetwork(ABSOLUTE), array(-1), array(2), array(-1)[None], array(0))
    assert [below.value, *below.point] == [-2, 2]


def test_least_of_two_inputs_is_below_every_sample() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(5, 2)), rng.normal(size=(4, 5))
    layers = (first, rng.normal(size=5)), "Relu", (second,), "Relu", ([[1, -2, 1, -1]],)
    data = layers_file(("n", 2), *layers)
    exact, lower, upper = ExactNetwork(data), array(-1, -1), array(1, 2)
    least = least_of_cells(exact, lower, upper, array(1)[None], array(0))
    points = rng.uniform(lower, upper, (200, 2))
    assert min(exact(rational(points)).flat) >= least.value
    assert exact(least.point[None])[0, 0] == least.value
    near = np.clip(least.point.astype(np.float64) + rng.normal(size=(200, 2)) * 1e-3, lower, upper)
    assert min(exact(rational(near)).flat) >= least.value


def test_an_affine_function_is_known_by_its_slopes() -> None:
    affine = AffineFunction(ExactNetwork(layers_file(("n", 2), ([[1, -2]], [0.5]))), (2,))
    least = affine.least(array(-1, -1), array(3, 1), array(1)[None], array(0))
    assert [least.value, *least.point] == [Fraction(-5, 2), -1, 1]
    with pytest.raises(ValueError, match="not affine"):
        AffineFunction(ExactNetwork(ABSOLUTE), (1,))


def test_an_expansion_adds_up_exactly() -> None:
    number = 1 + Fraction(2) ** -80 - Fraction(2) ** -300
    assert sum(map(Fraction, expansion(number, 4))) == number
    with pytest.raises(ValueError, match="do not add up"):
        expansion(number, 1)


def test_a_property_means_what_it_says() -> None:
    asked = Property(
        "(assert (or (and (<= X_0 0.5) (> Y_0 (+ Y_1 (* -2 X_0)))) (= Y_0 (- 3)))) ; x"
    )
    values = {"X_0": Fraction(1, 2), "Y_0": Fraction(1), "Y_1": Fraction(2)}
    assert not asked.is_met(values)
    assert asked.is_met({**values, "Y_0": Fraction(2)})
    assert asked.is_met({**values, "X_0": Fraction(1), "Y_0": Fraction(-3)})


def test_orders_of_a_sum_differ_in_their_last_digits() -> None:
    dense = Dense(np.array([[1.0, 1e8, -1e8]], np.float32), np.zeros(1, np.float32))
    point, rng = np.ones((1, 3), np.float32), np.random.default_rng(0)
    found = {
        order: {float(value([dense], Way(torch.float32, rng, order), point)) for _ in range(20)}
        for order in ORDERS
    }
    assert found == {
        "written": {0.0},  # 1 is lost in 1e8
        "falling": {1.0},
        "rising": {0.0},
        "random": {0.0, 1.0},
        "blocks": {0.0, 1.0},
    }


def test_results_are_stored_as_they_say() -> None:
    """bfloat16 has 1000 and 1004, and 2^-130 as a denormal number."""
    dense = Dense(np.array([[1000.0, 2.0]], np.float32), np.array([-1000.0], np.float32))
    point, rng = np.ones((1, 2), np.float32), np.random.default_rng(0)
    found = {
        (order, stored): {
            float(value([dense], replace(way, order=order, stored=stored), point))
            for _ in range(20)
        }
        for way in (Way(torch.float32, rng, narrow=torch.bfloat16),)
        for order in ("written", "blocks")
        for stored in ("always", "sometimes", "never")
    }
    assert found == {
        ("written", "always"): {2.0},
        ("written", "sometimes"): {2.0},
        ("written", "never"): {2.0},
        ("blocks", "always"): {0.0},
        ("blocks", "sometimes"): {0.0, 2.0},
        ("blocks", "never"): {2.0},
    }
    small = Dense(np.array([[2.0**-15]], np.float32), np.zeros(1, np.float32))
    for flushed, weight in ((True, 0.0), (False, 2.0**-15)):
        way = Way(torch.float32, rng, flushed=flushed, narrow=torch.float16)
        assert float(value([small], way, point[:, :1])) == weight


def test_evaluations_round_as_they_say() -> None:
    rng = np.random.default_rng(0)
    near, point = 1 + 2.0**-12, np.array([[1 + 2.0**-12]], np.float32)
    square = Dense(np.array([[near]], np.float32), np.array([-(near * near)], np.float32))
    apart, fused = (Way(torch.float32, rng, fused=fused) for fused in (False, True))
    # the square's last digit, 2^-24, is half a unit in the last place
    assert float(value([square], apart, point)) == 0.0
    assert float(value([square], fused, point)) == 2.0**-24 - (float(square.bias[0]) + near * near)
    tiny = Dense(np.array([[2.0**-100]], np.float32), np.zeros(1, np.float32))
    small = np.array([[2.0**-30]], np.float32)
    assert float(value([tiny], apart, small)) == 2.0**-130
    assert float(value([tiny], replace(apart, flushed=True), small)) == 0.0
    eighth = value([square], Way(torch.bfloat16, rng), np.array([[1.0]], np.float32))
    assert float(eighth) == 0.0  # bfloat16 has eight digits


def _steps(rng: Generator) -> dict[str, Step]:
    def numbers(*shape: int) -> Array:
        return np.asarray(rng.normal(size=shape), np.float32)

    query, key, values = (Dense(numbers(6, 16), numbers(6)) for _ in range(3))
    links = (Linear(numbers(16, 16), numbers(16)), Scale(numbers(16)))
    return {
        "layer normalisation": LayerNorm(numbers(16), numbers(16), spelled=False),
        "spelled": LayerNorm(numbers(16), numbers(16), spelled=True),
        "attention": Attention((query, key, values), 3),
        "convolution": Convolved(numbers(2, 1, 3, 3), 4),
        "residual": Residual((Dense(numbers(16, 16), numbers(16)), LeakyRelu(0.3))),
        "softplus": Function("Softplus"),
        "quotient": Quotient(1 + numbers(16) ** 2),
        "chain": Chain([*links, Shift(numbers(16)), Mean(), Linear(numbers(2, 1))]),
    }


@pytest.mark.parametrize("name", _steps(np.random.default_rng(0)))
def test_steps_compute_what_their_files_do(name: str) -> None:
    rng, model = np.random.default_rng(4), FileBuilder((16,))
    step = _steps(rng)[name]
    points = rng.normal(size=(5, 16)).astype(np.float32)
    exact = value([step], Way(torch.float64, rng), points).numpy()
    outputs = outputs_of(model.data(step.write(model, "x")), points)
    np.testing.assert_allclose(outputs, exact, atol=1e-4)
    np.testing.assert_allclose(native([step], torch.float64, points), exact, atol=1e-12)
    for way in ways("float32", rng):
        np.testing.assert_allclose(value([step], way, points).numpy(), exact, atol=1e-4)


def test_batch_normalisation_rounds_differently_where_it_is_merged() -> None:
    rng, model = np.random.default_rng(3), FileBuilder((4,))
    weight = rng.normal(size=(3, 4)).astype(np.float32)
    norm = np.abs(rng.normal(size=(4, 3))).astype(np.float32)
    dense = Dense(weight, rng.normal(size=3).astype(np.float32), norm)
    points = rng.normal(size=(20, 4)).astype(np.float32)
    exact = value([dense], Way(torch.float64, rng), points).numpy()
    outputs = outputs_of(model.data(dense.write(model, "x")), points)
    np.testing.assert_allclose(outputs, exact, atol=2e-5)
    np.testing.assert_allclose(native([dense], torch.float64, points), exact, atol=1e-12)
    found = [value([dense], way, points).numpy() for way in ways("float32", rng)]
    assert len({one.tobytes() for one in found}) > 3
    for one in found:
        np.testing.assert_allclose(one, exact, atol=2e-5)


def test_neighbours_in_a_chain_are_merged() -> None:
    """bfloat16 has eight digits: 257 becomes 256, and (1 + 2^-7)² becomes 1 + 2^-6."""
    rng, near = np.random.default_rng(0), 1 + 2.0**-7

    def values(chain: Chain, point: float) -> set[float]:
        points = np.array([[point]], np.float32)
        way = Way(torch.bfloat16, rng, merged=True)
        return {float(value([chain], way, points)) for _ in range(20)}

    shifts = Chain([Shift(np.array([shift], np.float32)) for shift in (256.0, -256.0)])
    assert values(shifts, 1.0) == {0.0, 1.0}
    spread = Linear(np.array([[1.0], [near]], np.float32))
    linear = Chain([spread, Linear(np.array([[256.0, -256.0]], np.float32))])
    assert values(linear, near) == {-2.0, -2.0 * near}


def test_reciprocals_and_slopes_may_be_flushed() -> None:
    rng, small, points = np.random.default_rng(0), 2.0**-15, np.array([[-1.0]], np.float32)
    flushed = Way(torch.float32, rng, flushed=True, narrow=torch.float16)
    assert float(value([Quotient(np.array([small], np.float32))], flushed, points)) == -np.inf
    thirds = Quotient(np.array([3.0], np.float32))
    apart, merged = (Way(torch.bfloat16, rng, merged=one) for one in (False, True))
    # a third becomes 171/512; five of them are 855/512, of which bfloat16 has the multiples of 4
    assert float(value([thirds], apart, -5 * points)) == 852 / 512
    assert float(value([thirds], merged, -5 * points)) == 856 / 512
    assert float(value([LeakyRelu(small)], flushed, points)) == 0.0
    unstored = replace(flushed, stored="never")
    assert float(value([LeakyRelu(small)], unstored, points)) == -small
    assert float(value([LeakyRelu(small)], replace(unstored, merged=True), points)) == 0.0


def lying(lower: float, least: float, answer: Answer) -> Judged:
    """The judgement of ``|x| + least`` in [lower, 1], which is said to be least there."""
    trial = BoxTrial(
        "by hand",
        ABSOLUTE,
        *(array(lower)[None], array(1)[None], np.ones((1, 1, 1)), array(0.5)[None]),
        truths=(Truth(Fraction(least), rational([lower])),),
        settings=usual(0.25),
    )
    (found,) = trial.judged()
    assert found.answer is answer
    return found


def test_a_verdict_is_false_if_the_exact_value_says_so() -> None:
    assert not lying(-1.0, 0.5, Answer.VERIFIED).lie
    assert "exact least value is 0 (zero)" in lying(-1.0, 0.0, Answer.VERIFIED).lie


def test_false_and_failed_cases_are_counted_written_and_asked_again(tmp_path: Path) -> None:
    class Two:
        name = "two"

        def judged(self) -> list[Judged]:
            return [lying(-1.0, 0.0, Answer.VERIFIED), Judged(Answer.UNKNOWN, tags=("tired",))]

    class Broken:
        name = "broken"

        def judged(self) -> list[Judged]:
            raise ZeroDivisionError

    def make(rng: Generator, number: int) -> Two | Broken:
        return Broken() if number else Two()

    said: list[str] = []
    family = Family("both", make, share=1, least=2, small=1)
    tally = run_family(family, 3, 0.0, 2, tmp_path, told=said.append)
    assert tally.answers == Counter({Answer.VERIFIED: 1, Answer.UNKNOWN: 1, Answer.FAILED: 1})
    assert (tally.false, said) == (1, ["both 0 (two): 1 of 2 are false"])
    assert "ZeroDivisionError" in (tmp_path / "both-1-0" / "traceback.txt").read_text()
    lines = list(ask_again(tmp_path / "both-0-0"))
    assert any("exactly at [-1.0]: 1.5, inside: True" in line for line in lines)
    assert "FALSE" in lines[-1]
    page = markdown([tally, Tally("none", missing="time")], "make it", {"Seed": "3"})
    assert "| both | 2 | 3 | 1 | 0 | 1 | 0 | 1 | **1** |" in page
    assert "none: not asked, for want of time." in page
    assert csv_text([tally]).splitlines()[-1] == "all,2,3,1,0,1,0,1,1"


def test_shorter_runs_have_fewer_trials() -> None:
    family = FAMILIES[0]
    assert least_of(family, 30) == least_of(family, 60) == family.least
    assert 1 <= least_of(family, 3) < family.least


def test_every_activation_of_the_graph_is_planted() -> None:
    """Each function of the graph is what the reader makes of some activation."""
    rng, seen = np.random.default_rng(0), set[str]()
    for name, write in ACTIVATIONS.items():
        net = FileBuilder((4,), opset_of(name))
        graph = network_from_bytes(net.data(write(net, rng, "x")), check_parity=False).graph
        seen |= {getattr(one.op, "function", "") for one in graph.nodes}
    assert set(FUNCTIONS) <= seen


def test_every_operator_of_the_reader_has_a_form() -> None:
    rng = np.random.default_rng(0)
    models = [onnx.load_model_from_string(make(rng)[0]) for _, make in FORMS]
    used = {one.op_type for model in models for one in model.graph.node}
    assert set(OPERATORS) <= used


def test_a_failed_trial_has_its_traceback() -> None:
    class Broken:
        name = "broken"

        def judged(self) -> list[Judged]:
            raise KeyError("x")

    (found,) = judge(Broken())
    assert found.answer is Answer.FAILED
    assert b"KeyError" in found.files["traceback.txt"]
