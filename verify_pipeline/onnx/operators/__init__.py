"""Readers of ONNX operators, one small function each, by family; importing them fills the table."""

from verify_pipeline.onnx.operators import (
    activations,
    arithmetic,
    normalisations,
    products,
    reductions,
    selection,
    shapes,
    transposed,
    windows,
)
from verify_pipeline.onnx.operators.registry import (
    OPERATORS,
    Call,
    node_name,
    reads,
)
from verify_pipeline.onnx.operators.unsupported import unsupported_operator

__all__ = [
    "OPERATORS",
    "Call",
    "activations",
    "arithmetic",
    "node_name",
    "normalisations",
    "products",
    "reads",
    "reductions",
    "selection",
    "shapes",
    "transposed",
    "unsupported_operator",
    "windows",
]
