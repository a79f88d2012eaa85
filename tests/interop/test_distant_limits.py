"""Answers about networks and properties whose numbers are of very different size."""

from __future__ import annotations

import pytest
from onnx import NodeProto

from tests.onnx_networks import node, onnx_file, singles
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.instance_list import Answer
from verify_pipeline.interop.vnnlib import parse_vnnlib
from verify_pipeline.onnx import network_from_bytes


def answer(
    nodes: list[NodeProto], weights: dict[str, float], limits: tuple[float, float], what: str
) -> Answer:
    """About a network of one input x within limits, with outputs 0.6 and m."""
    ends = [
        node("Mul", "m", "zero", "nothing"),
        node("Add", "nothing", "level", "constant"),
        node("Concat", "constant", "m", "y", axis=1),
    ]
    text = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "Y_0", "Y_1"))
    text += f"(assert (>= X_0 {limits[0]}))\n(assert (<= X_0 {limits[1]}))\n{what}\n"
    data = onnx_file([*nodes, *ends], ("n", 1), singles(zero=0, level=0.6, **weights))
    (decided,) = decide(network_from_bytes(data), [parse_vnnlib(text, "test")], property_plan(20.0))
    return decided.answer


@pytest.mark.parametrize("limit", [-3.4028234663852886e38, -1e38, -1e30, -1e12])
def test_a_limit_far_below_does_not_swallow_its_input(limit: float) -> None:
    """``max(relu(x - 50), limit)`` reaches 10 > 0.6 at x = 60."""
    nodes = [
        node("Sub", "x", "fifty", "d"),
        node("Relu", "d", "r"),
        node("Max", "r", "limit", "m"),
    ]
    weights = {"fifty": 50, "limit": limit}
    above = "(assert (>= Y_1 Y_0))"
    assert answer(nodes, weights, (40, 60), above) is Answer.SAT
    assert answer(nodes, weights, (40, 50.5), above) is Answer.UNSAT


@pytest.mark.parametrize("limit", [1e12, 3e38])
def test_a_clip_far_away_keeps_small_differences(limit: float) -> None:
    nodes = [node("Clip", "x", "low", "high", "m")]
    weights = {"low": -limit, "high": limit}
    near = "(assert (<= Y_1 0.00001))"
    assert answer(nodes, weights, (0.00002, 1), near) is Answer.UNSAT
    assert answer(nodes, weights, (0.000005, 1), near) is Answer.SAT


@pytest.mark.parametrize(("top", "expected"), [(0.7, Answer.SAT), (0.59, Answer.UNSAT)])
def test_the_greater_of_two_of_different_size(top: float, expected: Answer) -> None:
    """``max(x, -1e30 x)``."""
    nodes = [
        node("Mul", "x", "steep", "deep"),
        node("Max", "x", "deep", "m"),
    ]
    weights = {"steep": -1e30}
    assert answer(nodes, weights, (0.2, top), "(assert (>= Y_1 Y_0))") is expected


@pytest.mark.parametrize(("limit", "expected"), [(0.1, Answer.UNSAT), (0.3, Answer.SAT)])
def test_a_constraint_far_away_does_not_swallow_another(limit: float, expected: Answer) -> None:
    """One of two has to be broken; the other never is, by far. Another pair always is."""
    nodes = [node("Identity", "x", "m")]
    first, second = f"(and (>= Y_0 -{10**30}) (<= Y_1 {limit}))", "(and (>= Y_0 5) (<= Y_1 5))"
    both = f"(assert (or {first} {second}))"
    assert answer(nodes, {}, (0.2, 0.7), both) is expected
