"""Readers of ONNX operators, one small function each, by family; importing them fills the table."""

from verify_pipeline.onnx.operators import (
    activations,
    arithmetic,
    products,
    reductions,
    shapes,
    windows,
)
from verify_pipeline.onnx.operators.registry import OPERATORS, Call, reads, unsupported_operator

__all__ = [
    "OPERATORS",
    "Call",
    "activations",
    "arithmetic",
    "products",
    "reads",
    "reductions",
    "shapes",
    "unsupported_operator",
    "windows",
]
