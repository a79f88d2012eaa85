"""Files that answer NaN inside the box: no stage may verify over it, and interop may not either."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import NodeProto

from tests.onnx_networks import Array, node, onnx_file, singles
from verify_pipeline.certify import CertifySettings, certify_set
from verify_pipeline.certify.settings import StageName
from verify_pipeline.data import BoxSet
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.instance_list import Answer
from verify_pipeline.interop.vnnlib import parse_vnnlib
from verify_pipeline.onnx import Network, network_from_bytes
from verify_pipeline.problem import Reason, Status

STAGES: tuple[StageName, ...] = ("ibp", "crown", "alpha-crown", "branch-and-bound")


UNDEFINED: dict[str, tuple[list[NodeProto], dict[str, Array], float, float]] = {
    "log": ([node("Log", "x", "u")], {}, -0.5, 1.0),
    "sqrt": ([node("Sqrt", "x", "u")], {}, -0.5, 1.0),
    "power": ([node("Pow", "x", "p", "u")], singles(p=1.3), -0.5, 1.0),
    "reciprocal": ([node("Reciprocal", "x", "u")], {}, -0.5, 1.0),
    "quotient": (
        [node("Mul", "x", "x", "s"), node("Sqrt", "s", "r"), node("Div", "x", "r", "u")],
        {},
        -0.5,
        1.0,
    ),
    "infinity less infinity": (
        [node("Mul", "x", "k", "h"), node("Exp", "h", "e"), node("Sub", "e", "e", "u")],
        singles(k=100.0),
        0.0,
        1.0,
    ),
    "infinity times zero": (
        [
            node("Mul", "x", "k", "h"),
            node("Exp", "h", "e"),
            node("Sub", "x", "x", "z"),
            node("Mul", "e", "z", "u"),
        ],
        singles(k=100.0),
        0.0,
        1.0,
    ),
}
"""What stands between ``x`` and ``u``, and over which interval."""

SATURATING = {
    "sigmoid": [node("Sigmoid", "u", "v")],
    "tanh": [node("Tanh", "u", "v")],
    "clip": [node("Clip", "u", "zero", "one", "v")],
    "relu": [node("Relu", "u", "a"), node("Clip", "a", "zero", "one", "v")],
    "softmax": [node("Softmax", "u", "v", axis=1)],
    "sine": [node("Sin", "u", "v")],
}


def network_of(undefined: str, saturating: str) -> Network:
    """Outputs of which the first is 5 above the other, wherever the second input is a number."""
    before, weights, _, _ = UNDEFINED[undefined]
    weights = weights | singles(zero=0.0, one=1.0, w=np.ones((2, 2)), b=[5.0, 0.0])
    nodes = [*before, *SATURATING[saturating], node("Gemm", "v", "w", "b", "y")]
    return network_from_bytes(onnx_file(nodes, ("n", 2), weights), check_parity=False)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("saturating", SATURATING)
@pytest.mark.parametrize("undefined", UNDEFINED)
def test_what_is_undefined_in_the_box_is_unknown(
    undefined: str, saturating: str, stage: StageName
) -> None:
    network = network_of(undefined, saturating)
    _, _, lower, upper = UNDEFINED[undefined]
    low = torch.tensor([[lower, 0.6], [0.6, 0.6]], dtype=torch.float64)
    high = torch.tensor([[upper, 0.7], [0.7, 0.7]], dtype=torch.float64)
    boxes = BoxSet("boxes", "boxes", low, high, torch.tensor([0, 0]))
    settings = CertifySettings(epsilon=0.0, stages=("clean", stage), timeout=0.3)
    found, defined = certify_set(network, boxes, settings).records
    assert found.status is Status.UNKNOWN
    # a search by halves goes on until its time is up: parts of the box are proved
    open_for = (Reason.NOT_FINITE, Reason.TIMEOUT, Reason.NOT_DECIDED, Reason.EXHAUSTED)
    assert found.reason in open_for
    if "infinity" not in undefined:
        assert defined.status is Status.VERIFIED


@pytest.mark.parametrize("undefined", UNDEFINED)
def test_a_property_of_what_is_undefined_is_not_unsat(undefined: str) -> None:
    network = network_of(undefined, "sigmoid")
    _, _, lower, upper = UNDEFINED[undefined]
    text = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1"))
    text += f"(assert (>= X_0 {lower})) (assert (<= X_0 {upper}))"
    text += "(assert (>= X_1 0.6)) (assert (<= X_1 0.7)) (assert (<= Y_0 Y_1))"
    (found,) = decide(network, [parse_vnnlib(text)], property_plan(0.5))
    assert found.answer in (Answer.UNKNOWN, Answer.TIMEOUT)


def test_better_bounds_show_that_a_value_is_defined() -> None:
    """``log(1.5 + relu(h) - relu(h))``: intervals leave the domain, linear bounds do not."""
    weights = singles(w=[[1.0, 1.0], [0.5, -1.0]], c=1.5, one=np.ones((2, 2)), b=[5.0, 0.0])
    nodes = [
        node("MatMul", "x", "w", "h"),
        node("Relu", "h", "r"),
        node("Add", "h", "c", "s"),
        node("Sub", "s", "r", "d"),
        node("Add", "d", "r", "e"),
        node("Sub", "e", "h", "g"),
        node("Log", "g", "u"),
        node("Sigmoid", "u", "v"),
        node("Gemm", "v", "one", "b", "y"),
    ]
    network = network_from_bytes(onnx_file(nodes, ("n", 2), weights))
    low = torch.full((1, 2), -1.0, dtype=torch.float64)
    boxes = BoxSet("boxes", "boxes", low, -low, torch.tensor([0]))
    results = {}
    for stage in ("ibp", "crown"):
        settings = CertifySettings(epsilon=0.0, stages=("clean", stage))
        (record,) = certify_set(network, boxes, settings).records
        results[stage] = record.status
    assert results == {"ibp": Status.UNKNOWN, "crown": Status.VERIFIED}
