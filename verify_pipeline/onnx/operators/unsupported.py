"""Alternatives to operators that cannot be read."""

from __future__ import annotations

from onnx import NodeProto

from verify_pipeline.errors import UnsupportedOperatorError

PAGE = "docs/onnx.md"
"""Where the operators stand that are read."""

_JUMPS = "It jumps; write it with Relu, Clip, Min or Max."
_SCORES = "Let the network end in its scores; certification compares them itself."
_UNROLLED = "Unroll it into MatMul, Sigmoid, Tanh, Mul and Add."
_QUANTISED = "Export the network before it is quantised, in float32."
_EVALUATION = "Export the network in evaluation mode: model.eval()."

INSTEAD: dict[str, str] = {
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK", "Hardmax"), _SCORES),
    **dict.fromkeys(("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"), _JUMPS),
    **dict.fromkeys(("Ceil", "Floor", "Round", "Sign", "ThresholdedRelu", "Mod"), _JUMPS),
    **dict.fromkeys(("And", "Not", "Or", "Xor", "IsNaN", "IsInf"), _JUMPS),
    **dict.fromkeys(("GRU", "LSTM", "Loop", "RNN", "Scan"), _UNROLLED),
    **dict.fromkeys(("DequantizeLinear", "DynamicQuantizeLinear", "QuantizeLinear"), _QUANTISED),
    **dict.fromkeys(("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"), _QUANTISED),
    "BatchNormalization": _EVALUATION,
    "Dropout": _EVALUATION,
    "Tan": "Write it as the quotient of Sin and Cos.",
    **dict.fromkeys(("Sinh", "Cosh"), "Write it with Exp."),
    "LRN": "Write it with Mul, AveragePool over the channels, Pow and Div.",
    "LpPool": "Write it with Pow and AveragePool.",
    "GlobalLpPool": "Write it with ReduceL1 or ReduceL2.",
    "ReduceProd": "Write it with Split and Mul.",
    "ScatterElements": "Write it with Concat, or with Where and a constant mask.",
    "ScatterND": "Write it with Concat, or with Where and a constant mask.",
    "If": "Its condition varies; write it with Relu, Min or Max.",
    "Where": "A condition that varies jumps; write it with Relu, Clip, Min or Max.",
}
"""The nearest that can be read."""


def unsupported_operator(node: NodeProto, opset: int, got: str) -> UnsupportedOperatorError:
    """An error that names the node, its operator, the version, and what to write instead."""
    operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    name = node.name or (node.output[0] if node.output else "")
    remedy = INSTEAD.get(node.op_type, "Export the network without it.")
    if node.domain not in ("", "ai.onnx"):
        remedy = "Export the network in operators of ONNX's own set."
    return UnsupportedOperatorError(
        f"ONNX operator {operator} (node {name!r}, operator set {opset})",
        expected=f"an operator, in a form, that {PAGE} lists",
        got=got,
        remedy=remedy,
    )
