"""Values that differ so much in size that a rounding decides: nothing false is proved of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from onnx import NodeProto

from tests.onnx_networks import node, onnx_file, singles
from verify_pipeline.certify.run import certify_set
from verify_pipeline.certify.settings import ALL_STAGES, CertifySettings, StageName
from verify_pipeline.data import BoxSet
from verify_pipeline.interop.decide import decide, property_plan
from verify_pipeline.interop.instance_list import Answer
from verify_pipeline.interop.vnnlib import read_vnnlib
from verify_pipeline.onnx import Network, network_from_bytes


def network(nodes: list[NodeProto], weights: dict[str, ArrayLike]) -> Network:
    return network_from_bytes(onnx_file(nodes, ("n", 1), singles(**weights)))


def asked(path: Path, limits: list[tuple[float, float]], outputs: int, broken: str) -> Any:
    lines = [f"(declare-const X_{i} Real)" for i in range(len(limits))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    for i, (low, high) in enumerate(limits):
        lines += [f"(assert (>= X_{i} {low!r}))", f"(assert (<= X_{i} {high!r}))"]
    path.write_text("\n".join([*lines, f"(assert {broken})"]), encoding="utf-8")
    return read_vnnlib(path)


EXP_THEN_ONE = [node("Exp", "x", "e"), node("MatMul", "e", "one", "y")]
HUGE_THEN_RELU = [
    node("MatMul", "x", "huge", "a"),
    node("Relu", "a", "b"),
    node("Sub", "one", "b", "c"),
    node("Relu", "c", "y"),
]
LEAKY = [
    node("Gemm", "x", "w", "b", "a"),
    node("LeakyRelu", "a", "y", alpha=0.5),
]
WIDE: dict[str, tuple[list[NodeProto], dict[str, ArrayLike], list[tuple[float, float]], str]] = {
    "exp then linear": (
        EXP_THEN_ONE,
        {"one": [[1.0]]},
        [(1.6577, 28.68)],
        "(<= Y_0 5.2475)",
    ),
    "relu of a huge product": (
        HUGE_THEN_RELU,
        {"huge": [[1e18]], "one": [[1.0]]},
        [(0.0, 1.0)],
        "(>= Y_0 0.5)",
    ),
    "leaky relu": (
        LEAKY,
        {"w": [[1.0]], "b": [0.0]},
        [(-1e20, 1.0)],
        "(>= Y_0 0.5)",
    ),
    "large and small constants of a term": (
        [node("Identity", "x", "y")],
        {},
        [(-0.7, 1.0)],
        "(<= (+ Y_0 1e20 0.5) 1e20)",
    ),
}


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("stage", [None, *ALL_STAGES[1:]])
def test_the_small_end_of_a_wide_interval_counts(
    name: str, stage: StageName | None, tmp_path: Path
) -> None:
    """Each has a counterexample; no stage may prove that there is none."""
    nodes, weights, limits, broken = WIDE[name]
    net = network(nodes, weights)
    prop = asked(tmp_path / "p.vnnlib", limits, 1, broken)
    plan = property_plan(2.0)
    if stage is not None:
        plan = replace(plan, stages=("clean", stage))
    (found,) = decide(net, [prop], plan)
    assert found.answer is not Answer.UNSAT
    if stage is None:
        assert found.answer is Answer.SAT


def test_constants_of_a_term_are_added_exactly(tmp_path: Path) -> None:
    """``Y + 1e20 + 0.5 <= 1e20`` is ``Y <= -0.5``, in any order."""
    net = network([node("Identity", "x", "y")], {})
    for number, term in enumerate(
        ("(+ Y_0 1e20 0.5)", "(+ 0.5 (+ Y_0 1e20))", "(- (+ Y_0 1e20) -0.5)")
    ):
        prop = asked(tmp_path / f"{number}.vnnlib", [(-0.2, 1.0)], 1, f"(<= {term} 1e20)")
        (found,) = decide(net, [prop], property_plan(2.0))
        assert found.answer is Answer.UNSAT


GATE = [
    node("Mul", "x", "steep", "a"),
    node("Add", "a", "low", "b"),
    node("Relu", "b", "c"),  # above 0 from 0.4 on
]
UNDEFINED = {
    "log beside the outputs": (
        [
            *GATE,
            node("ReduceSum", "c", "axes", "s", keepdims=1),
            node("Sub", "half", "s", "d"),
            node("Log", "d", "l"),
            node("Gemm", "x", "w", "bias", "f"),
            node("Add", "f", "l", "y"),
        ],
        (0.0, 1.0),
    ),
    "exponentials that overflow": (
        [node("Gemm", "x", "steeper", "bias", "f"), node("Exp", "f", "y")],
        (0.0, 2.0),
    ),
    "a logarithm of what underflows": (
        [
            node("Gemm", "x", "apart", "bias", "f"),
            node("Softmax", "f", "p", axis=1),
            node("Log", "p", "y"),
        ],
        (0.0, 1.0),
    ),
    "a mean whose sum overflows": (
        [
            node("Mul", "c4", "x", "g"),
            node("Expand", "g", "shape", "h"),
            node("ReduceMean", "h", "m", axes=[1], keepdims=1),
            node("Mul", "m", "tiny", "t"),
            node("Gemm", "x", "w", "bias", "f"),
            node("Add", "f", "t", "u"),
            node("Identity", "u", "y"),
        ],
        (0.0, 1.0),
    ),
    "factors whose product overflows on the way": (
        [
            node("Mul", "x", "big", "a"),
            node("Mul", "a", "big", "b"),
            node("Mul", "b", "tiny", "c"),
            node("Mul", "c", "tiny", "d"),
            node("Gemm", "d", "w", "bias", "y"),
        ],
        (0.0, 1.0),
    ),
}


@pytest.mark.parametrize("name", UNDEFINED)
def test_what_overflows_or_is_undefined_on_the_way_proves_nothing(
    name: str,
) -> None:
    nodes, (low, high) = UNDEFINED[name]
    weights: dict[str, ArrayLike] = {
        "steep": [[10.0]],
        "low": [[-4.0]],
        "half": [[0.5]],
        "w": [[1.0, 0.0]],
        "steeper": [[100.0, 90.0]],
        "apart": [[0.0, 200.0]] if "underflows" in name else [[1.0, 1.0]],
        "bias": [5.0, 0.0],
        "c4": [[1e38]],
        "tiny": [[1e-30]] if "factors" in name else [[1e-38]],
        "big": [[1e30]],
    }
    whole = {"axes": np.array([1]), "shape": np.array([1, 4])}
    used = {given for one in nodes for given in one.input}
    kept = {name: w for name, w in (singles(**weights) | whole).items() if name in used}
    net = network_from_bytes(onnx_file(nodes, ("n", 1), kept), check_parity=False)
    at_end = net.replay(torch.tensor([[high]]))
    overflows_inside = name == "a mean whose sum overflows"
    assert overflows_inside or not bool(torch.isfinite(at_end).all())
    low_, high_ = torch.tensor([[low]]).double(), torch.tensor([[high]]).double()
    boxes = BoxSet("boxes", "boxes", low_, high_, torch.tensor([0]))
    for stages in (ALL_STAGES, ("clean", "ibp"), ("clean", "crown"), ("clean", "branch-and-bound")):
        settings = CertifySettings(epsilon=0.0, stages=stages, timeout=0.5)
        (record,) = certify_set(net, boxes, settings).records
        assert record.status.value != "verified", stages
